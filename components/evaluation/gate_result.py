"""The gate's decision on a candidate: what the Pusher leaves in VERDICT.json."""

import dataclasses
import json
import os
import pathlib
from typing import Any

from model.errors import PipelineError

VERDICT = "VERDICT.json"


class GateResultError(PipelineError):
    """A VERDICT.json is not one that a Pusher wrote."""


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """What the gate requires of a candidate's mean ELBO, in nats per image."""

    elbo_floor: float  # at least this
    tolerance: float  # the baseline's ELBO less this, at least


@dataclasses.dataclass(frozen=True, kw_only=True)
class GateResult:
    """The gate's decision on a candidate, and the ELBOs behind it, in nats per image.

    The attributes are the keys of VERDICT.json.
    """

    refusals: tuple[str, ...]  # a sentence for each reason; empty: blessed
    elbo: float  # the candidate's; NaN or infinite if it was measured so
    baseline_elbo: float | None  # None: nothing was served
    estimate: str  # how both are estimated: in words, as its release writes them
    pushed: str | None  # path or URI of the version that was pushed

    @classmethod
    def from_json(cls, text: str | bytes, source: str) -> "GateResult":
        """Returns the gate result that a VERDICT.json holds.

        Args:
          text: the file's.
          source: the file's path or URI, for messages.

        Raises:
          GateResultError: it is no JSON object, lacks a key, or a value has the wrong
            type.
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
            elbo=_get(content, "elbo", kinds=(int, float), source=source),
            baseline_elbo=_get(
                content, "baseline_elbo", kinds=(int, float, type(None)), source=source
            ),
            estimate=_get(content, "estimate", kinds=(str,), source=source),
            pushed=_get(content, "pushed", kinds=(str, type(None)), source=source),
        )

    @classmethod
    def read(cls, folder: str) -> "GateResult":
        """Returns the gate result in the output folder of a Pusher.

        Raises:
          OSError: there is no VERDICT.json, or it cannot be read.
          GateResultError: it is not one that a Pusher wrote.
        """
        path = pathlib.Path(folder, VERDICT)
        return cls.from_json(path.read_bytes(), str(path))

    def write(self, folder: str) -> None:
        """Writes VERDICT.json to the output folder of a Pusher."""
        pathlib.Path(folder, VERDICT).write_text(self.to_json(), encoding="utf-8")

    def to_json(self) -> str:
        """Returns the text of VERDICT.json."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    @property
    def is_blessed(self) -> bool:
        """Whether nothing refused the candidate."""
        return not self.refusals

    @property
    def difference(self) -> float | None:
        """The candidate's ELBO less the baseline's; None without a baseline."""
        return None if self.baseline_elbo is None else self.elbo - self.baseline_elbo

    @property
    def pushed_version(self) -> int | None:
        """The number of the version that was pushed; None if none was."""
        return None if self.pushed is None else int(os.path.basename(self.pushed))

    def describe(self) -> str:
        """Returns the decision in words, with the reasons of a refusal."""
        if self.is_blessed:
            return "BLESSED"
        return f"REFUSED: {'; '.join(self.refusals)}"


def _get(content: dict, key: str, *, kinds: tuple[type, ...], source: str) -> Any:
    value = content[key]
    if isinstance(value, bool) or not isinstance(value, kinds):
        names = {str: "a text", float: "a number", type(None): "null"}
        expected = " or ".join(names[kind] for kind in kinds if kind in names)
        raise GateResultError(f"{source}: {key} must be {expected}, got {value!r}")
    return value
