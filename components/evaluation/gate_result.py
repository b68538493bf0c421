"""The gate result, which the Pusher writes to VERDICT.json."""

import dataclasses
import json
import os
import pathlib
from typing import Any, Literal

from components.evaluation.evaluation_result import Difference
from model.errors import PipelineError
from model.files import regular_files

VERDICT = "VERDICT.json"


class GateResultError(PipelineError):
    """A VERDICT.json does not have the format that the Pusher writes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Thresholds:
    """The gate's requirements for a candidate's mean ELBO, in nats per image."""

    # The ELBO is at least this; auto: the ELBO is above that of independent pixels.
    elbo_floor: float | Literal["auto"]
    # The lower end of the difference to the baseline, one-sided at `confidence`, is at
    # least minus this.
    tolerance: float
    confidence: float
    class_tolerance: float | None  # the same for each label; None: no threshold

    def find_floor(self, independent_pixels: float) -> float:
        """Returns the floor as a number, which `auto` is not.

        Args:
          independent_pixels: the log-likelihood of independent pixels, nats per image.
        """
        return independent_pixels if self.elbo_floor == "auto" else self.elbo_floor


@dataclasses.dataclass(frozen=True, kw_only=True)
class GateResult:
    """The gate decision on a candidate, and the mean ELBOs in nats per image.

    The attributes are the keys of VERDICT.json. A key whose attribute has a default may
    be missing: earlier releases did not write it.
    """

    refusals: tuple[str, ...]  # a sentence for each reason; empty: blessed
    elbo: float  # the candidate's; may be NaN or infinite
    baseline_elbo: float | None  # None: nothing was served
    estimate: str  # how both ELBOs are estimated, as Estimate.describe returns it
    pushed: str | None  # path or URI of the pushed version; None: nothing was pushed
    # None: nothing was served, or an earlier release wrote the file.
    difference: Difference | None = None
    # The mean log-likelihood under independent pixels, for comparison with the ELBO;
    # None: an older release wrote the file.
    independent_pixels: float | None = None

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
            field.name
            for field in dataclasses.fields(cls)
            if field.name not in content and field.default is dataclasses.MISSING
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
            difference=_read_difference(content.get("difference"), source),
            independent_pixels=_get_value(
                {"independent_pixels": None, **content},
                "independent_pixels",
                kinds=(int, float, type(None)),
                source=source,
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
        return cls.from_json(regular_files.read_bytes(path), str(path))

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

    def describe_difference(self) -> str:
        """Returns a text for people with the difference to the baseline; "" without."""
        if self.baseline_elbo is None:
            return ""
        if self.difference is None:
            return f"{self.elbo - self.baseline_elbo:+.2f}"
        return self.difference.describe()

    @property
    def pushed_version(self) -> int | None:
        """Returns the number of the pushed version; None if nothing was pushed."""
        return None if self.pushed is None else int(os.path.basename(self.pushed))

    def describe(self) -> str:
        """Returns `BLESSED`, or `REFUSED: ` and the reasons."""
        if self.is_blessed:
            return "BLESSED"
        return f"REFUSED: {'; '.join(self.refusals)}"


def _read_difference(content: Any, source: str) -> Difference | None:
    """Returns the difference that is parsed from its value in VERDICT.json."""
    if content is None:
        return None
    names = [field.name for field in dataclasses.fields(Difference)]
    if not isinstance(content, dict) or not set(names) <= set(content):
        raise GateResultError(
            f"{source}: difference must be null or an object with the keys "
            f"{', '.join(names)}, got {content!r}"
        )
    of_difference = f"{source}: difference"
    images = _get_value(content, "images", kinds=(int,), source=of_difference)
    mean, standard_error, lower_end, confidence = (
        float(_get_value(content, name, kinds=(int, float), source=of_difference))
        for name in ("mean", "standard_error", "lower_end", "confidence")
    )
    return Difference(
        images=images,
        mean=mean,
        standard_error=standard_error,
        lower_end=lower_end,
        confidence=confidence,
    )


def _get_value(content: dict, key: str, *, kinds: tuple[type, ...], source: str) -> Any:
    value = content[key]
    if isinstance(value, bool) or not isinstance(value, kinds):
        names = {
            str: "a text",
            int: "an integer",
            float: "a number",
            type(None): "null",
        }
        if float in kinds:
            del names[int]  # an integer is a number
        expected = " or ".join(names[kind] for kind in kinds if kind in names)
        raise GateResultError(f"{source}: {key} must be {expected}, got {value!r}")
    return value
