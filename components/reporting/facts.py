"""The facts of the report: the texts and numbers on its page, as JSON values."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import yaml

from components.evaluation.comparison import (
    DigitComparison,
    Interval,
    compare_by_digit,
    compute_interval,
)
from components.evaluation.elbo_fall import ElboDriftReport, MeanElbo
from components.evaluation.evaluation_result import Evaluation, format_confidence
from components.evaluation.gate_result import GateResult, Thresholds
from components.evaluation.measure import Measurements
from components.reporting.measurements import ScoredImages
from model.training.tensorboard import Curve


def describe_gate(
    found: Evaluation,
    test: ScoredImages,
    *,
    gate: GateResult,
    thresholds: Thresholds,
    baseline_version: int | None,
    why_no_baseline: str,
) -> dict[str, Any]:
    """Returns the facts about the gate: decision, ELBOs, thresholds and differences.

    Args:
      found: the Evaluator's measurements.
      test: the ELBOs of each image of the test split.
      gate: the gate result.
      thresholds: the gate's thresholds.
      baseline_version: the version that is the baseline; None without a baseline.
      why_no_baseline: the reason why there is no baseline, for the page.
    """
    candidate, baseline = found.candidate, found.baseline
    difference = None
    if test.baseline is not None:
        difference = compute_interval(test.elbo - test.baseline)
    lower_end = gate.difference.lower_end if gate.difference else None
    sentences = _write_sentences(
        found,
        difference,
        lower_end=lower_end,
        thresholds=thresholds,
        why_no_baseline=why_no_baseline,
    )
    return {
        "verdict": "BLESSED" if gate.is_blessed else "REFUSED",
        "refusals": list(gate.refusals),
        "sentences": sentences,
        "elbo": _describe_terms(candidate),
        "baseline": baseline
        and {**_describe_terms(baseline), "version": baseline_version},
        "why_no_baseline": why_no_baseline,
        "difference": difference and _describe_interval(difference),
        "independent_pixels": found.independent_pixels,
        "floor": thresholds.find_floor(found.independent_pixels),
        "is_floor_auto": thresholds.elbo_floor == "auto",
        "tolerance": thresholds.tolerance,
        "confidence": format_confidence(thresholds.confidence),
        "lower_end": _drop_non_finite(lower_end),
        "class_tolerance": thresholds.class_tolerance,
        "estimate": gate.estimate,
        "digits": [
            _describe_digit(digit)
            for digit in compare_by_digit(
                test.labels, test.elbo, baseline=test.baseline
            )
        ],
    }


def describe_bounds(measured: Measurements) -> dict[str, Any]:
    """Returns the importance-weighted bound, its k and the active latents as facts."""
    return {
        "iwae": _drop_non_finite(measured.iwae),
        "k": measured.k,
        "active": measured.describe_active(),
    }


def describe_training(curves: Mapping[tuple[str, str], Curve]) -> str:
    """Returns a sentence with epochs, speed and best ELBO; "" without curves.

    Args:
      curves: the curves by split and metric; a point is an epoch and a value.
    """
    speed = curves.get(("train", "images_per_second"))
    elbo = curves.get(("eval", "elbo"))
    if not speed or not elbo:
        return ""
    best_epoch, best = max(elbo, key=lambda point: point[1])
    mean = np.mean([value for _, value in speed])
    return (
        f"{len(elbo)} epochs at {mean:,.0f} images/s; the best ELBO on the eval split, "
        f"{best:.2f} nats per image, came after epoch {best_epoch}."
    )


def describe_data(
    counts: Mapping[str, Mapping[int, int]],
    anomalies: Sequence[str],
    *,
    drift: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Returns the facts about the data: images by split and label, anomalies, drift.

    Args:
      counts: the number of images for each split and label.
      anomalies: a description of each anomaly.
      drift: the content of DataGate's drift.json; None if there is none.
    """
    labels = sorted({label for of_split in counts.values() for label in of_split})
    return {
        "labels": labels,
        "splits": [
            {
                "name": split,
                "images": sum(of_split.values()),
                "by_label": [of_split.get(label, 0) for label in labels],
            }
            for split, of_split in counts.items()
        ],
        "anomalies": list(anomalies),
        "drift": drift,
    }


def describe_elbo_drift(report: ElboDriftReport) -> dict[str, Any]:
    """Returns the fall of the served model's ELBO, or why it was not measured."""
    fall = report.fall
    return {
        "version": report.baseline_version,
        "unchecked": report.unchecked,
        "before": fall and _describe_mean(fall.before),
        "now": fall and _describe_mean(fall.now),
        "fall": fall and _drop_non_finite(fall.nats),
        "standard_errors": fall and _drop_non_finite(fall.standard_errors),
        "words": fall and fall.describe(),
        "threshold": report.threshold,
        "accepted": report.is_too_far,  # else the run would have been stopped
    }


def describe_lineage(
    provenance: Mapping[str, Any],
    data_fingerprint: str,
    *,
    stack: Mapping[str, str],
    pushed: str,
    manifest: str,
) -> dict[str, Any]:
    """Returns the facts about the lineage: settings, data, stack and pushed version.

    Args:
      provenance: the run key and the settings, under `run_key` and `config`.
      data_fingerprint: the fingerprint of the data that Ingest read.
      stack: the versions of Python and of the packages that affect a model.
      pushed: path or URI of the pushed version; "": nothing was pushed.
      manifest: the pushed version's manifest in JSON; "": nothing was pushed.
    """
    return {
        "model_name": provenance["config"]["push"]["model_name"],
        "dataset": provenance["config"]["data"]["dataset"],
        "run_key": provenance["run_key"],
        "config": yaml.safe_dump(provenance["config"], sort_keys=False),
        "data_fingerprint": data_fingerprint,
        "stack": dict(stack),
        "pushed": pushed,
        "manifest": manifest,
    }


def list_scalars(facts: Mapping[str, Any]) -> dict[str, float]:
    """Returns the metrics by which people compare runs, if they are finite.

    Args:
      facts: all facts of the report.
    """
    baseline, difference = facts["baseline"] or {}, facts["difference"] or {}
    values = {
        **{name: facts["elbo"][name] for name in ("elbo", "reconstruction", "kl")},
        "iwae": facts["bounds"]["iwae"],
        "independent_pixels": facts["independent_pixels"],
        "elbo_floor": facts["floor"],
        "baseline_elbo": baseline.get("elbo"),
        "difference": difference.get("mean"),
        "difference_low": difference.get("low"),
        "difference_high": difference.get("high"),
        "difference_lower_end": facts["lower_end"],
        "elbo_fall": facts["elbo_drift"]["fall"],
        "elbo_fall_standard_errors": facts["elbo_drift"]["standard_errors"],
        "blessed": float(not facts["refusals"]),
        "pushed": float(bool(facts["pushed"])),
    }
    return {
        name: float(value)
        for name, value in values.items()
        if value is not None and math.isfinite(value)
    }


def _write_sentences(
    found: Evaluation,
    difference: Interval | None,
    *,
    lower_end: float | None,
    thresholds: Thresholds,
    why_no_baseline: str,
) -> list[str]:
    elbo = found.candidate.elbo
    floor = thresholds.find_floor(found.independent_pixels)
    side = "above" if elbo >= floor else "below"
    what = "the floor"
    if thresholds.elbo_floor == "auto":
        what = "the log-likelihood of independent pixels, which is the floor"
    if not math.isfinite(elbo):
        return ["The candidate's mean ELBO is not a finite number."]
    sentences = [
        f"The candidate's mean ELBO over {found.images:,} test images is {elbo:.2f} "
        f"nats, {abs(elbo - floor):.2f} {side} {what}."
    ]
    if found.baseline is None or difference is None:
        sentences.append(f"There is no baseline to compare with: {why_no_baseline}.")
    else:
        if difference.low > 0:
            words = "better than the baseline"
        elif difference.high < 0:
            words = "worse than the baseline"
        else:
            words = "not distinguishable from the baseline with these images"
        sentences.append(
            f"It is {words}: {difference.mean:+.2f} nats per image, with 95% "
            f"confidence between {difference.low:+.2f} and {difference.high:+.2f}."
        )
        required = (
            f"The gate requires, with {format_confidence(thresholds.confidence)} "
            f"confidence, at least {-thresholds.tolerance:+.2f}"
        )
        if lower_end is not None:
            required += f", and found at least {lower_end:+.2f}"
        sentences.append(f"{required}.")
    return sentences


def _describe_terms(measured) -> dict[str, float | None]:
    return {
        name: _drop_non_finite(getattr(measured, name))
        for name in ("elbo", "reconstruction", "kl")
    }


def _describe_mean(mean: MeanElbo) -> dict[str, float | int | None]:
    return {
        "elbo": _drop_non_finite(mean.elbo),
        "standard_error": _drop_non_finite(mean.standard_error),
        "images": mean.images,
    }


def _describe_digit(digit: DigitComparison) -> dict[str, Any]:
    return {
        **digit._asdict(),
        "elbo": _drop_non_finite(digit.elbo),
        "baseline": _drop_non_finite(digit.baseline),
        "difference": digit.difference and _describe_interval(digit.difference),
    }


def _describe_interval(values: Interval) -> dict[str, float | None]:
    return {name: _drop_non_finite(value) for name, value in values._asdict().items()}


def _drop_non_finite(value: float | None) -> float | None:
    """Returns the value if it is finite, else None, because JSON has no NaN."""
    return value if value is not None and math.isfinite(value) else None
