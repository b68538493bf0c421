"""The report in words and numbers: what its page says, ready for JSON."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import yaml

from components.evaluation.comparison import Digit, Interval, by_digit, interval
from components.evaluation.measure import ELBO, Measured, estimate
from components.evaluator import Evaluation
from components.reporting.measurements import Scores
from model.config import ModelConfig
from model.training.tensorboard import Curve


def of_verdict(
    found: Evaluation,
    test: Scores,
    refusals: Sequence[str],
    config: Mapping[str, Any],
    baseline_version: int | None,
    why_no_baseline: str,
) -> dict[str, Any]:
    """Returns the verdict: the gate's numbers, and the paired differences.

    Args:
      found: what the Evaluator measured.
      test: each image's ELBOs.
      refusals: why the candidate was refused, a sentence each; none if it was not.
      config: the sections `model` and `gate`.
      baseline_version: the one that was served; None if none was.
      why_no_baseline: in words, if there is none.
    """
    gate, candidate, baseline = config["gate"], found.candidate, found.baseline
    difference = None
    if test.baseline is not None:
        difference = interval(test.elbo - test.baseline)
    binary = ModelConfig(**config["model"]).binary
    return {
        "verdict": "REFUSED" if refusals else "BLESSED",
        "refusals": list(refusals),
        "sentences": _sentences(found, difference, gate, why_no_baseline),
        "elbo": _terms(candidate),
        "baseline": baseline and {**_terms(baseline), "version": baseline_version},
        "why_no_baseline": why_no_baseline,
        "difference": difference and _of_interval(difference),
        "floor": gate["elbo_floor"],
        "tolerance": gate["tolerance"],
        "estimate": estimate(ELBO, gate["samples"], gate["seed"], found.images, binary),
        "digits": [
            _of_digit(digit)
            for digit in by_digit(test.labels, test.elbo, test.baseline)
        ],
    }


def of_bounds(measured: Measured) -> dict[str, Any]:
    """Returns what Bounds measured."""
    return {
        "iwae": _finite(measured.iwae),
        "k": measured.k,
        "active": measured.active(),
    }


def of_training(curves: Mapping[tuple[str, str], Curve]) -> str:
    """Returns a sentence on how the training went; empty if there are no curves."""
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


def of_data(
    counts: Mapping[str, Mapping[int, int]],
    anomalies: Sequence[str],
    drift: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Returns what is known of the data.

    Args:
      counts: how many images of each split have each label.
      anomalies: a line each.
      drift: DataGate's distances; None if it left none.
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


def of_lineage(
    provenance: Mapping[str, Any],
    data_fingerprint: str,
    stack: Mapping[str, str],
    pushed: str,
    manifest: str,
) -> dict[str, Any]:
    """Returns where the model comes from and where it went.

    Args:
      provenance: `run_key`, and `config` by section.
      data_fingerprint: Ingest's.
      stack: the versions of what matters.
      pushed: where to; "" if nowhere.
      manifest: of the version pushed, JSON; "" if none was.
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


def scalars(facts: Mapping[str, Any]) -> dict[str, float]:
    """Returns the numbers that runs are compared by: finite ones alone."""
    baseline, difference = facts["baseline"] or {}, facts["difference"] or {}
    values = {
        **{name: facts["elbo"][name] for name in ("elbo", "reconstruction", "kl")},
        "iwae": facts["bounds"]["iwae"],
        "elbo_floor": facts["floor"],
        "baseline_elbo": baseline.get("elbo"),
        "difference": difference.get("mean"),
        "difference_low": difference.get("low"),
        "difference_high": difference.get("high"),
        "blessed": float(not facts["refusals"]),
        "pushed": float(bool(facts["pushed"])),
    }
    return {
        name: float(value)
        for name, value in values.items()
        if value is not None and math.isfinite(value)
    }


def _sentences(
    found: Evaluation,
    difference: Interval | None,
    gate: Mapping[str, Any],
    why_no_baseline: str,
) -> list[str]:
    elbo, floor = found.candidate.elbo, gate["elbo_floor"]
    side = "above" if elbo >= floor else "below"
    if not math.isfinite(elbo):
        return ["The candidate's mean ELBO is not a finite number."]
    sentences = [
        f"The candidate's mean ELBO over {found.images:,} test images is {elbo:.2f} "
        f"nats, {abs(elbo - floor):.2f} {side} the floor."
    ]
    if found.baseline is None or difference is None:
        sentences.append(f"There is no baseline to compare with: {why_no_baseline}.")
    else:
        if difference.low > 0:
            words = "better than the baseline"
        elif difference.high < 0:
            words = "worse than the baseline"
        else:
            words = "not told apart from the baseline by these images"
        sentences.append(
            f"It is {words}: {difference.mean:+.2f} nats per image, with 95% "
            f"confidence between {difference.low:+.2f} and {difference.high:+.2f}; at "
            f"least {-gate['tolerance']:+.2f} is required."
        )
    return sentences


def _terms(measured) -> dict[str, float | None]:
    return {
        name: _finite(getattr(measured, name))
        for name in ("elbo", "reconstruction", "kl")
    }


def _of_digit(digit: Digit) -> dict[str, Any]:
    return {
        **digit._asdict(),
        "elbo": _finite(digit.elbo),
        "baseline": _finite(digit.baseline),
        "difference": digit.difference and _of_interval(digit.difference),
    }


def _of_interval(values: Interval) -> dict[str, float | None]:
    return {name: _finite(value) for name, value in values._asdict().items()}


def _finite(value: float | None) -> float | None:
    """Returns a number that JSON knows, or None."""
    return value if value is not None and math.isfinite(value) else None
