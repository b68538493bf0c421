"""The compiled pipeline: its schema, containers, tasks and cache keys."""

import hashlib
import json
import os
import re
import subprocess
import sys

import kfp.components
import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from pipeline.config import loading
from pipeline.config.loading import ConfigError, resolve
from pipeline.kubeflow import compiler
from pipeline.kubeflow.kubernetes import make_task_name
from tests.support.graph_steps import STEPS, UPSTREAM, find_steps_read_by
from tests.support.packages import DESTINATION, IMAGE, SETTINGS, compile_package

# KFP cannot see that the sources of their outputs change
OUTSIDE = {"Ingest", "ServedModel"}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return compile_package(tmp_path_factory.mktemp("kubeflow"), *SETTINGS)


@pytest.fixture(scope="module")
def documents(path):
    return list(yaml.safe_load_all(path.read_text()))


@pytest.fixture(scope="module")
def spec(documents):
    # An unknown field is an error, as in KFP's API server.
    return json_format.ParseDict(documents[0], pipeline_spec_pb2.PipelineSpec())


@pytest.fixture(scope="module")
def executors(spec):
    config = json_format.ParseDict(
        json_format.MessageToDict(spec.deployment_spec),
        pipeline_spec_pb2.PipelineDeploymentConfig(),
    )
    return config.executors


@pytest.fixture(scope="module")
def tasks(spec):
    return spec.root.dag.tasks


def parameters(task):
    return {
        name: json_format.MessageToDict(value.runtime_value.constant)
        for name, value in task.inputs.parameters.items()
        if value.HasField("runtime_value")
    }


def test_the_schema_is_the_one_that_open_source_kfp_takes(spec):
    assert spec.schema_version == "2.1.0"
    assert spec.pipeline_info.name == "vae"
    assert spec.default_pipeline_root == "minio://mlpipeline/vae"


def test_every_executor_is_a_container_of_the_image_and_nothing_more(spec, executors):
    assert len(executors) == len(spec.components) == len(STEPS)
    for executor in executors.values():
        assert executor.WhichOneof("spec") == "container"
        assert executor.container.image == IMAGE
        command = ["python", "-m", "pipeline.kubeflow.entrypoint"]
        assert list(executor.container.command) == command
        assert not executor.container.HasField("lifecycle")
    for component in spec.components.values():
        assert component.executor_label in executors


def test_no_two_steps_start_the_same_container(executors):
    # KFP identifies components by a hash of their containers.
    texts = {executor.SerializeToString() for executor in executors.values()}
    assert len(texts) == len(executors)


def test_nothing_else_is_in_double_braces(path):
    # Argo and KFP's launcher replace text in double braces.
    found = set(re.findall(r"\{\{[^}]*\}\}", path.read_text()))
    assert found == {"{{$}}", "{{$.pipeline_job_uuid}}"}


@pytest.mark.parametrize("step", ["pusher", "report"])
def test_steps_that_depend_on_the_run_id_never_come_from_the_cache(tasks, step):
    assert parameters(tasks[step])["run_id"] == "{{$.pipeline_job_uuid}}"


def test_the_page_and_the_metrics_have_types_of_kfps_ui(spec, executors):
    outputs = spec.components["comp-report"].output_definitions.artifacts
    kinds = {name: artifact.artifact_type for name, artifact in outputs.items()}
    assert {name: kind.schema_title for name, kind in kinds.items()} == {
        "page": "system.HTML",
        "metrics": "system.Metrics",
    }
    assert {kind.schema_version for kind in kinds.values()} == {"0.0.1"}
    # TFX does not know KFP's two types, so the entrypoint gets types that TFX can load.
    args = list(executors["exec-report"].container.args)
    compiled = json.loads(args[args.index("--outputs") + 1])["artifacts"]
    titles = {
        name: yaml.safe_load(artifact["artifactType"]["instanceSchema"])["title"]
        for name, artifact in compiled.items()
    }
    assert titles == {"page": "tfx.File", "metrics": "tfx.Metrics"}


def test_no_task_waits_for_more_or_less_than_in_the_graph(tasks):
    expected = {
        make_task_name(step): sorted(
            # Those whose fingerprint it gets come before it in any case.
            map(
                make_task_name,
                {*UPSTREAM.get(step, []), *(find_steps_read_by(step) & OUTSIDE)},
            )
        )
        for step in STEPS
    }
    assert {n: sorted(t.dependent_tasks) for n, t in tasks.items()} == expected
    for task in tasks.values():
        assert not task.HasField("trigger_policy")  # no condition, no exit handler
        for artifact in task.inputs.artifacts.values():
            source = artifact.task_output_artifact.producer_task
            assert source in task.dependent_tasks


def test_names_are_kubernetes_names(spec, executors, tasks):
    assert set(tasks) == set(map(make_task_name, STEPS))
    assert len(tasks) == len(spec.components) == len(executors)
    for name, task in tasks.items():
        assert task.task_info.name == name  # KFP's driver finds a producer by this name
        # kfp.local removes the prefix comp-
        assert task.component_ref.name == f"comp-{name}"
        assert spec.components[f"comp-{name}"].executor_label == f"exec-{name}"


def test_only_steps_that_read_outside_state_are_never_cached(tasks):
    uncached = {n for n, t in tasks.items() if not t.caching_options.enable_cache}
    assert uncached == {"ingest", "served-model"}


def test_each_container_has_its_steps_resources(executors):
    trainer = executors["exec-trainer"].container.resources
    assert (trainer.cpu_limit, trainer.memory_limit) == (8.0, 16.5)
    assert (trainer.accelerator.type, trainer.accelerator.count) == ("amd.com/gpu", 2)
    for name in set(executors) - {"exec-trainer"}:
        resources = executors[name].container.resources
        assert (resources.cpu_limit, resources.memory_limit) == (0.5, 3.0)
        assert not resources.HasField("accelerator")


def test_the_second_document_is_for_kubernetes(documents, executors):
    assert len(documents) == 2
    found = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    steps = ("ingest", "served-model", "pusher", "trainer")
    assert set(found) == {f"exec-{step}" for step in steps} < set(executors)


def test_a_container_gets_tfxs_arguments_and_then_the_compilers(executors):
    # The SHA-256, by sha256sum, of the settings that determine a run's results, as
    # sorted JSON.
    decisive = json.dumps(loading.decisive(resolve("demo", settings=SETTINGS)))
    text = json.dumps(json.loads(decisive), sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()
    with_config = {"Trainer", "Evaluator", "Pusher", "Report"}
    for step in STEPS:
        args = list(executors[f"exec-{make_task_name(step)}"].container.args)
        ours = args[args.index("--step") :]
        assert ours[::2] == [
            *("--step", "--outputs", "--key"),
            *(["--config"] if step in with_config else []),
        ]
        values = dict(zip(ours[::2], ours[1::2], strict=True))
        assert (values["--step"], values["--key"]) == (step, key)
        assert values.get("--config", text) == text
        assert args[args.index("--json_serialized_invocation_args") + 1] == "{{$}}"


def test_the_places_of_checkpoints_go_with_the_settings(tmp_path):
    checkpoints = "kubeflow.checkpoints=/data/checkpoints"
    path = compile_package(tmp_path, *SETTINGS, checkpoints)
    (document, _) = yaml.safe_load_all(path.read_text())
    executor = document["deploymentSpec"]["executors"]["exec-trainer"]
    args = executor["container"]["args"]
    config = json.loads(args[args.index("--config") + 1])
    assert config["kubeflow"] == {
        "checkpoints": "/data/checkpoints",
        "volumes": {"/data": "datasets"},
    }
    assert loading.from_dict(config).kubeflow.checkpoints == "/data/checkpoints"


def test_paths_are_the_clusters_and_fingerprints_are_empty(tasks):
    assert parameters(tasks["ingest"])["data_dir"] == "/data/tfds"
    assert parameters(tasks["ingest"])["fingerprint"] == ""
    assert parameters(tasks["served-model"]) == {
        "destination": "s3://models/serving/vae",
        "fingerprint": "",
        "signing": json.dumps({"sign": "", "verify": "", "signed_destination": ""}),
    }
    assert parameters(tasks["pusher"])["destination"] == "s3://models/serving/vae"
    schema_file = parameters(tasks["import-schema-gen"])["schema_file"]
    assert schema_file == "package:pipeline/schema.pbtxt"


def test_the_time_that_infra_check_gets_changes_no_other_steps_cache_key(
    path, tasks, tmp_path
):
    other = compile_package(tmp_path, *SETTINGS, "gate.infra_timeout=77")
    lines = (file.read_text().splitlines() for file in (path, other))
    changed = [pair for pair in zip(*lines, strict=True) if pair[0] != pair[1]]
    assert [pair[1].split() for pair in changed] == [["constant:", "77.0"]]
    assert parameters(tasks["infra-check"])["timeout"] == 1800


def test_the_runs_parameters_have_types_and_the_configs_values(spec):
    found = {
        name: (
            pipeline_spec_pb2.ParameterType.ParameterTypeEnum.Name(p.parameter_type),
            p.default_value.string_value or p.default_value.number_value,
            p.is_optional,
        )
        for name, p in spec.root.input_definitions.parameters.items()
    }
    assert found == {
        "epochs": ("NUMBER_INTEGER", 10, True),
        "batch_size": ("NUMBER_INTEGER", 256, True),
        "learning_rate": ("NUMBER_DOUBLE", 0.002, True),
        "seed": ("NUMBER_INTEGER", 0, True),
        "elbo_floor": ("STRING", "-115.0", True),
        "tolerance": ("NUMBER_DOUBLE", 0.5, True),
    }


def test_a_step_gets_the_parameters_that_it_or_a_step_before_depends_on(spec, tasks):
    training = {"epochs", "batch_size", "learning_rate", "seed"}
    gate = {"elbo_floor", "tolerance"}
    expected = {
        "trainer": training,
        "candidate-scores": training,
        "bounds": training,
        "infra-check": training,
        "evaluator": training | gate,
        "pusher": training | gate,
        "report": training | gate,
    }
    for name, task in tasks.items():
        given = {
            key
            for key, value in task.inputs.parameters.items()
            if value.component_input_parameter == key
        }
        assert given == expected.get(name, set())
        declared = spec.components[f"comp-{name}"].input_definitions.parameters
        assert given <= set(declared)


def test_a_step_gets_the_fingerprints_of_its_upstream_steps(spec, tasks):
    for step in STEPS:
        name = make_task_name(step)
        given = {
            (key, value.task_output_parameter.producer_task)
            for key, value in tasks[name].inputs.parameters.items()
            if value.task_output_parameter.output_parameter_key == "fingerprint"
        }
        sources = map(make_task_name, find_steps_read_by(step) & OUTSIDE)
        assert given == {
            (f"{source.replace('-', '_')}_fingerprint", source) for source in sources
        }
        declared = spec.components[f"comp-{name}"].input_definitions.parameters
        assert {key for key, _ in given} <= set(declared)
    for name in map(make_task_name, OUTSIDE):
        outputs = spec.components[f"comp-{name}"].output_definitions.parameters
        assert set(outputs) == {"fingerprint"}


def test_every_setting_is_in_the_cache_key_of_every_step(executors, tmp_path):
    """KFP's cache key has the arguments, and of an input only its name."""
    other = compile_package(tmp_path, *SETTINGS, "model.latent_size=3")
    (document, _) = yaml.safe_load_all(other.read_text())
    for name, executor in document["deploymentSpec"]["executors"].items():
        assert executor["container"]["args"] != list(executors[name].container.args)


def test_what_is_for_kubernetes_alone_changes_no_step(documents, tmp_path):
    other = compile_package(tmp_path, DESTINATION, SETTINGS[2])
    (document,) = yaml.safe_load_all(other.read_text())  # no document for Kubernetes

    def without_resources(spec):
        executors = spec["deploymentSpec"]["executors"]
        containers = {name: {**e["container"]} for name, e in executors.items()}
        for container in containers.values():
            del container["resources"]
        return containers, spec["components"], spec["root"]

    assert without_resources(document) == without_resources(documents[0])


@pytest.mark.parametrize("settings", [SETTINGS, [DESTINATION]], ids=["all", "least"])
def test_kfp_loads_it(settings, tmp_path):
    path = compile_package(tmp_path, *settings)
    inputs = kfp.components.load_component_from_file(str(path)).component_spec.inputs
    assert {name: (spec.type, spec.default) for name, spec in inputs.items()} == {
        "epochs": ("Integer", 10),
        "batch_size": ("Integer", 256),
        "learning_rate": ("Float", 0.002),
        "seed": ("Integer", 0),
        "elbo_floor": ("String", "-115.0"),
        "tolerance": ("Float", 0.5),
    }


def test_the_same_config_gives_the_same_bytes(path, tmp_path):
    # In another process, where sets and hashes have another order.
    code = (
        "import pathlib, sys; from tests.support import packages\n"
        "packages.compile_package(pathlib.Path(sys.argv[1]), *packages.SETTINGS)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], check=True, env=environment
    )
    assert (tmp_path / "pipeline.yaml").read_bytes() == path.read_bytes()


def test_the_configs_values_are_the_defaults(tmp_path):
    path = compile_package(tmp_path, DESTINATION, "train.epochs=3", "gate.tolerance=0")
    (document,) = yaml.safe_load_all(path.read_text())
    defaults = document["root"]["inputDefinitions"]["parameters"]
    assert defaults["epochs"]["defaultValue"] == 3
    assert defaults["tolerance"]["defaultValue"] == 0.0
    task = document["root"]["dag"]["tasks"]["trainer"]
    constant = task["inputs"]["parameters"]["custom_config"]["runtimeValue"]["constant"]
    assert json.loads(constant)["train"]["epochs"] == 3
    evaluator = document["root"]["dag"]["tasks"]["evaluator"]["inputs"]["parameters"]
    assert "tolerance" in evaluator  # also when the setting is 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([], "push.destination must be a URI such as s3://bucket/serving"),
        (
            [DESTINATION, "kubeflow.steps={Trainr: {cpu: 1}}"],
            "Evaluator, Pusher, Report) or default, got Trainr",
        ),
        (["kubeflow.steps={Trainer: {gpu: 1}}"], "kubeflow.steps.Trainer.gpu "),
        (["kubeflow.steps={Trainer: {gpus: -1}}"], "gpus must be at least 0, got -1"),
        (["kubeflow.steps={default: {cpu: 0}}"], "cpu must be above 0.0, got 0"),
        (["kubeflow.pipeline_root=/tmp"], "pipeline_root must begin with minio://"),
        (["kubeflow.volumes={data: claim}"], "volumes must be folders from /"),
        (
            ["kubeflow.data_dir=~/data"],
            "kubeflow.data_dir must be a folder of the container, from /, got '~/data'",
        ),
        (["kubeflow.checkpoints=~/c"], "checkpoints must begin with minio://"),
        *(
            (
                [f"{key}=~/x", *others],
                f"{key} must not begin with ~ on Kubeflow, because containers do not "
                "have your home folder, got '~/x': write a URI, or the absolute path "
                "of a folder in one of kubeflow.volumes",
            )
            for key, others in (
                ("push.destination", []),
                ("data.source", [DESTINATION]),
            )
        ),
        *(
            (
                [f"{key}={value}", f"kubeflow.volumes={{{volume}: claim}}", *others],
                f"{key} must be in one of kubeflow.volumes ({volume}) or in an object "
                f"store, got {value!r}: a folder of a container is lost with its pod; "
                f"set kubeflow.volumes={{FOLDER: CLAIM}}, or {key}={example}",
            )
            for key, example, others in (
                ("push.destination", "s3://bucket/serving", []),
                ("data.source", "s3://bucket/digits/span-{SPAN}", [DESTINATION]),
            )
            for value, volume in (
                ("/serving", "/data"),
                ("/data-not/x", "/data"),
                ("/data/../x", "/data/"),
                ("data/x", "/data"),
                ("file:///x/span-{SPAN}", "/data"),
            )
        ),
        (
            ["push.destination=/serving"],
            "push.destination must be in one of kubeflow.volumes (none is set) or",
        ),
        (["kubeflow.secrets={KEY: s3}"], "secrets.KEY must be secret/key, the names"),
        (
            [DESTINATION, "push.sign=env:SIGN_KEY"],
            "push.sign must be env:NAME with a NAME of kubeflow.secrets, or file:PATH",
        ),
        (
            [DESTINATION, "push.sign=file:/keys/a", "kubeflow.volumes={/data: claim}"],
            "in one of kubeflow.volumes, got 'file:/keys/a': containers have no",
        ),
        (
            [DESTINATION, "push.verify=env:KEY"],
            "push.sign must name the private key because push.verify is set, got ''",
        ),
    ],
)
def test_bad_settings_are_named(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        compile_package(tmp_path, *settings)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "destination"),
    [
        (["push.destination=/data", "data.source=/data/idx"], "/data/vae"),
        (["push.destination=/data/a/", "data.source=wheel"], "/data/a/vae"),
        (
            ["push.destination=file:///data/a", "data.source=/data/span-{SPAN}"],
            "file:///data/a/vae",
        ),
    ],
)
def test_local_folders_in_a_volume_are_kept(tmp_path, settings, destination):
    path = compile_package(tmp_path, *settings, "kubeflow.volumes={/data/: claim}")
    document, _ = yaml.safe_load_all(path.read_text())
    pusher = document["root"]["dag"]["tasks"]["pusher"]["inputs"]["parameters"]
    assert pusher["destination"]["runtimeValue"]["constant"] == destination


def test_bad_arguments_are_named(tmp_path):
    config = resolve("demo", settings=SETTINGS)
    with pytest.raises(ConfigError, match=r"must be a \.yaml file, got .*\.json"):
        compiler.compile_pipeline(config, str(tmp_path / "pipeline.json"), image=IMAGE)
    with pytest.raises(ConfigError, match=r"can't write .*: No such file or directory"):
        compile_package(tmp_path / "missing", *SETTINGS)
    with pytest.raises(ConfigError, match="the image must have a name such as"):
        compile_package(tmp_path, *SETTINGS, image="")


def test_the_keys_of_signatures_are_named_but_not_contained(tmp_path, monkeypatch):
    monkeypatch.setenv("SIGN_KEY", "canary-4711")
    path = compile_package(
        tmp_path,
        DESTINATION,
        "push.sign=env:SIGN_KEY",
        "push.verify=/data/key.pub",
        "push.signed_destination=models",
        "kubeflow.volumes={/data: claim}",
        "kubeflow.secrets={SIGN_KEY: signing/key}",
    )
    assert "canary-4711" not in path.read_text()
    document, _ = yaml.safe_load_all(path.read_text())
    tasks = document["root"]["dag"]["tasks"]
    named = {
        name: json.loads(
            tasks[name]["inputs"]["parameters"]["signing"]["runtimeValue"]["constant"]
        )
        for name in ("served-model", "pusher")
    }
    public = {"verify": "/data/key.pub", "signed_destination": "models"}
    assert named == {
        "served-model": {"sign": "", **public},
        "pusher": {"sign": "env:SIGN_KEY", **public},
    }
