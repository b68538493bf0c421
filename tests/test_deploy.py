"""The manifests in deploy/: valid Kubernetes, restricted, and able to run."""

import os
import pathlib
import subprocess
import sys

import kubernetes_validate
import pytest
import yaml

from components.registry.manifest import Manifest
from tests.support.places import FILES, write_model
from tests.support.pushes import push_next

ROOT = pathlib.Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
SERVING = ["tf-serving.yaml", "tf-serving-s3.yaml"]

# The fields that KServe documents for the model of an InferenceService, and the fields
# that deploy/ uses of a container. Source:
# https://kserve.github.io/website/docs/reference/crd-api, ModelSpec.
MODEL_FIELDS = {
    *("modelFormat", "protocolVersion", "runtime", "runtimeVersion", "storageUri"),
    *("resources", "readinessProbe", "securityContext"),
}


def documents(name):
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def of_kind(name, kind):
    (found,) = [each for each in documents(name) if each["kind"] == kind]
    return found


def containers(name):
    pod = of_kind(name, "Deployment")["spec"]["template"]["spec"]
    return [*pod.get("initContainers", []), *pod["containers"]]


def test_every_manifest_is_tested():
    assert {path.name for path in DEPLOY.glob("*.yaml")} == {*SERVING, "kserve.yaml"}


@pytest.mark.parametrize("name", [*SERVING, "kserve.yaml"])
def test_it_is_valid_kubernetes(name):
    own = [each for each in documents(name) if "kserve" not in each["apiVersion"]]
    assert own
    for document in own:
        kubernetes_validate.validate(document, "1.29", strict=True)


def test_the_validator_finds_what_is_wrong():
    document = of_kind("tf-serving.yaml", "Deployment")
    document["spec"]["template"]["spec"]["containers"][0]["livenessprobe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, "1.29", strict=True)


@pytest.mark.parametrize("name", SERVING)
def test_nothing_runs_as_root_or_without_bounds(name):
    pod = of_kind(name, "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in containers(name):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        for bound in ("requests", "limits"):
            assert set(container["resources"][bound]) == {"cpu", "memory"}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert probe in pod["containers"][0]


@pytest.mark.parametrize("name", SERVING)
def test_the_parts_fit(name):
    deployment, service = of_kind(name, "Deployment"), of_kind(name, "Service")
    template = deployment["spec"]["template"]
    labels = template["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert service["spec"]["selector"].items() <= labels.items()
    (server,) = template["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in server["ports"]}
    assert {p["targetPort"]: p["port"] for p in service["spec"]["ports"]} == ports
    assert f"--rest_api_port={ports['http']}" in server["args"]
    mounts = [mount["mountPath"] for mount in server["volumeMounts"]]
    (base,) = [arg for arg in server["args"] if arg.startswith("--model_base_path=")]
    assert base.partition("=")[2] in mounts
    volumes = {volume["name"] for volume in template["spec"]["volumes"]}
    for container in containers(name):
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes


def test_what_the_init_container_runs(s3, tmp_path):
    """The text is that of the manifest: it copies S3 to TensorFlow Serving's folder."""
    uri = f"s3://{s3.name}/serving/vae"
    pushed = push_next(
        write_model(tmp_path / "model"),
        destination=uri,
        manifest=Manifest.from_content({}),
    )
    copy, _ = containers("tf-serving-s3.yaml")
    assert {"DESTINATION", "MODELS"} == {each["name"] for each in copy["env"]}
    models = tmp_path / "models"
    models.mkdir()
    environment = {**os.environ, "DESTINATION": uri, "MODELS": str(models)}

    def run():
        return subprocess.run(
            [sys.executable, *copy["command"][1:], *copy["args"]],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    done = run()
    assert done.returncode == 0, done.stderr
    assert f"copied {pushed.path}" in done.stdout
    found = {
        str(path.relative_to(models / str(pushed.number))): path.read_bytes()
        for path in (models / str(pushed.number)).rglob("*")
        if path.is_file()
    }
    assert found == FILES
    environment["DESTINATION"] = f"{uri}/elsewhere"
    done = run()
    assert done.returncode == 1
    assert f"nothing is served at {uri}/elsewhere" in done.stderr


def test_the_inference_service_is_as_kserve_documents_it():
    service = of_kind("kserve.yaml", "InferenceService")
    assert service["apiVersion"] == "serving.kserve.io/v1beta1"
    assert set(service) == {"apiVersion", "kind", "metadata", "spec"}
    predictor = service["spec"]["predictor"]
    account, secret = (
        of_kind("kserve.yaml", kind) for kind in ("ServiceAccount", "Secret")
    )
    assert predictor["serviceAccountName"] == account["metadata"]["name"]
    assert account["secrets"] == [{"name": secret["metadata"]["name"]}]
    assert set(secret["stringData"].values()) == {""}  # no credentials in git
    model = predictor["model"]
    assert set(model) == MODEL_FIELDS
    assert model["modelFormat"] == {"name": "tensorflow", "version": "2"}
    assert model["protocolVersion"] == "v1"
    assert not model["storageUri"].rpartition("/")[2].isdecimal()
    # KServe makes a pod of the predictor, and its container of the model.
    pod = {key: predictor[key] for key in ("serviceAccountName", "securityContext")}
    container = {"name": "kserve-container", "image": "tensorflow/serving:2.18.0"}
    container |= {
        key: model[key] for key in ("resources", "readinessProbe", "securityContext")
    }
    as_pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": service["metadata"],
        "spec": {**pod, "containers": [container]},
    }
    kubernetes_validate.validate(as_pod, "1.29", strict=True)
