"""The sections for data, gate, push and Kubeflow: valid values of each setting."""

import dataclasses

import pytest

from components.datasets import spans
from pipeline.config.loading import ConfigError, from_dict, resolve
from pipeline.config.sections import (
    DataConfig,
    GateConfig,
    KubeflowConfig,
    PushConfig,
    StepConfig,
)

STORES = ["minio", "s3", "gs"]


NAMES = {
    DataConfig: "data",
    GateConfig: "gate",
    PushConfig: "push",
    KubeflowConfig: "kubeflow",
}


def refusal(section, **settings):
    """Returns a section's error message about settings, without the section's name."""
    if section is StepConfig:
        message = refusal(KubeflowConfig, steps={"Trainer": settings})
        return message.removeprefix("steps.Trainer.")
    name = NAMES[section]
    with pytest.raises(ConfigError) as error:
        from_dict({name: settings})
    return str(error.value).removeprefix(f"{name}.")


@pytest.mark.parametrize(
    ("section", "settings", "message"),
    [
        (DataConfig, {"span_window": 0}, "span_window must be at least 1, got 0"),
        (DataConfig, {"elbo_fall": 0.0}, "elbo_fall must be above 0.0, got 0.0"),
        (DataConfig, {"elbo_fall": -8.0}, "elbo_fall must be above 0.0, got -8.0"),
        (DataConfig, {"eval_images": 0}, "eval_images must be at least 1, got 0"),
        (
            DataConfig,
            {"limit": 7, "eval_images": 7},
            "limit must be above eval_images (7), got 7",
        ),
        (
            DataConfig,
            {"span_window": 2, "source": "digits"},
            "span_window must be 1 without {SPAN} in source, got 2",
        ),
        (GateConfig, {"tolerance": -0.5}, "tolerance must be at least 0.0, got -0.5"),
        (GateConfig, {"confidence": 0.5}, "confidence must be above 0.5, got 0.5"),
        (GateConfig, {"confidence": 1.0}, "confidence must be below 1.0, got 1.0"),
        (
            GateConfig,
            {"class_tolerance": -0.5},
            "class_tolerance must be at least 0.0, got -0.5",
        ),
        (GateConfig, {"samples": 0}, "samples must be at least 1, got 0"),
        (GateConfig, {"seed": -1}, "seed must be at least 0, got -1"),
        (GateConfig, {"iwae_samples": 0}, "iwae_samples must be at least 1, got 0"),
        (GateConfig, {"infra_timeout": 0}, "infra_timeout must be at least 1, got 0"),
        (StepConfig, {"cpu": 0.0}, "cpu must be above 0.0, got 0.0"),
        (StepConfig, {"memory": 0.0}, "memory must be above 0.0, got 0.0"),
        (StepConfig, {"gpus": -1}, "gpus must be at least 0, got -1"),
        (
            KubeflowConfig,
            {"data_dir": "data"},
            "data_dir must be a folder of the container, from /, got 'data'",
        ),
        (
            KubeflowConfig,
            {"volumes": {"data": "claim"}},
            "volumes must be folders from /, got 'data'",
        ),
    ],
)
def test_a_bad_setting_is_named_with_what_was_expected(section, settings, message):
    assert refusal(section, **settings) == message


def test_a_release_keeps_the_defaults_of_the_one_before():
    """A new default changes the runs of other users, so CHANGELOG names the change."""
    assert dataclasses.asdict(DataConfig()) == {
        "dataset": "mnist",
        "source": "auto",
        "span_window": 1,
        "accept_drift": False,
        "elbo_fall": 8.0,
        "eval_images": 5_000,
        "limit": None,
    }
    assert dataclasses.asdict(GateConfig()) == {
        "elbo_floor": -100.0,
        "tolerance": 0.5,
        "confidence": 0.95,
        "class_tolerance": None,
        "samples": 4,
        "seed": 0,
        "iwae_samples": 64,
        "infra_timeout": 1_800,
    }
    assert dataclasses.asdict(PushConfig()) == {
        "model_name": "vae",
        "destination": "",
        "single_writer": False,
        "sign": "",
        "verify": "",
        "signed_destination": "",
    }
    assert dataclasses.asdict(StepConfig()) == {
        "cpu": 2.0,
        "memory": 4.0,
        "gpus": 0,
        "gpu_type": "nvidia.com/gpu",
        "node_selector": {},
    }
    assert dataclasses.asdict(KubeflowConfig()) == {
        "pipeline_root": "",
        "data_dir": "/tmp/data",  # noqa: S108, in a container
        "checkpoints": "",
        "steps": {},
        "volumes": {},
        "secrets": {},
    }


def test_the_least_values_that_can_be():
    assert GateConfig(tolerance=0, samples=1, seed=0, iwae_samples=1, infra_timeout=1)
    assert GateConfig(confidence=0.51, class_tolerance=0)
    assert DataConfig(span_window=1, eval_images=1, limit=2, elbo_fall=5e-324)
    assert StepConfig(cpu=0.1, memory=0.1, gpus=0)


@pytest.mark.parametrize("floor", [float("nan"), float("inf"), -float("inf")])
def test_a_floor_that_refuses_every_or_no_model_is_an_error(floor):
    message = refusal(GateConfig, elbo_floor=floor)
    assert message.startswith("elbo_floor must be a finite number")


# Data.


def test_many_spans_are_read_of_a_source_of_spans_alone():
    config = DataConfig(source=f"digits/span-{spans.PLACEHOLDER}", span_window=3)
    assert config.span_window == 3


def test_a_source_of_spans_is_checked():
    assert refusal(DataConfig, source="{SPAN}/digits").startswith(
        "source must have {SPAN} once, in its last part"
    )


# Paths.


@pytest.mark.parametrize(
    ("section", "field"), [(DataConfig, "source"), (PushConfig, "destination")]
)
def test_the_home_of_an_unknown_user_is_refused(section, field):
    message = refusal(section, **{field: "~no-such-user/digits"})
    assert message.startswith(f"{field}: ")
    assert "~no-such-user" in message


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        (PushConfig, "model_name", "vae[1]"),
        (PushConfig, "destination", "/serving/*"),
        (PushConfig, "destination", "s3://bucket/a?"),
        (KubeflowConfig, "pipeline_root", "s3://bucket/a*"),
        (KubeflowConfig, "checkpoints", "s3://bucket/a*"),
        (KubeflowConfig, "data_dir", "/data/*"),
    ],
)
def test_a_path_that_libraries_would_take_as_a_pattern_is_refused(
    section, field, value
):
    message = refusal(section, **{field: value})
    assert message.startswith(f"{field} must be a path without *, ?, [ and ")
    assert repr(value) in message


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "a\\b", "a\nb", "", "vae "])
def test_a_models_name_is_a_folder_name(name):
    message = f"model_name must be a plain folder name, got {name!r}"
    assert refusal(PushConfig, model_name=name) == message


@pytest.mark.parametrize("name", ["vae", "my vae", "vae.2", "Ziffern-\u00e4"])
def test_other_names_are_good_for_a_model(name):
    assert PushConfig(model_name=name).resolve_versions_folder("/s") == f"/s/{name}"


@pytest.mark.parametrize(
    ("destination", "versions"),
    [
        ("", "/runs/serving/vae"),
        ("/models/", "/models/vae"),
        ("models", "models/vae"),
        ("file:///models", "file:///models/vae"),
        ("minio://bucket/models", "minio://bucket/models/vae"),
        ("s3://bucket/models/", "s3://bucket/models/vae"),
        ("gs://bucket", "gs://bucket/vae"),
        ("/models/../others", "/models/../others/vae"),
        ("file:///", "file:///vae"),
        ("/", "/vae"),
        ("./s3:/models", "./s3:/models/vae"),
    ],
)
def test_versions_are_below_the_destination_or_else_below_the_root(
    destination, versions
):
    assert (
        PushConfig(destination=destination).resolve_versions_folder("/runs/serving")
        == versions
    )


@pytest.mark.parametrize("uri", ["hdfs://host/serving", "S3://bucket/a", "://a"])
def test_a_destination_of_another_scheme_is_refused(uri):
    assert refusal(PushConfig, destination=uri).startswith(
        "destination must be a folder or begin with minio://, s3://, gs://, "
        f"got {uri!r}: "
    )


@pytest.mark.parametrize("scheme", STORES)
@pytest.mark.parametrize("rest", ["bucket/../other", "bucket/./a", ".."])
def test_a_uri_must_not_lead_out_of_its_folder(scheme, rest):
    uri = f"{scheme}://{rest}"
    for section, field in (
        (PushConfig, "destination"),
        (KubeflowConfig, "pipeline_root"),
        (KubeflowConfig, "checkpoints"),
    ):
        message = f"{field} must have no . or .. in it, got {uri!r}"
        assert refusal(section, **{field: uri}) == message


def test_the_containers_data_folder_must_have_no_dots():
    message = "data_dir must have no . or .. in it, got '/data/../etc'"
    assert refusal(KubeflowConfig, data_dir="/data/../etc") == message


# Kubeflow.


def test_a_volumes_folder_must_have_no_dots():
    message = "volumes must have no . or .. in it, got '/data/../etc'"
    assert refusal(KubeflowConfig, volumes={"/data/../etc": "claim"}) == message


@pytest.mark.parametrize("root", ["/runs", "runs", "s3:/bucket", "hdfs://a/b"])
def test_a_pipeline_root_that_pods_do_not_share_is_refused(root):
    assert refusal(KubeflowConfig, pipeline_root=root).startswith(
        "pipeline_root must begin with minio://, s3://, gs:// or be empty, got "
        f"{root!r}"
    )


@pytest.mark.parametrize("scheme", STORES)
def test_a_pipeline_root_and_checkpoints_may_be_in_each_store(scheme):
    uri = f"{scheme}://bucket/vae"
    config = KubeflowConfig(pipeline_root=uri, checkpoints=uri)
    assert (config.pipeline_root, config.checkpoints) == (uri, uri)


@pytest.mark.parametrize("folder", ["/kept", "/kept/", "/kept/vae/1"])
@pytest.mark.parametrize("volume", ["/kept", "/kept/"])
def test_checkpoints_may_be_in_a_volume(folder, volume):
    config = KubeflowConfig(checkpoints=folder, volumes={volume: "claim"})
    assert config.checkpoints == folder


@pytest.mark.parametrize("folder", ["/kept-not", "/", "kept"])
def test_checkpoints_that_a_pod_would_lose_are_refused(folder):
    assert refusal(KubeflowConfig, checkpoints=folder, volumes={"/kept": "claim"}) == (
        "checkpoints must begin with minio://, s3://, gs://, be in one of volumes or "
        f"be empty, got {folder!r}"
    )


@pytest.mark.parametrize("source", ["secret", "a/b/c", "/key", "secret/", ""])
def test_a_secret_is_named_with_its_key(source):
    message = (
        "secrets.TOKEN must be secret/key, the names of a secret of Kubernetes and of "
        "its key, got something else, which might be the secret itself and is not shown"
    )
    assert refusal(KubeflowConfig, secrets={"TOKEN": source}) == message
    assert KubeflowConfig(secrets={"TOKEN": "secret/key"}).secrets


def test_a_step_with_an_unknown_field_is_refused():
    message = r"^unknown setting kubeflow.steps.Trainer.gpu \(1\)"
    with pytest.raises(ConfigError, match=message):
        resolve("smoke", settings=["kubeflow.steps={Trainer: {gpu: 1}}"])


def test_a_model_name_that_is_too_long_for_a_folder_is_refused():
    assert PushConfig(model_name="é" * 60).model_name
    message = "model_name must have at most 60 characters, got 5,000"
    assert refusal(PushConfig, model_name="a" * 5_000) == message


@pytest.mark.parametrize(
    ("setting", "most"),
    [("notify.timeout=86401", 86_400), ("gate.infra_timeout=604801", 604_800)],
)
def test_a_time_that_no_system_call_can_wait_is_refused(setting, most):
    key = setting.partition("=")[0]
    with pytest.raises(ConfigError, match=f"^{key} must be at most {most}(.0)?, got "):
        resolve("smoke", settings=[setting])
    assert resolve("smoke", settings=[f"{key}={most}"])
