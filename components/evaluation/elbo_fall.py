"""The fall of the served model's mean ELBO, from its own test split to this run's."""

import dataclasses
import json
import math
import pathlib

import numpy as np

from components.evaluation.comparison import Moments
from components.registry.manifest import Manifest
from model.files import regular_files

# With fewer images, the standard error is too uncertain: ELBOs have a long lower tail.
MIN_IMAGES = 100

_FILE = "elbo_drift.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeanElbo:
    """A model's mean ELBO over images, in nats per image; it may be NaN or infinite."""

    elbo: float
    standard_error: float  # of the mean
    images: int | None  # None: the number is not known


@dataclasses.dataclass(frozen=True, kw_only=True)
class ElboFall:
    """The served model's mean ELBO on its own test split, and on this run's."""

    before: MeanElbo
    now: MeanElbo

    @property
    def nats(self) -> float:
        """Returns the fall in nats per image; a rise is negative."""
        return self.before.elbo - self.now.elbo

    @property
    def standard_errors(self) -> float:
        """Returns the fall in standard errors of the difference of the two means.

        The two splits are taken as independent. If they share images, the difference
        varies less, and the true number is larger.
        """
        error = math.hypot(self.before.standard_error, self.now.standard_error)
        if error == 0.0 and self.nats != 0.0:
            return math.copysign(math.inf, self.nats)
        return self.nats if error == 0.0 else self.nats / error

    def is_above(self, threshold: float) -> bool:
        """Returns whether the fall exceeds a number of standard errors; NaN does."""
        return not self.standard_errors <= threshold

    def describe(self) -> str:
        """Returns the fall as text, such as `a fall of 12.84 nats, 45.2 standard ...`.

        A fall below 0 is a rise.
        """
        what = "rise" if round(self.nats, 2) < 0 else "fall"
        return (
            f"a {what} of {abs(self.nats):.2f} nats, {abs(self.standard_errors):.1f} "
            "standard errors"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ElboDriftReport:
    """The result of ElboDrift; the attributes are the keys of elbo_drift.json."""

    baseline_version: int | None  # None: nothing was served
    fall: ElboFall | None  # None: it was not measured
    unchecked: str  # why it was not measured; "" if it was
    threshold: float  # standard errors
    accept_drift: bool  # whether a fall above the threshold does not stop the run

    @property
    def is_too_far(self) -> bool:
        """Returns whether the fall was measured and is above the threshold."""
        return self.fall is not None and self.fall.is_above(self.threshold)

    def write(self, folder: str) -> None:
        """Writes elbo_drift.json to a folder."""
        text = json.dumps(dataclasses.asdict(self), indent=2)
        pathlib.Path(folder, _FILE).write_text(text, encoding="utf-8")

    @classmethod
    def read(cls, folder: str) -> "ElboDriftReport":
        """Reads elbo_drift.json from a folder that `write` wrote to."""
        content = json.loads(regular_files.read_text(pathlib.Path(folder, _FILE)))
        if content["fall"] is not None:
            content["fall"] = ElboFall(
                **{key: MeanElbo(**mean) for key, mean in content["fall"].items()}
            )
        return cls(**content)


def compute_mean(elbo: np.ndarray) -> MeanElbo:
    """Returns the mean of ELBOs with its standard error.

    The standard error of a single image's ELBO is infinite.

    Args:
      elbo: each image's ELBO, [N], nats.
    """
    moments = Moments.from_values(elbo)
    return MeanElbo(
        elbo=moments.mean,
        standard_error=moments.standard_error,
        images=moments.count,
    )


def find_obstacle(manifest: Manifest, images: int) -> str:
    """Returns why `measure_fall` cannot be used; "" if it can.

    Args:
      manifest: the served version's manifest.
      images: the number of images in this run's test split.
    """
    if manifest.elbo is None:
        return "its manifest has no ELBO"
    if manifest.images is None and manifest.standard_error is None:
        return "its manifest has neither the ELBO's standard error nor the images"
    if manifest.images is not None and manifest.images < MIN_IMAGES:
        return f"its test split had {manifest.images} images, fewer than {MIN_IMAGES}"
    if images < MIN_IMAGES:
        return f"the test split has {images} images, fewer than {MIN_IMAGES}"
    return ""


def measure_fall(manifest: Manifest, elbo: np.ndarray) -> ElboFall:
    """Returns the fall of the served model's mean ELBO.

    Manifests of older releases have no standard error. Then it is estimated from the
    number of images in the manifest and the standard deviation on this run's split.

    Args:
      manifest: the served version's manifest.
      elbo: the ELBO that the served model has for each image of this run's test split,
        [N], nats.

    Raises:
      ValueError: `find_obstacle` has a reason why the fall cannot be measured.
    """
    obstacle = find_obstacle(manifest, len(elbo))
    if manifest.elbo is None or obstacle:
        raise ValueError(f"the fall of the ELBO cannot be measured: {obstacle}")
    now = compute_mean(elbo)
    error = manifest.standard_error
    if error is None:
        error = now.standard_error * math.sqrt(
            len(elbo) / (manifest.images or math.nan)
        )
    before = MeanElbo(elbo=manifest.elbo, standard_error=error, images=manifest.images)
    return ElboFall(before=before, now=now)
