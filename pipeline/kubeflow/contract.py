"""The contract between the compiler and the entrypoint: arguments and parameters."""

import argparse
import dataclasses
import enum
from collections.abc import Mapping

from pipeline.config.loading import PipelineConfig

COMMAND = ("python", "-m", "pipeline.kubeflow.entrypoint")

# package:NAME/FILE is a file of the Python package NAME, wherever it is installed.
PACKAGE = "package:"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunParameter:
    """A setting whose value the user can choose for each run of a compiled pipeline."""

    section: str
    field: str
    # The execution properties that contain the setting: step -> property. The parameter
    # goes to these steps and to their downstream steps. It does not go to other steps,
    # because a new value would then run them again, although it does not affect them.
    properties: Mapping[str, str]
    # Whether the value may be a word: KFP then gets every value as a text, because a
    # parameter has one type.
    is_text: bool = False

    @property
    def name(self) -> str:
        """Returns the parameter's name in KFP."""
        return self.field

    @property
    def setting(self) -> str:
        """Returns the setting's name in `--set`."""
        return f"{self.section}.{self.field}"

    def read(self, config: PipelineConfig) -> int | float | str:
        """Returns the setting's value in this configuration, as KFP gets it."""
        value = getattr(getattr(config, self.section), self.field)
        return str(value) if self.is_text else value


_PROVENANCE = {"Pusher": "provenance", "Report": "provenance"}
_TRAINING = {"Trainer": "custom_config", **_PROVENANCE}
_GATE = {"Evaluator": "eval_config", **_PROVENANCE}

RUN_PARAMETERS = (
    RunParameter(section="train", field="epochs", properties=_TRAINING),
    RunParameter(section="train", field="batch_size", properties=_TRAINING),
    RunParameter(section="train", field="learning_rate", properties=_TRAINING),
    RunParameter(section="train", field="seed", properties=_TRAINING),
    RunParameter(section="gate", field="elbo_floor", properties=_GATE, is_text=True),
    RunParameter(section="gate", field="tolerance", properties=_GATE),
)


def read_run_parameters(config: PipelineConfig) -> dict[str, int | float | str]:
    """Returns the run parameters of a configuration: KFP's name -> value."""
    return {parameter.name: parameter.read(config) for parameter in RUN_PARAMETERS}


# The run's id is different in every run, so KFP never caches a step that gets it. The
# Pusher gets it because `submit --wait` reads the gate result that this run's Pusher
# wrote. The Report gets it because the page shows it.
RUN_ID = "run_id"
RUN_ID_STEPS = ("Pusher", "Report")
RUN_ID_PROPERTIES = {"Report": RUN_ID}  # step -> execution property that holds the id


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """The output and the parameter with the fingerprint of what a step read."""

    output: str  # the step's output artifact
    property: str  # the artifact's property that holds the fingerprint
    parameter: str  # the input parameter of the downstream steps


# The steps that KFP must not cache, because they read state outside KFP: the data and
# the served version. Every downstream step gets the fingerprint as a parameter, which
# makes it a part of that step's cache key.
FINGERPRINTS = {
    "Ingest": Fingerprint(
        output="examples", property="fingerprint", parameter="ingest_fingerprint"
    ),
    "ServedModel": Fingerprint(
        output="model", property="version", parameter="served_model_fingerprint"
    ),
}
FINGERPRINT = "fingerprint"  # the output parameter of the steps in FINGERPRINTS


def list_cache_key_parameters(step: str) -> set[str]:
    """Returns the names of a step's parameters that are only for KFP's cache key.

    They are not execution properties, so the step's TFX executor must not get them. The
    entrypoint puts run parameters into the execution properties that RUN_PARAMETERS
    names.
    """
    names = {parameter.name for parameter in RUN_PARAMETERS}
    names |= {fingerprint.parameter for fingerprint in FINGERPRINTS.values()}
    return names if step in RUN_ID_PROPERTIES else names | {RUN_ID}


class ShownAs(enum.Enum):
    """KFP's types for artifacts that its UI shows."""

    PAGE = "system.HTML"  # the UI shows the file that is at the artifact's URI
    METRICS = "system.Metrics"  # the UI shows every property as a number


SHOWN_OUTPUTS = {"Report": {"page": ShownAs.PAGE, "metrics": ShownAs.METRICS}}


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepArguments:
    """The arguments that the compiler adds to those that TFX compiles for a step."""

    step: str
    outputs: str  # the ComponentOutputsSpec that TFX compiled, in JSON
    key: str | None = None
    config: str | None = None

    def to_args(self) -> list[str]:
        """Returns the arguments for a container's command line."""
        args = ["--step", self.step, "--outputs", self.outputs]
        if self.key is not None:
            args += ["--key", self.key]
        if self.config is not None:
            args += ["--config", self.config]
        return args

    @staticmethod
    def add_options(parser: argparse.ArgumentParser) -> None:
        """Adds the options that parse the arguments that `to_args` returns."""
        parser.add_argument(
            "--step", required=True, help="the step's name in the graph"
        )
        parser.add_argument(
            "--outputs",
            required=True,
            help="the ComponentOutputsSpec that TFX compiled",
        )
        parser.add_argument(
            "--key",
            help="a digest of all settings, only for KFP's cache key",
        )
        parser.add_argument(
            "--config",
            help="the compiled settings, for a step with run parameters",
        )
