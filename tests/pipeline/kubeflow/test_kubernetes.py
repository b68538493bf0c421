"""The Kubernetes settings of steps: names, resources, volumes and secrets."""

import re

import pytest
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from pipeline.config.loading import resolve
from pipeline.kubeflow import kubernetes
from tests.support.graph_steps import STEPS
from tests.support.packages import DESTINATION, SETTINGS

# https://kubernetes.io/docs/concepts/overview/working-with-objects/names/: RFC 1123
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")

# The form that kfp-kubernetes writes.
ACCESS = {
    "pvcMount": [{"constant": "datasets", "mountPath": "/data"}],
    "secretAsEnv": [
        {
            "secretName": "s3",
            "keyToEnv": [{"envVar": "AWS_ACCESS_KEY_ID", "secretKey": "key"}],
        },
        {
            "secretName": "s3",
            "keyToEnv": [{"envVar": "AWS_SECRET_ACCESS_KEY", "secretKey": "secret"}],
        },
    ],
}


def config(*settings):
    return resolve("demo", settings=[*SETTINGS, *settings])


@pytest.mark.parametrize(
    ("step", "name"),
    [
        ("StatisticsGen", "statistics-gen"),
        ("ImportSchemaGen", "import-schema-gen"),
        ("Ingest", "ingest"),
    ],
)
def test_a_steps_name_on_kubernetes_has_hyphens_for_capitals(step, name):
    assert kubernetes.make_task_name(step) == name


def test_every_steps_name_is_one_that_kubernetes_takes():
    names = {kubernetes.make_task_name(step) for step in STEPS}
    assert len(names) == len(STEPS)
    assert [name for name in names if not LABEL.fullmatch(name)] == []


def test_a_steps_resources_are_its_own_settings():
    resources = kubernetes.make_container_resources(config().kubeflow, "Trainer")
    assert (resources.cpu_limit, resources.memory_limit) == (8.0, 16.5)
    assert resources.accelerator.type == "amd.com/gpu"
    assert resources.accelerator.count == 2


def test_a_step_without_settings_gets_the_default_ones():
    resources = kubernetes.make_container_resources(config().kubeflow, "Pusher")
    assert (resources.cpu_limit, resources.memory_limit) == (0.5, 3.0)
    assert not resources.HasField("accelerator")


def test_a_step_gets_the_documented_resources_by_default():
    kubeflow = resolve("demo", settings=[DESTINATION]).kubeflow
    resources = kubernetes.make_container_resources(kubeflow, "Trainer")
    assert (resources.cpu_limit, resources.memory_limit) == (2.0, 4.0)
    assert not resources.HasField("accelerator")


def test_only_the_steps_that_leave_kfp_get_volumes_and_secrets():
    kubeflow = config().kubeflow
    fields = {
        step: kubernetes.make_pod_settings(kubeflow, step).to_json() for step in STEPS
    }
    assert {step: each for step, each in fields.items() if each} == {
        **dict.fromkeys(("Ingest", "ServedModel", "Pusher"), ACCESS),
        "Trainer": {"nodeSelector": {"labels": {"pool": "gpu"}}},
    }


def test_a_trainer_with_checkpoints_gets_volumes_and_secrets():
    kubeflow = config("kubeflow.checkpoints=s3://models/checkpoints").kubeflow
    assert kubernetes.make_pod_settings(kubeflow, "Trainer").to_json() == {
        "nodeSelector": {"labels": {"pool": "gpu"}},
        **ACCESS,
    }
    assert kubernetes.make_pod_settings(kubeflow, "Evaluator").to_json() == {}


def test_a_secret_is_a_variable_of_a_secrets_key():
    (first, _) = kubernetes.make_pod_settings(config().kubeflow, "Ingest").secrets
    assert first == kubernetes.SecretVariable(
        variable="AWS_ACCESS_KEY_ID", secret="s3", key="key"
    )


def test_kfp_reads_the_document_for_kubernetes():
    (document,) = kubernetes.make_platform_documents(config(), ["Ingest", "Trainer"])
    json_format.ParseDict(document, pipeline_spec_pb2.PlatformSpec())  # strict
    executors = document["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert executors == {
        "exec-ingest": ACCESS,
        "exec-trainer": {"nodeSelector": {"labels": {"pool": "gpu"}}},
    }


def test_without_kubernetes_settings_there_is_no_document():
    assert kubernetes.make_platform_documents(config(), ["Evaluator"]) == []
    least = resolve("demo", settings=[DESTINATION])
    assert kubernetes.make_platform_documents(least, sorted(STEPS)) == []
