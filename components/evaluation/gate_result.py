"""The gate result, which the Pusher writes to VERDICT.json."""

import dataclasses
import json
import os
import pathlib
from typing import Any

from model.errors import PipelineError

VERDICT = "VERDICT.json"


class GateResultError(PipelineError):
    """A VERDICT.json does not have the format that the Pusher writes."""


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """The gate's requirements for a candidate's mean ELBO, in nats per image."""

    elbo_floor: float  # the ELBO is at least this
    tolerance: float  # the ELBO is at least the baseline's minus this


@dataclasses.dataclass(frozen=True, kw_only=True)
class GateResult:
    """The gate decision on a candidate, and the mean ELBOs in nats per image.

    The attributes are the keys of VERDICT.json.
    """

    refusals: tuple[str, ...]  # a sentence for each reason; empty: blessed
    elbo: float  # the candidate's; may be NaN or infinite
    baseline_elbo: float | None  # None: nothing was served
    estimate: str  # how both ELBOs are estimated, as Estimate.describe returns it
    pushed: str | None  # path or URI of the pushed version; None: nothing was pushed

    @classmethod
    def from_json(cls, text: str | bytes, source: str) -> "GateResult":
        """Returns the gate result that is parsed from the content of a VERDICT.json.

        Args:
          text: the file's content.
          source: the file's path or URI, for messages.

        Raises:
          GateResultError: the content is no JSON object, lacks a key, or has a value of
            the wrong type.
        """
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise GateResultError(
                f"{source} must be JSON ({type(error).__name__}: {error})"
            ) from error
        if not isinstance(content, dict):
            raise GateResultError(f"{source} must be a JSON object, got {content!r}")
        missing = [
            field.name for field in dataclasses.fields(cls) if field.name not in content
        ]
        if missing:
            raise GateResultError(f"{source} must have the key {', '.join(missing)}")
        refusals = content["refusals"]
        if not isinstance(refusals, list) or not all(
            isinstance(refusal, str) for refusal in refusals
        ):
            raise GateResultError(
                f"{source}: refusals must be a list of texts, got {refusals!r}"
            )
        return cls(
            refusals=tuple(refusals),
            elbo=_get_value(content, "elbo", kinds=(int, float), source=source),
            baseline_elbo=_get_value(
                content, "baseline_elbo", kinds=(int, float, type(None)), source=source
            ),
            estimate=_get_value(content, "estimate", kinds=(str,), source=source),
            pushed=_get_value(
                content, "pushed", kinds=(str, type(None)), source=source
            ),
        )

    @classmethod
    def read(cls, folder: str) -> "GateResult":
        """Returns the gate result from VERDICT.json in an output folder of the Pusher.

        Raises:
          OSError: VERDICT.json does not exist or cannot be read.
          GateResultError: it does not have the format that the Pusher writes.
        """
        path = pathlib.Path(folder, VERDICT)
        return cls.from_json(path.read_bytes(), str(path))

    def write(self, folder: str) -> None:
        """Writes VERDICT.json to the output folder of the Pusher."""
        pathlib.Path(folder, VERDICT).write_text(self.to_json(), encoding="utf-8")

    def to_json(self) -> str:
        """Returns the text of VERDICT.json."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    @property
    def is_blessed(self) -> bool:
        """Returns whether the candidate is blessed, that is, has no refusals."""
        return not self.refusals

    @property
    def difference(self) -> float | None:
        """Returns candidate's minus baseline's ELBO, nats; None without a baseline."""
        return None if self.baseline_elbo is None else self.elbo - self.baseline_elbo

    @property
    def pushed_version(self) -> int | None:
        """Returns the number of the pushed version; None if nothing was pushed."""
        return None if self.pushed is None else int(os.path.basename(self.pushed))

    def describe(self) -> str:
        """Returns `BLESSED`, or `REFUSED: ` and the reasons."""
        if self.is_blessed:
            return "BLESSED"
        return f"REFUSED: {'; '.join(self.refusals)}"


def _get_value(content: dict, key: str, *, kinds: tuple[type, ...], source: str) -> Any:
    value = content[key]
    if isinstance(value, bool) or not isinstance(value, kinds):
        names = {str: "a text", float: "a number", type(None): "null"}
        expected = " or ".join(names[kind] for kind in kinds if kind in names)
        raise GateResultError(f"{source}: {key} must be {expected}, got {value!r}")
    return value
