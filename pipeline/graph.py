"""The TFX graph: every step, in the order in which the data flow."""

import dataclasses
import json
from collections.abc import Sequence

from tfx import v1 as tfx

from components.bounds import Bounds
from components.data_gate import DataGate
from components.elbo_drift import ElboDrift
from components.evaluation.gate_result import Thresholds
from components.evaluator import Evaluator, EvaluatorInputs, make_eval_config
from components.infra_check import InfraCheck
from components.ingest import Ingest
from components.model_scores import ModelScores
from components.pusher import Pusher
from components.registry.signing import SigningSettings
from components.report import Report
from components.served_model import ServedModel
from model.examples import BITS, PIXELS
from pipeline.config.loading import NAME, PipelineConfig, decisive

# For 70,000 images, running in memory is faster than running several processes. The
# runner is named because Beam's default runner may choose Prism, which it downloads.
BEAM_ARGS = (
    "--runner=FnApiRunner",
    "--direct_running_mode=in_memory",
    # No container is used. Without this option, TFX packs itself into an archive for
    # remote workers, which takes seconds and 50 MB in each step.
    "--sdk_container_image=none",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Paths:
    """The paths of a run, and the state of its data and of the registry."""

    pipeline_root: str  # the folder of the steps' outputs
    data_dir: str  # the folder of prepared TFDS data sets
    schema_file: str
    destination: str  # the folder of versions
    # The folder or URI in which checkpoints survive the Trainer's process; empty: a
    # training that is interrupted begins again.
    checkpoints: str = ""
    source: str = "auto"  # data.source, read if the data set is not in data_dir yet
    # The fingerprints and spans are parameters of the steps, so that a change of the
    # data or of the registry invalidates TFX's cache. Kubeflow cannot read them at
    # compile time: it leaves them empty, and does not cache the steps that read them.
    data_fingerprint: str = ""
    spans: str = ""  # the spans to read, as span.format_json writes them
    served_fingerprint: str = ""
    run_key: str = ""  # digest of the settings, data and code; stored in the manifest


def create_pipeline(
    config: PipelineConfig, paths: Paths, *, beam_args: Sequence[str] = ()
) -> tfx.dsl.Pipeline:
    """Returns the TFX pipeline that the local runner and Kubeflow run.

    Args:
      config: the settings of the steps.
      paths: the paths, and the state outside the pipeline.
      beam_args: command-line options of Apache Beam.
    """
    # Read the data set into the splits train, eval and test.
    ingest = Ingest(
        dataset=config.data.dataset,
        source=paths.source,
        span_window=config.data.span_window,
        spans=paths.spans,
        data_dir=paths.data_dir,
        fingerprint=paths.data_fingerprint,
        eval_images=config.data.eval_images,
        limit=config.data.limit or 0,
    )
    # Import the schema that people reviewed.
    schema = tfx.components.ImportSchemaGen(schema_file=paths.schema_file)
    # Count the values in the splits.
    statistics = tfx.components.StatisticsGen(
        examples=ingest.outputs["examples"], schema=schema.outputs["schema"]
    )
    # Fetch the model that is served now, if there is one.
    served = ServedModel(
        destination=paths.destination,
        fingerprint=paths.served_fingerprint,
        signing=SigningSettings(
            verify=config.push.verify,
            signed_destination=config.push.signed_destination,
        ).to_json(),
    )
    # Compare the statistics with the schema.
    validator = tfx.components.ExampleValidator(
        statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"]
    )
    # Stop the run if they differ, or if the data drifted from the served model's.
    data_gate = DataGate(
        anomalies=validator.outputs["anomalies"],
        examples=ingest.outputs["examples"],
        schema=schema.outputs["schema"],
        baseline=served.outputs["model"],
        accept_drift=int(config.data.accept_drift),
    )
    # Add the evaluation's binarization to the pixels.
    transform = tfx.components.Transform(
        examples=ingest.outputs["examples"],
        schema=schema.outputs["schema"],
        preprocessing_fn="model.transform.preprocessing_fn",
        custom_config={"seed": config.gate.seed},
        disable_statistics=True,
    )
    transform.add_upstream_node(data_gate)
    # Score the served model on each image of the test split.
    baseline_scores = ModelScores(
        model=served.outputs["model"],
        examples=transform.outputs["transformed_examples"],
    ).with_id("BaselineScores")
    # Stop the run if the served model's ELBO fell, before a model is trained.
    elbo_drift = ElboDrift(
        baseline=served.outputs["model"],
        scores=baseline_scores.outputs["scores"],
        threshold=config.data.elbo_fall,
        accept_drift=int(config.data.accept_drift),
    )
    # Fit the VAE and export it.
    trainer = tfx.components.Trainer(
        run_fn="model.run_fn.run_fn",
        examples=transform.outputs["transformed_examples"],
        base_model=served.outputs["model"] if config.train.warm_start else None,
        train_args=tfx.proto.TrainArgs(splits=["train"]),
        eval_args=tfx.proto.EvalArgs(splits=["eval"]),
        custom_config={
            "model": dataclasses.asdict(config.model),
            "train": dataclasses.asdict(config.train),
            "evaluation": {"samples": config.gate.samples, "seed": config.gate.seed},
            "checkpoints": paths.checkpoints,
        },
    )
    trainer.add_upstream_node(elbo_drift)
    # Score the candidate on the same images with the same noise.
    candidate_scores = ModelScores(
        model=trainer.outputs["model"],
        examples=transform.outputs["transformed_examples"],
    ).with_id("CandidateScores")
    feature = BITS if config.model.is_binary else PIXELS
    # Compare the scores of both models and of independent pixels; bless the candidate
    # or refuse it.
    evaluation = Evaluator(
        EvaluatorInputs(
            candidate_scores=candidate_scores.outputs["scores"],
            baseline_scores=baseline_scores.outputs["scores"],
            examples=transform.outputs["transformed_examples"],
            model=trainer.outputs["model"],
            baseline_model=served.outputs["model"],
        ),
        eval_config=make_eval_config(
            Thresholds(
                elbo_floor=config.gate.elbo_floor,
                tolerance=config.gate.tolerance,
                confidence=config.gate.confidence,
                class_tolerance=config.gate.class_tolerance,
            ),
            binary=config.model.is_binary,
        ),
        feature=feature,
    )
    # Measure the importance-weighted bound of the candidate, which decides nothing.
    bounds = Bounds(
        model=trainer.outputs["model"],
        examples=transform.outputs["transformed_examples"],
        scores=candidate_scores.outputs["scores"],
        feature=feature,
        samples=config.gate.iwae_samples,
    )
    # Check that a model server can serve the candidate.
    infra_check = InfraCheck(
        model=trainer.outputs["model"], timeout=config.gate.infra_timeout
    )
    provenance = json.dumps({"run_key": paths.run_key, "config": decisive(config)})
    # Publish the candidate if Evaluator and InfraCheck blessed it.
    pusher = Pusher(
        model=trainer.outputs["model"],
        blessing=evaluation.outputs["blessing"],
        infra_blessing=infra_check.outputs["blessing"],
        evaluation=evaluation.outputs["evaluation"],
        scores=candidate_scores.outputs["scores"],
        baseline=served.outputs["model"],
        examples=ingest.outputs["examples"],
        data_report=data_gate.outputs["report"],
        destination=paths.destination,
        provenance=provenance,
        single_writer=int(config.push.single_writer),
        signing=config.push.signing.to_json(),
    )
    # Report the results, with figures.
    report = Report(
        model=trainer.outputs["model"],
        baseline=served.outputs["model"],
        model_run=trainer.outputs["model_run"],
        ingested=ingest.outputs["examples"],
        examples=transform.outputs["transformed_examples"],
        anomalies=validator.outputs["anomalies"],
        drift=data_gate.outputs["report"],
        elbo_drift=elbo_drift.outputs["report"],
        candidate_scores=candidate_scores.outputs["scores"],
        baseline_scores=baseline_scores.outputs["scores"],
        evaluation=evaluation.outputs["evaluation"],
        bounds=bounds.outputs["bounds"],
        pushed_model=pusher.outputs["pushed_model"],
        feature=feature,
        provenance=provenance,
        run_id="",
    )
    return tfx.dsl.Pipeline(
        pipeline_name=NAME,
        pipeline_root=paths.pipeline_root,
        components=[
            ingest,
            schema,
            statistics,
            validator,
            served,
            data_gate,
            transform,
            baseline_scores,
            elbo_drift,
            trainer,
            candidate_scores,
            evaluation,
            bounds,
            infra_check,
            pusher,
            report,
        ],
        enable_cache=True,
        beam_pipeline_args=list(beam_args),
    )
