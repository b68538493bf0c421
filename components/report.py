"""The Report step: writes the results of a run as one HTML page with pictures."""

import datetime
import json
import logging
import os
import pathlib

import tensorflow as tf
from matplotlib.figure import Figure
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.components.example_validator.executor import DEFAULT_FILE_NAME
from tfx.dsl.component.experimental.annotations import (
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.experimental import simple_artifacts
from tfx.utils import path_utils

from components import data_gate, evaluator, ingest, pusher, served_model
from components.bounds import read_bounds, read_latents
from components.evaluation.elbo_fall import ElboDriftReport
from components.evaluation.estimate import SPLIT
from components.evaluation.gate_result import GateResult, Thresholds
from components.model_scores import read_scores, require_scores
from components.registry.manifest import MANIFEST
from components.reporting import facts, figures, measurements
from components.reporting.charts import encode_png
from components.reporting.page import FACTS, PAGE, render_page
from model.files import machine_faults
from model.training.progress import log_if_slow
from model.training.tensorboard import read_curves

logger = logging.getLogger(__name__)


@component
def Report(  # noqa: N802, a component
    model: InputArtifact[standard_artifacts.Model],
    baseline: InputArtifact[standard_artifacts.Model],
    model_run: InputArtifact[standard_artifacts.ModelRun],
    ingested: InputArtifact[standard_artifacts.Examples],
    examples: InputArtifact[standard_artifacts.Examples],
    anomalies: InputArtifact[standard_artifacts.ExampleAnomalies],
    drift: InputArtifact[standard_artifacts.ExampleStatistics],
    elbo_drift: InputArtifact[standard_artifacts.ModelEvaluation],
    candidate_scores: InputArtifact[standard_artifacts.Examples],
    baseline_scores: InputArtifact[standard_artifacts.Examples],
    evaluation: InputArtifact[standard_artifacts.ModelEvaluation],
    bounds: InputArtifact[standard_artifacts.ModelEvaluation],
    pushed_model: InputArtifact[standard_artifacts.PushedModel],
    page: OutputArtifact[simple_artifacts.File],
    metrics: OutputArtifact[simple_artifacts.Metrics],
    feature: Parameter[str],
    provenance: Parameter[str],
    run_id: Parameter[str],
) -> None:
    """Writes the report of a run, whose model may be blessed or refused.

    Args:
      model: the candidate.
      baseline: ServedModel's output.
      model_run: the Trainer's output with TensorBoard's files.
      ingested: Ingest's examples.
      examples: Transform's examples.
      anomalies: ExampleValidator's anomalies.
      drift: DataGate's report with the distances.
      elbo_drift: ElboDrift's report with the fall of the served model's ELBO.
      candidate_scores: CandidateScores' output.
      baseline_scores: BaselineScores' output, empty without a baseline.
      evaluation: the Evaluator's measurements.
      bounds: the measurements of Bounds.
      pushed_model: the Pusher's output with the gate result.
      page: the artifact whose folder gets the HTML page.
      metrics: the artifact whose properties get the metrics of the run, and whose
        folder gets the page's facts (JSON) and pictures (PNG).
      feature: the feature that the model is trained on, `bits` or `pixels`.
      provenance: the run key and the settings, in JSON.
      run_id: the id of a run on Kubeflow; empty for a local run, whose id is not known
        yet when the step starts.
    """
    details = json.loads(provenance)
    gate = GateResult.read(pushed_model.uri)
    settings = details["config"]["gate"]
    thresholds = Thresholds(
        elbo_floor=settings["elbo_floor"],
        tolerance=settings["tolerance"],
        confidence=settings["confidence"],
        class_tolerance=settings["class_tolerance"],
    )
    with log_if_slow("loading the model"):
        candidate = _load_signatures(model)
    files = os.path.join(artifact_utils.get_split_uri([examples], SPLIT), "*")
    with log_if_slow(f"reading the {SPLIT} split"):
        test = measurements.read_test_split(
            [files],
            feature,
            candidate=require_scores(candidate_scores),
            baseline=read_scores(baseline_scores),
            loc=read_latents(bounds.uri),
        )
    logger.info("read %d images of the %s split", len(test.elbo), SPLIT)
    with log_if_slow("counting the labels"):
        counts = {
            split: measurements.count_labels(
                [os.path.join(artifact_utils.get_split_uri([ingested], split), "*")]
            )
            for split in artifact_utils.decode_split_names(ingested.split_names)
        }
    curves = read_curves(os.path.join(model_run.uri, "tensorboard"))
    with log_if_slow("drawing digits with the model"):
        pictures, problem = _draw_digits(test, candidate)
    found = evaluator.read_evaluation(evaluation.uri)
    floor = thresholds.find_floor(found.independent_pixels)
    pictures |= {
        "elbo_histogram": figures.draw_elbo_histogram(test, floor),
        "labels": figures.draw_label_shares(counts),
    }
    if curves:
        pictures["training"] = figures.draw_training_curves(curves)
    content = {
        "made": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "problem": problem,
        "training": facts.describe_training(curves),
        "bounds": facts.describe_bounds(read_bounds(bounds.uri)),
        **facts.describe_gate(
            found,
            test,
            gate=gate,
            thresholds=thresholds,
            baseline_version=baseline.get_int_custom_property(
                served_model.VERSION_PROPERTY
            )
            or None,
            why_no_baseline=served_model.explain_no_version(baseline),
        ),
        **facts.describe_data(
            counts,
            _describe_anomalies(anomalies),
            drift=data_gate.read_report(drift.uri),
        ),
        "elbo_drift": facts.describe_elbo_drift(ElboDriftReport.read(elbo_drift.uri)),
        **facts.describe_lineage(
            details,
            ingested.get_string_custom_property(ingest.FINGERPRINT_PROPERTY),
            stack=pusher.read_stack(),
            pushed=gate.pushed or "",
            manifest=_read_manifest(pushed_model),
        ),
        "run": {"id": run_id, "steps": []},
    }
    folder = pathlib.Path(metrics.uri)
    with log_if_slow("compressing the figures"):
        drawn = {name: encode_png(figure) for name, figure in pictures.items()}
    for name, data in drawn.items():
        (folder / f"{name}.png").write_bytes(data)
    text = json.dumps(content, indent=2, allow_nan=False)
    (folder / FACTS).write_text(text, encoding="utf-8")
    pathlib.Path(page.uri, PAGE).write_text(
        render_page(content, drawn), encoding="utf-8"
    )
    for name, value in facts.list_scalars(content).items():
        metrics.set_float_custom_property(name, value)


def _load_signatures(model: standard_artifacts.Model):
    return tf.saved_model.load(path_utils.serving_model_dir(model.uri)).signatures


def _draw_digits(
    test: measurements.ScoredImages, candidate: measurements.Signatures
) -> tuple[dict[str, Figure], str]:
    """Returns the pictures that the candidate's signatures draw.

    Args:
      test: the test split with its scores.
      candidate: the candidate's signatures.

    Returns:
      The figures by name, and ""; if the signatures fail: no figures, and the error.
    """
    try:
        digits = measurements.generate_digits(test, candidate)
    # InfraCheck refused a model whose signatures fail, and its report is written all
    # the same. Such signatures may return any shape or lack any key.
    except (
        measurements.MeasurementError,
        KeyError,
        ValueError,
        tf.errors.OpError,
    ) as error:
        if isinstance(error, tf.errors.OpError) and machine_faults.is_fault(error):
            raise
        logger.warning("the digits can't be drawn", exc_info=True)
        return {}, f"{type(error).__name__}: {' '.join(str(error).split())}"
    return {
        "rebuilt": figures.draw_reconstructions(digits),
        "samples": figures.draw_samples(digits),
        "traversals": figures.draw_traversals(digits, test.loc.std(axis=0)),
        "interpolations": figures.draw_interpolations(digits),
        "latent_map": figures.draw_latent_map(test),
        "worst": figures.draw_worst(test, digits),
    }, ""


def _describe_anomalies(artifact: standard_artifacts.ExampleAnomalies) -> list[str]:
    lines = []
    for split in artifact_utils.decode_split_names(artifact.split_names):
        path = pathlib.Path(artifact.uri, f"Split-{split}", DEFAULT_FILE_NAME)
        lines += data_gate.describe_anomalies(
            split, anomalies_pb2.Anomalies.FromString(path.read_bytes())
        )
    return lines


def _read_manifest(pushed_model: standard_artifacts.PushedModel) -> str:
    path = pathlib.Path(pushed_model.uri, MANIFEST)
    return path.read_text(encoding="utf-8") if path.exists() else ""
