"""What the compiler writes into a package and the containers' entrypoint reads."""

import argparse
import dataclasses
import enum
from collections.abc import Mapping

from pipeline.config.loading import PipelineConfig

COMMAND = ("python", "-m", "pipeline.kubeflow.entrypoint")

# package:NAME/FILE is a file of the Python package NAME, wherever the image has it.
PACKAGE = "package:"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunParameter:
    """A setting that can be chosen when a run is submitted."""

    section: str
    field: str
    # The execution properties that hold the setting: step -> property. Their steps, and
    # those downstream of them, get the parameter; no other step does, because a value
    # that changes nothing would still keep it from KFP's cache.
    properties: Mapping[str, str]

    @property
    def name(self) -> str:
        """The parameter's name in KFP."""
        return self.field

    @property
    def setting(self) -> str:
        """The setting's name in `--set`."""
        return f"{self.section}.{self.field}"

    def read(self, config: PipelineConfig) -> int | float:
        """Returns the setting's value in a configuration."""
        return getattr(getattr(config, self.section), self.field)


_PROVENANCE = {"Pusher": "provenance", "Report": "provenance"}
_TRAINING = {"Trainer": "custom_config", **_PROVENANCE}
_GATE = {"Evaluator": "eval_config", **_PROVENANCE}

RUN_PARAMETERS = (
    RunParameter(section="train", field="epochs", properties=_TRAINING),
    RunParameter(section="train", field="batch_size", properties=_TRAINING),
    RunParameter(section="train", field="learning_rate", properties=_TRAINING),
    RunParameter(section="train", field="seed", properties=_TRAINING),
    RunParameter(section="gate", field="elbo_floor", properties=_GATE),
    RunParameter(section="gate", field="tolerance", properties=_GATE),
)


def run_parameters(config: PipelineConfig) -> dict[str, int | float]:
    """Returns the values of the run parameters, by KFP's names, in a configuration."""
    return {parameter.name: parameter.read(config) for parameter in RUN_PARAMETERS}


# The run's id differs in every run, so a step that gets it never comes from KFP's
# cache: `submit --wait` reads the gate's decision from what the Pusher of this run
# wrote, and the report names the run.
RUN_ID = "run_id"
RUN_ID_STEPS = ("Pusher", "Report")
RUN_ID_PROPERTIES = {"Report": RUN_ID}  # step -> execution property that holds the id


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What identifies the state outside KFP that a step found."""

    output: str  # the step's output artifact
    property: str  # the artifact's property that holds the fingerprint
    parameter: str  # the input parameter of the downstream steps


# The steps that KFP must not cache, because they read what KFP does not see. Every
# downstream step gets the fingerprint, which makes it a part of that step's cache key.
FINGERPRINTS = {
    "Ingest": Fingerprint(
        output="examples", property="fingerprint", parameter="ingest_fingerprint"
    ),
    "ServedModel": Fingerprint(
        output="model", property="version", parameter="served_model_fingerprint"
    ),
}
FINGERPRINT = "fingerprint"  # the output parameter of the steps in FINGERPRINTS


def cache_key_parameters(step: str) -> set[str]:
    """Returns the parameters that a step gets and its executor does not know.

    They are in KFP's cache key of the step. Run parameters are also folded into the
    execution properties that RUN_PARAMETERS names.
    """
    names = {parameter.name for parameter in RUN_PARAMETERS}
    names |= {fingerprint.parameter for fingerprint in FINGERPRINTS.values()}
    return names if step in RUN_ID_PROPERTIES else names | {RUN_ID}


class ShownAs(enum.Enum):
    """KFP's types of the artifacts that its UI shows."""

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
        """Returns the arguments as a container's command line has them."""
        args = ["--step", self.step, "--outputs", self.outputs]
        if self.key is not None:
            args += ["--key", self.key]
        if self.config is not None:
            args += ["--config", self.config]
        return args

    @staticmethod
    def add_options(parser: argparse.ArgumentParser) -> None:
        """Adds the options that parse `to_args`."""
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
            help="a digest of all settings: nothing but a part of KFP's cache key",
        )
        parser.add_argument(
            "--config",
            help="the settings that were compiled, for a step with run parameters",
        )
