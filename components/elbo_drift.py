"""The ElboDrift step: stops the run when the served model's ELBO fell on the new data.

DataGate compares counts of labels and pixels, so it cannot see a change that leaves the
counts alike. A model that was trained on the data before gives changed images a lower
ELBO.
"""

import dataclasses
import logging

import numpy as np
from tfx.dsl.component.experimental.annotations import (
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from components import model_scores, served_model
from components.evaluation import elbo_fall
from components.evaluation.elbo_fall import ElboDriftReport, ElboFall, MeanElbo
from components.evaluation.estimate import SPLIT
from components.evaluation.scores import ScoresError
from model.errors import PipelineError

logger = logging.getLogger(__name__)


class ElboDriftError(PipelineError):
    """The served model's mean ELBO fell by more than the threshold."""


@component
def ElboDrift(  # noqa: N802, a component
    baseline: InputArtifact[standard_artifacts.Model],
    scores: InputArtifact[standard_artifacts.Examples],
    report: OutputArtifact[standard_artifacts.ModelEvaluation],
    threshold: Parameter[float],
    accept_drift: Parameter[int],
) -> None:
    """Compares the served model's mean ELBO on this run's test split with its own.

    The model's ELBO on the test split of the run that made it is in its manifest. The
    two are comparable, because the model's signature has its own number of samples and
    seed of the noise, whatever this run's settings are. A rise never stops a run.

    Args:
      baseline: ServedModel's output, with the manifest.
      scores: the scores of this model on this run's test split.
      report: the artifact whose folder gets elbo_drift.json.
      threshold: standard errors of the difference; a larger fall stops the run.
      accept_drift: 1 to only log a fall above the threshold, else 0.

    Raises:
      ElboDriftError: the fall is above the threshold.
      ScoresError: there is a served model, but no scores of it.
    """
    result, message = _compare(
        baseline, scores, threshold=threshold, accept_drift=bool(accept_drift)
    )
    result.write(report.uri)
    if not result.is_too_far:
        return
    if result.accept_drift:
        logger.warning("accepted: %s", message)
        return
    raise ElboDriftError(
        f"{message}; if that is wanted, accept it once with "
        "--set data.accept_drift=true. Look at the data, or review the threshold, "
        "data.elbo_fall"
    )


def _compare(
    baseline: standard_artifacts.Model,
    scores: standard_artifacts.Examples,
    *,
    threshold: float,
    accept_drift: bool,
) -> tuple[ElboDriftReport, str]:
    """Returns the step's report, and a text about a fall above the threshold, or ""."""
    result = ElboDriftReport(
        baseline_version=None,
        fall=None,
        unchecked="",
        threshold=threshold,
        accept_drift=accept_drift,
    )
    if served_model.has_no_version(baseline):
        why = served_model.explain_no_version(baseline)
        return dataclasses.replace(result, unchecked=why), ""
    version = baseline.get_int_custom_property(served_model.VERSION_PROPERTY)
    result = dataclasses.replace(result, baseline_version=version)
    manifest = served_model.read_manifest(baseline)
    scored = model_scores.read_scores(scores)
    if scored is None:
        raise ScoresError(
            f"the scores must be those of version {version}, there are none: run the "
            "step BaselineScores again"
        )
    if why := elbo_fall.find_obstacle(manifest, len(scored.elbo)):
        return dataclasses.replace(result, unchecked=f"version {version}: {why}"), ""
    fall = elbo_fall.measure_fall(manifest, scored.elbo)
    result = dataclasses.replace(result, fall=fall)
    text = describe_fall(fall, version=version, elbo=scored.elbo, threshold=threshold)
    return result, text if result.is_too_far else ""


def describe_fall(
    fall: ElboFall, *, version: int, elbo: np.ndarray, threshold: float
) -> str:
    """Returns a sentence with the numbers of a fall that is above the threshold.

    Args:
      fall: the fall.
      version: the number of the served version.
      elbo: its ELBO of each image of this run's test split, [N], nats.
      threshold: standard errors.
    """
    text = (
        f"the served version {version} had ELBO {fall.before.elbo:.2f} on its "
        f"{SPLIT} split{_describe_images(fall.before)}; on this run's {SPLIT} split "
    )
    if odd := int(np.count_nonzero(~np.isfinite(elbo))):
        return (
            f"{text}the ELBO of {odd:,} of {len(elbo):,} images is not a finite "
            "number, which counts as a fall"
        )
    return (
        f"{text}it has {fall.now.elbo:.2f}{_describe_images(fall.now)}: "
        f"{fall.describe()}, above the threshold of {threshold:g}"
    )


def _describe_images(mean: MeanElbo) -> str:
    return "" if mean.images is None else f" ({mean.images:,} images)"
