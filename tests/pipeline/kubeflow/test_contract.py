"""The contract's tables of the graph, compared with the graph itself."""

import argparse
import dataclasses

import pytest

from components import ingest, served_model
from pipeline import graph
from pipeline.config.loading import PipelineConfig, resolve
from pipeline.kubeflow import contract
from tests.support.graph_steps import STEPS

CHECKPOINTS = ["kubeflow.checkpoints=s3://models/checkpoints"]
CONFIGS = {
    "smoke": ("smoke", []),
    "the default preset with checkpoints": ("five_minutes", CHECKPOINTS),
    "a warm start, grey pixels": (
        "demo",
        ["train.warm_start=true", "model.likelihood=continuous_bernoulli"],
    ),
    "a floor without a number": ("demo", ["gate.elbo_floor=auto"]),
    "values of 0": ("demo", ["gate.tolerance=0", "gate.elbo_floor=0"]),
}


def build(config):
    """Returns the graph's execution properties: (step, property) -> value."""
    paths = graph.Paths(
        pipeline_root="/root",
        data_dir="/data",
        schema_file="/schema.pbtxt",
        destination="/serving",
        checkpoints=config.kubeflow.checkpoints,
    )
    return {
        (component.id, name): value
        for component in graph.create_pipeline(config, paths).components
        for name, value in component.exec_properties.items()
    }


def change(config, parameter):
    """Returns a copy of the configuration with another value of a run parameter."""
    section = getattr(config, parameter.section)
    # Doubled, so that the batch size stays a multiple of the replicas.
    value = getattr(section, parameter.field)
    value = -7.0 if value == "auto" else value * 2 or 1
    section = dataclasses.replace(section, **{parameter.field: value})
    return dataclasses.replace(config, **{parameter.section: section})


@pytest.mark.parametrize("name", CONFIGS)
def test_each_run_parameter_is_in_the_properties_that_the_table_declares(name):
    preset, settings = CONFIGS[name]
    config = resolve(preset, settings=settings)
    before = build(config)
    for parameter in contract.RUN_PARAMETERS:
        after = build(change(config, parameter))
        assert after.keys() == before.keys()
        changed = {key for key in before if before[key] != after[key]}
        assert changed == set(parameter.properties.items()), parameter.setting


def test_the_run_parameters_are_those_that_the_documentation_names():
    assert [parameter.setting for parameter in contract.RUN_PARAMETERS] == [
        *("train.epochs", "train.batch_size", "train.learning_rate", "train.seed"),
        *("gate.elbo_floor", "gate.tolerance"),
    ]


def test_run_parameters_have_the_configs_values():
    settings = ["train.epochs=3", "train.learning_rate=0.25", "gate.tolerance=0"]
    values = contract.read_run_parameters(resolve("demo", settings=settings))
    assert values == {
        "epochs": 3,
        "batch_size": 256,
        "learning_rate": 0.25,
        "seed": 0,
        "elbo_floor": "-115.0",
        "tolerance": 0.0,
    }
    auto = resolve("demo", settings=["gate.elbo_floor=auto"])
    assert contract.read_run_parameters(auto)["elbo_floor"] == "auto"
    kinds = [type(values[name]) for name in ("epochs", "learning_rate", "tolerance")]
    assert kinds == [int, float, float]


def test_no_two_run_parameters_have_the_same_name():
    names = [parameter.name for parameter in contract.RUN_PARAMETERS]
    assert len({*names, contract.RUN_ID}) == len(names) + 1


def test_the_run_id_is_in_the_property_that_the_table_declares():
    holders = {key for key in build(PipelineConfig()) if key[1] == contract.RUN_ID}
    assert holders == set(contract.RUN_ID_PROPERTIES.items())
    assert set(contract.RUN_ID_PROPERTIES) <= set(contract.RUN_ID_STEPS) <= STEPS


def test_fingerprints_are_the_properties_that_the_steps_write():
    assert {
        step: (fingerprint.output, fingerprint.property)
        for step, fingerprint in contract.FINGERPRINTS.items()
    } == {
        "Ingest": ("examples", ingest.FINGERPRINT_PROPERTY),
        "ServedModel": ("model", served_model.VERSION_PROPERTY),
    }


def test_fingerprints_are_of_the_steps_that_have_one_from_a_runner():
    # The local runner gives these steps the fingerprints; on Kubeflow they compute
    # them.
    holders = {step for step, name in build(PipelineConfig()) if name == "fingerprint"}
    assert holders == set(contract.FINGERPRINTS)


@pytest.mark.parametrize("step", sorted(STEPS))
def test_parameters_for_the_cache_key_are_not_properties_of_the_step(step):
    for_cache = contract.list_cache_key_parameters(step)
    properties = {name for each, name in build(PipelineConfig()) if each == step}
    assert for_cache & properties == set()
    expected = {
        *("epochs", "batch_size", "learning_rate", "seed", "elbo_floor", "tolerance"),
        *("ingest_fingerprint", "served_model_fingerprint"),
    }
    assert for_cache == (expected if step == "Report" else expected | {"run_id"})


def test_shown_outputs_are_outputs_of_their_steps():
    paths = graph.Paths(pipeline_root="", data_dir="", schema_file="", destination="")
    components = graph.create_pipeline(PipelineConfig(), paths).components
    outputs = {component.id: set(component.outputs) for component in components}
    for step, shown in contract.SHOWN_OUTPUTS.items():
        assert set(shown) <= outputs[step]


@pytest.mark.parametrize(
    "arguments",
    [
        contract.StepArguments(
            step="Trainer", outputs="{}", key="ab", config='{"a":1}'
        ),
        contract.StepArguments(step="Ingest", outputs='{"artifacts": {}}', key="ab"),
        contract.StepArguments(step="Ingest", outputs="{}"),
    ],
)
def test_arguments_are_parsed_as_they_were_written(arguments):
    parser = argparse.ArgumentParser()
    contract.StepArguments.add_options(parser)
    parsed = parser.parse_args(arguments.to_args())
    assert contract.StepArguments(**vars(parsed)) == arguments


@pytest.mark.parametrize("missing", ["--step", "--outputs"])
def test_an_argument_that_every_step_needs_is_required(missing, capsys):
    parser = argparse.ArgumentParser()
    contract.StepArguments.add_options(parser)
    args = contract.StepArguments(step="Ingest", outputs="{}").to_args()
    index = args.index(missing)
    with pytest.raises(SystemExit):
        parser.parse_args(args[:index] + args[index + 2 :])
    error = capsys.readouterr().err
    assert f"the following arguments are required: {missing}" in error
