"""The graph: every step, in the order in which the data flow."""

import dataclasses
import json
from collections.abc import Sequence

from tfx import v1 as tfx

from components.bounds import Bounds
from components.data_gate import DataGate
from components.evaluation.measure import SPLIT
from components.evaluator import Evaluator, eval_config
from components.infra_check import InfraCheck
from components.ingest import Ingest
from components.pusher import Pusher
from components.report import Report
from components.served_model import ServedModel
from model.examples import BITS, PIXELS
from pipeline.config.loading import NAME, PipelineConfig, decisive

# In memory beats several processes at this size. By name: Beam's default runner may
# choose Prism instead, a binary that it downloads.
BEAM_ARGS = (
    "--runner=FnApiRunner",
    "--direct_running_mode=in_memory",
    # No container is used. But TFX would else pack itself into an archive, which takes
    # seconds and 50 MB in each step, for the workers that there are not.
    "--sdk_container_image=none",
)


@dataclasses.dataclass(frozen=True)
class Paths:
    """Where a runner wants things, and what it knows of what is there."""

    pipeline_root: str  # below it, each step's outputs
    data_dir: str  # TFDS datasets
    schema_file: str
    destination: str  # the folder of versions
    checkpoints: str = ""  # a folder or URI that outlives the Trainer; empty: none does
    source: str = "auto"  # of the data, when they are not in data_dir yet
    # What is there now, so that a change is never hidden by the cache. A runner that
    # can't see it leaves it empty, and does not cache the step that reads it.
    data_fingerprint: str = ""
    spans: str = ""  # those that were found, as span_data.Data has them
    served_fingerprint: str = ""
    run_key: str = ""  # of all that decides what the run makes; goes into the manifest


def create_pipeline(
    config: PipelineConfig, paths: Paths, beam_args: Sequence[str] = ()
) -> tfx.dsl.Pipeline:
    """Returns the pipeline that both orchestrators run."""
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
    # Bring in the schema that people reviewed.
    schema = tfx.components.ImportSchemaGen(schema_file=paths.schema_file)
    # Count what is in the splits.
    statistics = tfx.components.StatisticsGen(
        examples=ingest.outputs["examples"], schema=schema.outputs["schema"]
    )
    # Fetch the model that is being served now, if any.
    served = ServedModel(
        destination=paths.destination, fingerprint=paths.served_fingerprint
    )
    # Compare the two, and stop here if they differ, or if the data are not like those
    # of the served model.
    validator = tfx.components.ExampleValidator(
        statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"]
    )
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
    # Measure both on the test split, and bless the new one or not.
    evaluation = Evaluator(
        examples=transform.outputs["transformed_examples"],
        example_splits=[SPLIT],
        model=trainer.outputs["model"],
        baseline_model=served.outputs["model"],
        eval_config=eval_config(
            config.gate.elbo_floor, config.gate.tolerance, config.model.binary
        ),
    )
    feature = BITS if config.model.binary else PIXELS
    # Measure the importance-weighted bound too, which decides nothing.
    bounds = Bounds(
        model=trainer.outputs["model"],
        examples=transform.outputs["transformed_examples"],
        feature=feature,
        samples=config.gate.iwae_samples,
    )
    # See whether a model server could serve it.
    infra_check = InfraCheck(
        model=trainer.outputs["model"], timeout=config.gate.infra_timeout
    )
    provenance = json.dumps({"run_key": paths.run_key, "config": decisive(config)})
    # Ship it if both blessed it.
    pusher = Pusher(
        model=trainer.outputs["model"],
        blessing=evaluation.outputs["blessing"],
        infra_blessing=infra_check.outputs["blessing"],
        evaluation=evaluation.outputs["evaluation"],
        baseline=served.outputs["model"],
        examples=ingest.outputs["examples"],
        data_report=data_gate.outputs["report"],
        destination=paths.destination,
        provenance=provenance,
    )
    # Say what came of it, with pictures.
    report = Report(
        model=trainer.outputs["model"],
        baseline=served.outputs["model"],
        model_run=trainer.outputs["model_run"],
        ingested=ingest.outputs["examples"],
        examples=transform.outputs["transformed_examples"],
        anomalies=validator.outputs["anomalies"],
        drift=data_gate.outputs["report"],
        evaluation=evaluation.outputs["evaluation"],
        bounds=bounds.outputs["bounds"],
        infra_blessing=infra_check.outputs["blessing"],
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
            trainer,
            evaluation,
            bounds,
            infra_check,
            pusher,
            report,
        ],
        enable_cache=True,
        beam_pipeline_args=list(beam_args),
    )
