"""What came of a run, in words and numbers."""

import dataclasses
import json
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
    pusher,
    served_model,
)
from components.datasets import prepare_spans
from components.evaluation import drift, measure
from components.registry import listing
from pipeline.config.loading import PipelineConfig, from_dict
from pipeline.runs.recorder import RunRecorder


@dataclasses.dataclass(frozen=True)
class Step:
    """A step that ended well."""

    name: str
    outputs: Mapping[str, types.Artifact]
    cached: bool
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a run."""

    config: PipelineConfig
    steps: Sequence[Step]
    evaluation: evaluator.Evaluation
    bounds: measure.Measured  # of the candidate
    baseline_version: int | None
    why_no_baseline: str
    refusals: Sequence[str]  # why the gate refused; none if it blessed
    pushed_version: int | None  # by this run, or by the one that it repeats
    served: listing.Version | None

    @property
    def newly_pushed(self) -> bool:
        """Whether this very run pushed a version."""
        return self.pushed_version is not None and not _named(self, "Pusher").cached


def read(
    config: PipelineConfig, steps: Sequence[Step], served: listing.Version | None
) -> Outcome:
    """Reads the outcome from the steps' outputs."""
    outputs = {step.name: step.outputs for step in steps}
    evaluation = outputs["Evaluator"]["evaluation"].uri
    baseline = outputs["ServedModel"]["model"]
    pushed = outputs["Pusher"]["pushed_model"]
    return Outcome(
        config=config,
        steps=steps,
        evaluation=evaluator.read_evaluation(evaluation),
        bounds=bounds.read_bounds(outputs["Bounds"]["bounds"].uri),
        baseline_version=baseline.get_int_custom_property(served_model.VERSION_PROPERTY)
        or None,
        why_no_baseline=served_model.why_none(baseline),
        refusals=pusher.refusals(evaluation, outputs["InfraCheck"]["blessing"], pushed),
        pushed_version=int(
            pushed.get_string_custom_property(pusher.VERSION_PROPERTY) or 0
        )
        or None,
        served=served,
    )


def fill(recorder: RunRecorder, outcome: Outcome) -> None:
    """Records the outcome of a run."""
    candidate, baseline = outcome.evaluation.candidate, outcome.evaluation.baseline
    recorder.record_candidate(
        elbo=candidate.elbo,
        reconstruction=candidate.reconstruction,
        kl=candidate.kl,
        estimate=_estimate(outcome.config, outcome.evaluation.images),
    )
    if baseline is not None:
        recorder.record_baseline(elbo=baseline.elbo, version=outcome.baseline_version)
    if outcome.newly_pushed and outcome.pushed_version is not None:
        recorder.record_push(outcome.pushed_version)
    elif outcome.refusals:
        recorder.record_refusal(outcome.refusals)
    else:
        recorder.record_unchanged()
    recorder.record_served_version(outcome.served.number if outcome.served else None)


def fill_pushed(
    recorder: RunRecorder, number: int, manifest: Mapping[str, Any]
) -> None:
    """Records a version that a run pushed, before its outcome is read."""
    elbo = manifest["elbo"]
    recorder.record_candidate(
        elbo=elbo["elbo"],
        reconstruction=elbo["reconstruction"],
        kl=elbo["kl"],
        estimate=_estimate(from_dict(manifest["config"]), elbo["images"]),
    )
    recorder.record_push(number)


def describe(step: Step) -> str:
    """Returns what came out of a step, in a few words; empty if there is no saying."""
    describers = {
        "Ingest": _ingest,
        "StatisticsGen": lambda out: "statistics of each split",
        "ImportSchemaGen": lambda out: "the reviewed schema",
        "ExampleValidator": lambda out: "anomalies of each split, if any",
        "DataGate": _data_gate,
        "Transform": lambda out: "images as floats, and their fixed binarization",
        "Trainer": lambda out: f"a model of {_megabytes(out['model'].uri)}",
        "ServedModel": _served_model,
        "Evaluator": _evaluator,
        "Bounds": _bounds,
        "InfraCheck": _infra_check,
        "Pusher": _pusher,
        "Report": lambda out: f"a page of {_megabytes(out['page'].uri)}",
    }
    return describers[step.name](step.outputs)


def rows(outcome: Outcome, destination: str) -> list[tuple[str, str]]:
    """Returns the closing table's names and values."""
    config, found = outcome.config.gate, outcome.evaluation
    candidate, baseline = found.candidate, found.baseline
    binary = outcome.config.model.binary
    rows = [
        ("candidate's ELBO", f"{candidate.elbo:.2f} nats per image (higher is better)"),
        ("  estimated by", _estimate(outcome.config, found.images)),
        (
            "  its terms",
            f"reconstruction {candidate.reconstruction:.2f}, KL {candidate.kl:.2f}",
        ),
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
    measured = outcome.bounds
    rows += [
        ("candidate's IWAE", f"{measured.iwae:.2f} nats per image (decides nothing)"),
        (
            "  estimated by",
            measure.estimate(
                measure.IWAE, measured.k, config.seed, measured.images, binary
            ),
        ),
        ("active latents", measured.active()),
    ]
    rows.append(("floor", f"{config.elbo_floor:.2f}"))
    if baseline is None:
        rows.append(("baseline's ELBO", f"none: {outcome.why_no_baseline}"))
    else:
        rows.append(
            (
                "baseline's ELBO",
                f"{baseline.elbo:.2f} (version {outcome.baseline_version}); "
                f"difference {candidate.elbo - baseline.elbo:+.2f}, tolerance "
                f"{config.tolerance:.2f}",
            )
        )
    rows.append(("verdict", _verdict(outcome)))
    rows.append(("pushed", _pushed(outcome, destination)))
    rows.append(("seconds per step", _seconds(outcome.steps)))
    return rows


def _estimate(config: PipelineConfig, images: int) -> str:
    return measure.estimate(
        *(measure.ELBO, config.gate.samples, config.gate.seed),
        *(images, config.model.binary),
    )


def _verdict(outcome: Outcome) -> str:
    if outcome.refusals:
        return "REFUSED: " + "; ".join(outcome.refusals)
    return "BLESSED"


def _pushed(outcome: Outcome, destination: str) -> str:
    if outcome.newly_pushed:
        return f"version {outcome.pushed_version} to {destination}"
    if outcome.served is None:
        return "nothing, and nothing is served"
    return f"nothing; version {outcome.served.number} is served from {destination}"


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
    spans = prepare_spans.listed(
        outputs["examples"].get_string_custom_property(ingest.SPANS_PROPERTY)
    )
    return f"{', '.join(of_each)} images{f' of {spans}' if spans else ''}"


def _data_gate(outputs) -> str:
    report = data_gate.read_report(outputs["report"].uri)
    version = report["baseline_version"]
    titles = {
        drift.DRIFT: f"drift from version {version}'s data",
        drift.SKEW: f"skew of train and {measure.SPLIT}",
    }
    texts = ["no anomalies", *report["unchecked"]]
    for kind, title in titles.items():
        of_each = [
            f"{each['feature']} {each['distance']:.4f}"
            for each in report["features"]
            if each["kind"] == kind
        ]
        if of_each:
            accepted = kind == drift.DRIFT and report["accepted"]
            texts.append(
                f"{title}{', accepted' if accepted else ''}: {', '.join(of_each)}"
            )
    return "; ".join(texts)


def _served_model(outputs) -> str:
    version = outputs["model"].get_int_custom_property(served_model.VERSION_PROPERTY)
    why = served_model.why_none(outputs["model"])
    return f"version {version}" if version else f"none: {why}"


def _evaluator(outputs) -> str:
    found = evaluator.read_evaluation(outputs["evaluation"].uri)
    verdict = "refused" if evaluator.refusals(outputs["evaluation"].uri) else "blessed"
    return (
        f"{verdict}: ELBO {found.candidate.elbo:.2f} nats per image ({measure.SPLIT})"
    )


def _bounds(outputs) -> str:
    found = bounds.read_bounds(outputs["bounds"].uri)
    return (
        f"importance-weighted bound (k = {found.k}) {found.iwae:.2f} nats per image "
        f"({measure.SPLIT}), {found.active()} latents active"
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


def _named(outcome: Outcome, name: str) -> Step:
    return next(step for step in outcome.steps if step.name == name)
