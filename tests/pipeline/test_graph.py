"""The graph of the pipeline: its steps, their inputs and their settings."""

import json
import pydoc
import sys

import pytest
from apache_beam.options import pipeline_options
from tfx.dsl.compiler import compiler

from components.evaluation import estimate
from components.registry.signing import SigningSettings
from model import run_fn, transform
from pipeline import graph
from pipeline.config.loading import resolve
from tests.support.eval_configs import find_thresholds
from tests.support.graph_steps import STEPS, UPSTREAM

PATHS = graph.Paths(
    pipeline_root="/root",
    data_dir="/data",
    schema_file="/schema.pbtxt",
    destination="/serving",
    checkpoints="/checkpoints",
    source="auto",
    data_fingerprint="data-1",
    spans="spans-1",
    served_fingerprint="served-1",
    run_key="key-1",
)


@pytest.fixture(scope="module")
def nodes():
    pipeline = graph.create_pipeline(resolve("demo"), PATHS, beam_args=["--runner=X"])
    ir = compiler.Compiler().compile(pipeline)
    return {n.pipeline_node.node_info.id: n.pipeline_node for n in ir.nodes}


def test_every_step_waits_for_what_it_needs(nodes):
    assert set(nodes) == STEPS
    for name, node in nodes.items():
        assert sorted(node.upstream_nodes) == sorted(UPSTREAM.get(name, []))


def test_nothing_that_kubeflow_cannot_run(nodes):
    for name, node in nodes.items():
        assert "_" not in name
        assert "Resolver" not in node.node_info.type.name
        assert "InfraValidator" not in node.node_info.type.name


def test_no_step_has_a_driver():
    pipeline = graph.create_pipeline(resolve("demo"), PATHS)
    ir = compiler.Compiler().compile(pipeline)
    from tfx.orchestration.local import runner_utils

    deployment = runner_utils.extract_local_deployment_config(ir)
    assert not deployment.custom_driver_specs


def parameter(node, name):
    return node.parameters.parameters[name].field_value.string_value


def test_the_gate_is_the_configs(nodes):
    config = json.loads(parameter(nodes["Evaluator"], "eval_config"))
    assert find_thresholds(config) == {
        "elbo": {"lower_bound": -115.0, "upper_bound": 0.0},
        "difference": {"lower_bound": -0.5},
    }
    assert find_thresholds(config, slicing={"feature_keys": ["label"]}) == {}
    (ratchet,) = (
        metric
        for spec in config["metrics_specs"]
        for metric in spec["metrics"]
        if metric["class_name"] == "LowerConfidenceBound"
    )
    assert json.loads(ratchet["config"]) == {"confidence": 0.95}
    assert estimate.SPLIT == "test"


def test_the_gate_has_a_threshold_for_each_label_if_there_is_a_class_tolerance():
    settings = ["gate.class_tolerance=1.5", "gate.confidence=0.99"]
    found = find_properties(resolve("demo", settings=settings))["Evaluator"]
    config = json.loads(found["eval_config"])
    assert find_thresholds(config, slicing={"feature_keys": ["label"]}) == {
        "difference": {"lower_bound": -1.5}
    }
    assert find_thresholds(config)["difference"] == {"lower_bound": -0.5}
    assert '{"confidence": 0.99}' in str(config)


@pytest.mark.parametrize(
    ("likelihood", "elbo"),
    [
        ("bernoulli", {"elbo": {"upper_bound": 0.0}}),
        ("continuous_bernoulli", {"elbo": {"upper_bound": sys.float_info.max}}),
    ],
)
def test_a_floor_that_is_auto_is_one_above_independent_pixels(likelihood, elbo):
    settings = ["gate.elbo_floor=auto", f"model.likelihood={likelihood}"]
    properties = find_properties(resolve("demo", settings=settings))["Evaluator"]
    assert find_thresholds(json.loads(properties["eval_config"])) == {
        **elbo,
        "above_independent_pixels": {"lower_bound": 0.0},
        "difference": {"lower_bound": -0.5},
    }


@pytest.mark.parametrize(
    ("step", "producer"),
    [("BaselineScores", "ServedModel"), ("CandidateScores", "Trainer")],
)
def test_both_models_are_scored_on_the_same_examples(nodes, step, producer):
    assert nodes[step].node_info.type.name == "components.model_scores.ModelScores"
    producers = {
        name: channel.channels[0].producer_node_query.id
        for name, channel in nodes[step].inputs.inputs.items()
    }
    assert producers == {"examples": "Transform", "model": producer}


@pytest.mark.parametrize(
    ("likelihood", "feature"),
    [("bernoulli", "bits"), ("continuous_bernoulli", "pixels")],
)
def test_bounds_are_of_what_the_model_takes(likelihood, feature):
    settings = [f"model.likelihood={likelihood}", "gate.iwae_samples=7"]
    pipeline = graph.create_pipeline(resolve("demo", settings=settings), PATHS)
    properties = {step.id: step.exec_properties for step in pipeline.components}
    assert properties["Bounds"] == {"feature": feature, "samples": 7}
    assert properties["Evaluator"]["feature"] == feature


def test_the_test_split_is_never_trained_on(nodes):
    trainer = nodes["Trainer"]
    assert json.loads(parameter(trainer, "train_args"))["splits"] == ["train"]
    assert json.loads(parameter(trainer, "eval_args"))["splits"] == ["eval"]


def find_properties(config):
    """Returns step -> execution properties, for all steps of the graph."""
    pipeline = graph.create_pipeline(config, PATHS)
    return {step.id: step.exec_properties for step in pipeline.components}


def test_the_steps_read_and_write_where_the_runner_says():
    properties = find_properties(resolve("demo"))
    ingest = properties["Ingest"]
    assert (ingest["data_dir"], ingest["source"]) == ("/data", "auto")
    assert (ingest["fingerprint"], ingest["spans"]) == ("data-1", "spans-1")
    assert properties["ImportSchemaGen"]["schema_file"] == "/schema.pbtxt"
    assert properties["ServedModel"] == {
        "destination": "/serving",
        "fingerprint": "served-1",
        "signing": SigningSettings().to_json(),
    }
    assert properties["Pusher"]["destination"] == "/serving"
    custom_config = json.loads(properties["Trainer"]["custom_config"])
    assert custom_config["checkpoints"] == "/checkpoints"
    for step in ("Pusher", "Report"):
        assert json.loads(properties[step]["provenance"])["run_key"] == "key-1"


def test_the_steps_get_the_settings():
    settings = [
        *("data.dataset=bars", "data.limit=6000", "data.eval_images=7"),
        *("data.accept_drift=true", "data.elbo_fall=6", "gate.seed=5"),
        *(
            "gate.samples=3",
            "gate.infra_timeout=77",
            "train.epochs=9",
            "model.latent_size=3",
        ),
    ]
    properties = find_properties(resolve("demo", settings=settings))
    ingest = properties["Ingest"]
    assert (ingest["dataset"], ingest["limit"]) == ("bars", 6000)
    assert (ingest["eval_images"], ingest["span_window"]) == (7, 1)
    assert properties["DataGate"]["accept_drift"] == 1
    assert properties["ElboDrift"] == {"accept_drift": 1, "threshold": 6.0}
    assert json.loads(properties["Transform"]["custom_config"]) == {"seed": 5}
    assert properties["InfraCheck"]["timeout"] == 77
    custom_config = json.loads(properties["Trainer"]["custom_config"])
    assert custom_config["train"]["epochs"] == 9
    assert custom_config["model"]["latent_size"] == 3
    assert custom_config["evaluation"] == {"samples": 3, "seed": 5}
    config = json.loads(properties["Report"]["provenance"])["config"]
    assert config["model"]["latent_size"] == 3


@pytest.mark.parametrize(
    ("step", "parameter_name", "function"),
    [
        ("Transform", "preprocessing_fn", transform.preprocessing_fn),
        ("Trainer", "run_fn", run_fn.run_fn),
    ],
)
def test_the_steps_call_the_models_functions(step, parameter_name, function):
    name = find_properties(resolve("demo"))[step][parameter_name]
    located = pydoc.locate(name)
    assert (located.__module__, located.__qualname__) == (
        function.__module__,
        function.__qualname__,
    )


@pytest.mark.parametrize("is_accepted", [True, False])
def test_drift_is_accepted_only_on_request(is_accepted):
    settings = [f"data.accept_drift={str(is_accepted).lower()}"]
    properties = find_properties(resolve("demo", settings=settings))
    assert properties["DataGate"]["accept_drift"] == int(is_accepted)


def test_transform_computes_no_statistics_that_nobody_reads():
    """StatisticsGen already has these statistics; twice would cost seconds a run."""
    assert find_properties(resolve("demo"))["Transform"]["disable_statistics"] == 1


def test_no_limit_is_a_limit_of_0():
    config = resolve("demo", settings=["data.limit=null"])
    assert find_properties(config)["Ingest"]["limit"] == 0


@pytest.mark.parametrize("is_warm", [True, False])
def test_only_a_warm_start_trains_the_served_model_further(is_warm):
    config = resolve("demo", settings=[f"train.warm_start={str(is_warm).lower()}"])
    pipeline = graph.create_pipeline(config, PATHS)
    (trainer,) = [step for step in pipeline.components if step.id == "Trainer"]
    assert ("base_model" in trainer.inputs) == is_warm


@pytest.mark.parametrize(
    ("likelihood", "upper_bound"),
    [("bernoulli", 0.0), ("continuous_bernoulli", sys.float_info.max)],
)
def test_the_gate_refuses_an_elbo_above_0_only_for_probabilities(
    likelihood, upper_bound
):
    config = resolve("demo", settings=[f"model.likelihood={likelihood}"])
    gate = json.loads(find_properties(config)["Evaluator"]["eval_config"])
    expected = {"lower_bound": -115.0, "upper_bound": upper_bound}
    assert find_thresholds(gate)["elbo"] == expected


def test_the_pipeline_is_cached_and_has_the_runners_options():
    pipeline = graph.create_pipeline(resolve("demo"), PATHS, beam_args=["--runner=X"])
    assert pipeline.enable_cache
    assert pipeline.beam_pipeline_args == ["--runner=X"]
    info = pipeline.pipeline_info
    assert (info.pipeline_name, info.pipeline_root) == ("vae", "/root")


def test_beam_runs_in_this_process():
    options = pipeline_options.PipelineOptions(list(graph.BEAM_ARGS), strict=True)
    assert options.view_as(pipeline_options.StandardOptions).runner == "FnApiRunner"
    direct = options.view_as(pipeline_options.DirectOptions)
    assert direct.direct_running_mode == "in_memory"
