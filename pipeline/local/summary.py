"""The summary of a run: its gate result, its measurements, and texts about them."""

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from tfx import types
from tfx.components.util import model_utils

from components import (
    bounds,
    data_gate,
    evaluator,
    infra_check,
    ingest,
    model_scores,
    pusher,
    served_model,
)
from components.datasets import span
from components.evaluation import drift, measure
from components.evaluation.elbo_fall import ElboDriftReport
from components.evaluation.estimate import SPLIT, Bound, Estimate
from components.evaluation.evaluation_result import (
    Evaluation,
    describe_independent_pixels,
)
from components.evaluation.gate_result import GateResult
from components.registry import listing
from components.registry.manifest import Manifest
from pipeline.config.loading import PipelineConfig
from pipeline.runs.recorder import RunRecorder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """A step that completed, and its outputs."""

    name: str
    outputs: Mapping[str, types.Artifact]
    cached: bool
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSummary:
    """A run's gate result, its measurements, and the version served after it."""

    config: PipelineConfig
    steps: Sequence[Step]
    gate: GateResult
    evaluation: Evaluation
    bounds: measure.Measurements  # the candidate's
    baseline_version: int | None
    why_no_baseline: str
    elbo_drift: ElboDriftReport
    served: listing.Version | None

    @property
    def is_newly_pushed(self) -> bool:
        """Returns whether this run pushed a version, rather than a run in the cache."""
        return self.gate.pushed is not None and not _find_step(self, "Pusher").cached


def read(
    config: PipelineConfig, steps: Sequence[Step], *, served: listing.Version | None
) -> RunSummary:
    """Reads the summary of a run from the output files of its steps.

    Args:
      config: the settings of the run.
      steps: the completed steps.
      served: the version that is served after the run.
    """
    outputs = {step.name: step.outputs for step in steps}
    baseline = outputs["ServedModel"]["model"]
    return RunSummary(
        config=config,
        steps=steps,
        gate=GateResult.read(outputs["Pusher"]["pushed_model"].uri),
        evaluation=evaluator.read_evaluation(outputs["Evaluator"]["evaluation"].uri),
        bounds=bounds.read_bounds(outputs["Bounds"]["bounds"].uri),
        baseline_version=baseline.get_int_custom_property(served_model.VERSION_PROPERTY)
        or None,
        why_no_baseline=served_model.explain_no_version(baseline),
        elbo_drift=ElboDriftReport.read(outputs["ElboDrift"]["report"].uri),
        served=served,
    )


def record_summary(recorder: RunRecorder, summary: RunSummary) -> None:
    """Records the ELBOs, the gate decision and the served version of a summary."""
    gate, candidate = summary.gate, summary.evaluation.candidate
    recorder.record_candidate(
        elbo=gate.elbo,
        reconstruction=candidate.reconstruction,
        kl=candidate.kl,
        independent_pixels=summary.evaluation.independent_pixels,
        estimate=gate.estimate,
    )
    if gate.baseline_elbo is not None:
        recorder.record_baseline(
            elbo=gate.baseline_elbo, version=summary.baseline_version
        )
    if (fall := summary.elbo_drift.fall) is not None:
        recorder.record_elbo_fall(fall.nats, standard_errors=fall.standard_errors)
    if summary.is_newly_pushed and gate.pushed_version is not None:
        recorder.record_push(gate.pushed_version)
    elif gate.is_blessed:
        recorder.record_unchanged()
    else:
        recorder.record_refusal(gate.refusals)
    recorder.record_served_version(summary.served.number if summary.served else None)


def record_pushed_version(
    recorder: RunRecorder, number: int, *, manifest: Manifest
) -> None:
    """Records a pushed version and its ELBO, from its manifest.

    The recorder writes this before the run ends, so that it survives SIGKILL.
    """
    estimate = Estimate.from_manifest(manifest)
    recorder.record_candidate(
        elbo=manifest.elbo,
        reconstruction=manifest.reconstruction,
        kl=manifest.kl,
        independent_pixels=manifest.independent_pixels,
        estimate=estimate.describe() if estimate else None,
    )
    recorder.record_push(number)


def describe(step: Step) -> str:
    """Returns a short text about a step's outputs, for its line on the console."""
    describers = {
        "Ingest": _ingest,
        "StatisticsGen": lambda out: "statistics of each split",
        "ImportSchemaGen": lambda out: "the reviewed schema",
        "ExampleValidator": lambda out: "anomalies of each split, if any",
        "DataGate": _data_gate,
        "Transform": lambda out: "images as floats, and their fixed binarization",
        "ElboDrift": _elbo_drift,
        "Trainer": lambda out: f"a model of {_megabytes(out['model'].uri)}",
        "ServedModel": _served_model,
        "BaselineScores": _scores,
        "CandidateScores": _scores,
        "Evaluator": _evaluator,
        "Bounds": _bounds,
        "InfraCheck": _infra_check,
        "Pusher": _pusher,
        "Report": lambda out: f"a page of {_megabytes(out['page'].uri)}",
    }
    return describers[step.name](step.outputs)


def rows(summary: RunSummary, destination: str) -> list[tuple[str, str]]:
    """Returns the names and values of the table at the end of a run.

    Args:
      summary: the summary of the run.
      destination: the folder or URI of the versions.
    """
    config, gate = summary.config.gate, summary.gate
    candidate = summary.evaluation.candidate
    independent_pixels = summary.evaluation.independent_pixels
    rows = [
        ("candidate's ELBO", f"{gate.elbo:.2f} nats per image (higher is better)"),
        ("  estimated by", gate.estimate),
        (
            "  its terms",
            f"reconstruction {candidate.reconstruction:.2f}, KL {candidate.kl:.2f}",
        ),
        ("  compare with", describe_independent_pixels(independent_pixels)),
    ]
    by_label = candidate.elbo_by_label
    if by_label:
        best = max(by_label, key=lambda label: by_label[label])
        worst = min(by_label, key=lambda label: by_label[label])
        rows.append(
            (
                "  by digit",
                f"best {best} ({by_label[best]:.2f}), "
                f"worst {worst} ({by_label[worst]:.2f})",
            )
        )
    measured = summary.bounds
    estimate_of_iwae = Estimate.of_model(
        Bound.IWAE,
        summary.config.model,
        samples=measured.k,
        seed=config.seed,
        images=measured.images,
    )
    rows += [
        ("candidate's IWAE", f"{measured.iwae:.2f} nats per image (decides nothing)"),
        ("  estimated by", estimate_of_iwae.describe()),
        ("active latents", measured.describe_active()),
    ]
    floor = f"{independent_pixels:.2f} (auto: that of independent pixels)"
    if config.elbo_floor != "auto":
        floor = f"{config.elbo_floor:.2f}"
    rows.append(("floor", floor))
    if gate.baseline_elbo is None:
        rows.append(("baseline's ELBO", f"none: {summary.why_no_baseline}"))
    else:
        text = (
            f"{gate.baseline_elbo:.2f} (version {summary.baseline_version}); "
            f"difference {gate.describe_difference()}, "
            f"tolerance {config.tolerance:.2f}"
        )
        if config.class_tolerance is not None:
            text += f", for each label {config.class_tolerance:.2f}"
        rows.append(("baseline's ELBO", text))
    rows.append(("verdict", gate.describe()))
    rows.append(("pushed", _describe_push(summary, destination)))
    rows.append(("seconds per step", _seconds(summary.steps)))
    return rows


def _describe_push(summary: RunSummary, destination: str) -> str:
    if summary.is_newly_pushed:
        return f"version {summary.gate.pushed_version} to {destination}"
    if summary.served is None:
        return "nothing, and nothing is served"
    return f"nothing; version {summary.served.number} is served from {destination}"


def _seconds(steps: Sequence[Step]) -> str:
    cached = [step for step in steps if step.cached]
    if len(cached) == len(steps):
        return "every step came from the cache"
    text = ", ".join(f"{s.name} {s.seconds:.1f}" for s in steps if not s.cached)
    return text + (f"; {len(cached)} steps from the cache" if cached else "")


def _ingest(outputs) -> str:
    counts = json.loads(
        outputs["examples"].get_string_custom_property(ingest.COUNTS_PROPERTY)
    )
    of_each = (f"{count:,} {split}" for split, count in counts.items())
    spans = span.describe_spans(
        span.parse_json(
            outputs["examples"].get_string_custom_property(ingest.SPANS_PROPERTY)
        )
    )
    return f"{', '.join(of_each)} images{f' of {spans}' if spans else ''}"


def _data_gate(outputs) -> str:
    report = data_gate.read_report(outputs["report"].uri)
    version = report["baseline_version"]
    titles = {
        drift.DRIFT: f"drift from version {version}'s data",
        drift.SKEW: f"skew of train and {SPLIT}",
    }
    texts = ["no anomalies", *report["unchecked"]]
    for kind, title in titles.items():
        of_kind = [each for each in report["features"] if each["kind"] == kind]
        if of_kind:
            accepted = kind == drift.DRIFT and report["accepted"]
            texts.append(
                f"{title}{', accepted' if accepted else ''}: "
                f"{_describe_farthest(of_kind)}"
            )
    return "; ".join(texts)


def _describe_farthest(distances: Sequence[Mapping[str, Any]]) -> str:
    """Returns a text with the distance that is the largest share of its threshold.

    Args:
      distances: from DataGate's report.
    """

    def divide(each: Mapping[str, Any]) -> float:
        share = each["distance"] / each["threshold"] if each["threshold"] else math.inf
        return math.inf if math.isnan(share) else share

    farthest = max(distances, key=divide)
    return (
        f"at most {divide(farthest):.0%} of a threshold ({farthest['feature']} "
        f"{farthest['distance']:.4g} of {farthest['threshold']:g})"
    )


def _elbo_drift(outputs) -> str:
    report = ElboDriftReport.read(outputs["report"].uri)
    if report.fall is None:
        return f"no check of the served model's ELBO: {report.unchecked}"
    accepted = ", accepted" if report.is_too_far else ""
    return (
        f"version {report.baseline_version}: {report.fall.describe()} from its own "
        f"{SPLIT} split to this one{accepted}"
    )


def _served_model(outputs) -> str:
    version = outputs["model"].get_int_custom_property(served_model.VERSION_PROPERTY)
    why = served_model.explain_no_version(outputs["model"])
    return f"version {version}" if version else f"none: {why}"


def _scores(outputs) -> str:
    scores = model_scores.read_scores(outputs["scores"])
    if scores is None:
        return "none: there is no baseline"
    elbo = float(scores.elbo.mean())
    return f"ELBO {elbo:.2f} nats per image ({SPLIT})"


def _evaluator(outputs) -> str:
    found = evaluator.read_evaluation(outputs["evaluation"].uri)
    verdict = (
        "refused" if evaluator.list_refusals(outputs["evaluation"].uri) else "blessed"
    )
    return (
        f"{verdict}: ELBO {found.candidate.elbo:.2f} nats per image ({SPLIT}), "
        f"independent pixels: {found.independent_pixels:.2f}"
    )


def _bounds(outputs) -> str:
    found = bounds.read_bounds(outputs["bounds"].uri)
    return (
        f"importance-weighted bound (k = {found.k}) {found.iwae:.2f} nats per image "
        f"({SPLIT}), {found.describe_active()} latents active"
    )


def _infra_check(outputs) -> str:
    blessing = outputs["blessing"]
    if model_utils.is_infra_validated(blessing):
        return "blessed: every signature answers in a fresh process"
    reason = blessing.get_string_custom_property(infra_check.REASON_PROPERTY)
    return f"refused: {reason}"


def _pusher(outputs) -> str:
    version = outputs["pushed_model"].get_string_custom_property(
        pusher.VERSION_PROPERTY
    )
    return f"version {version}" if version else "nothing pushed"


def _megabytes(folder: str) -> str:
    sizes = (
        os.path.getsize(os.path.join(where, name))
        for where, _, names in os.walk(folder)
        for name in names
    )
    return f"{sum(sizes) / 1e6:.1f} MB"


def _find_step(summary: RunSummary, name: str) -> Step:
    return next(step for step in summary.steps if step.name == name)
