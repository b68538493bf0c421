"""The Pusher's decisions, with real exports and a real evaluation."""

import dataclasses
import functools
import hashlib
import json
import math
import os
import pathlib
import platform
import shutil
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras as tfk
import tfx
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from components.evaluation.scores import ScoresError
from components.model_scores import score_images
from components.pusher import Pusher
from components.registry import listing, publish, rolling_back
from components.registry.manifest import Manifest
from components.registry.signing import NoSigningKeyError, SigningSettings
from components.served_model import ServedModel
from tests.support import evaluations, transformed
from tests.support.pushes import push_next
from tests.support.signing_keys import write_pair

ROOT = pathlib.Path(__file__).parents[2]
PROVENANCE = {
    "run_key": "0123",
    "config": {"model": {}, "gate": {"samples": 2, "seed": 0}},
}
SPANS = [{"span": 7, "fingerprint": "of its data"}]
STATISTICS = b"of the train split"

# Exports a VAE to argv[1], after tracing argv[2] other functions.
EXPORT = """
import sys
import numpy as np
from model import export
from model.vae import VAE
from tests.support.configs import demo_model
import tensorflow as tf

for i in range(int(sys.argv[2])):
    tf.function(lambda x: x + i).get_concrete_function(tf.TensorSpec([]))
vae = VAE(demo_model(hidden_units=8, latent_size=2))
rng = np.random.default_rng(0)
vae.set_weights([rng.normal(0, 0.1, weight.shape) for weight in vae.get_weights()])
export.export(vae, sys.argv[1], samples=2, seed=0)
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Returns a VAE `one`, the `same` from another process, and an `other` VAE."""
    root = tmp_path_factory.mktemp("models")
    models = {}
    for name in ("one", "same", "other"):
        models[name] = standard_artifacts.Model()
        models[name].uri = str(root / name)
    paths = {name: path_utils.serving_model_dir(m.uri) for name, m in models.items()}
    arguments = [[paths["one"], "0"], [paths["same"], "9"]]
    processes = [
        subprocess.Popen([sys.executable, "-c", EXPORT, *more], cwd=ROOT)
        for more in arguments
    ]
    assert [process.wait() for process in processes] == [0, 0]
    other = tf.Module()
    other.weights = tf.Variable([0.0])
    tf.saved_model.save(other, paths["other"])
    return models


@pytest.fixture(scope="module")
def serialized():
    """Returns 40 serialized examples in Transform's format."""
    rng = np.random.default_rng(0)
    records = []
    for i in range(40):
        bits = rng.integers(0, 2, 784)
        records.append(transformed.example(bits, bits, i % 10))
    return records


@pytest.fixture(scope="module")
def scored(tmp_path_factory, models, serialized):
    """Returns the scores of the model `one`."""
    path = str(tmp_path_factory.mktemp("scored") / "transformed_examples.gz")
    with tf.io.TFRecordWriter(path, "GZIP") as writer:
        for record in serialized:
            writer.write(record)
    folder = path_utils.serving_model_dir(models["one"].uri)
    return score_images(tf.saved_model.load(folder).signatures, [path])


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, models, scored):
    """Returns the Evaluator's outputs for the model `one`."""
    root = tmp_path_factory.mktemp("evaluated")
    return evaluations.evaluate(
        *(root, scored, None), model=models["one"], elbo_floor=-1000, tolerance=1
    )


@pytest.fixture(scope="module")
def scores(tmp_path_factory, scored):
    """Returns CandidateScores' output for the model `one`."""
    return evaluations.write_scores(tmp_path_factory.mktemp("scores") / "one", scored)


@pytest.fixture
def destination(tmp_path):
    return str(tmp_path / "serving")


@pytest.fixture
def push(models, evaluated, scores, destination, tmp_path):
    """Returns a function that runs the Pusher and returns its PushedModel."""

    def push(
        name,
        blessed=True,
        infra_blessed=True,
        destination=destination,
        meanwhile=lambda: None,
        provenance=PROVENANCE,
        scores=scores,
        signing="{}",
    ):
        baseline = standard_artifacts.Model()
        baseline.uri = str(tmp_path / "baseline")
        shutil.rmtree(baseline.uri, ignore_errors=True)
        ServedModel.test_call(
            model=baseline, destination=destination, fingerprint="", signing=signing
        )
        meanwhile()
        blessing = evaluated["blessing"]
        if not blessed:
            blessing = standard_artifacts.ModelBlessing()
            blessing.set_int_custom_property("blessed", 0)
        infra_blessing = standard_artifacts.InfraBlessing()
        infra_blessing.set_int_custom_property("blessed", int(infra_blessed))
        infra_blessing.set_string_custom_property("reason", "no answer")
        examples = standard_artifacts.Examples()
        examples.set_string_custom_property("fingerprint", "of the data")
        examples.set_string_custom_property("spans", json.dumps(SPANS))
        report = standard_artifacts.ExampleStatistics()
        report.uri = str(tmp_path / "report")
        os.makedirs(report.uri, exist_ok=True)
        pathlib.Path(report.uri, "statistics.pb").write_bytes(STATISTICS)
        pushed = standard_artifacts.PushedModel()
        pushed.uri = str(tmp_path / "pushed_model")
        os.makedirs(pushed.uri, exist_ok=True)
        Pusher.test_call(
            model=models[name],
            blessing=blessing,
            infra_blessing=infra_blessing,
            evaluation=evaluated["evaluation"],
            scores=scores,
            baseline=baseline,
            examples=examples,
            data_report=report,
            pushed_model=pushed,
            destination=destination,
            provenance=json.dumps(provenance),
            single_writer=0,
            signing=signing,
        )
        return pushed

    return push


def numbers(destination):
    if not os.path.isdir(destination):
        return []
    return sorted(int(name) for name in os.listdir(destination) if name.isdecimal())


def files_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in pathlib.Path(folder).rglob("*")
        if path.is_file()
    }


def assert_not_pushed(pushed):
    assert pushed.get_int_custom_property("pushed") == 0
    assert not pushed.has_custom_property("pushed_destination")
    assert not pushed.has_custom_property("pushed_version")


@pytest.mark.parametrize(
    ("blessed", "infra_blessed"), [(False, True), (True, False), (False, False)]
)
def test_a_model_without_both_blessings_is_not_pushed(
    push, destination, blessed, infra_blessed
):
    assert_not_pushed(push("one", blessed, infra_blessed))
    assert not os.path.exists(destination)


@pytest.mark.parametrize("left_out", ["gate", "model"])
def test_a_model_of_unknown_settings_is_not_pushed(push, destination, left_out):
    config = {k: v for k, v in PROVENANCE["config"].items() if k != left_out}
    provenance = {**PROVENANCE, "config": config}
    with pytest.raises(ValueError) as error:  # noqa: PT011, compared below
        push("one", provenance=provenance)
    assert str(error.value) == (
        "provenance must have the settings gate and model, got "
        f"{json.dumps(provenance)}"
    )
    assert not os.path.exists(destination)


def test_a_blessed_model_is_pushed(push, models, destination):
    pushed = push("one")
    [number] = numbers(destination)
    path = os.path.join(destination, str(number))
    assert pushed.get_int_custom_property("pushed") == 1
    assert pushed.get_string_custom_property("pushed_version") == str(number)
    assert pushed.get_string_custom_property("pushed_destination") == path
    files = files_of(path)
    del files["MANIFEST.json"]
    assert files.pop("assets.extra/statistics.pb") == STATISTICS
    assert files == files_of(path_utils.serving_model_dir(models["one"].uri))
    listing.verify_version(listing.find_served_version(destination))


def test_the_manifest_names_the_origin_of_a_model(
    push, models, destination, serialized
):
    push("one")
    manifest = listing.find_served_version(destination).manifest.content
    model_dir = path_utils.serving_model_dir(models["one"].uri)
    signature = tf.saved_model.load(model_dir).signatures["elbo_examples"]
    scored = signature(examples=tf.constant(serialized))
    terms = {
        key: pytest.approx(np.mean(value, dtype=np.float64), rel=1e-6)
        for key, value in scored.items()
    }
    assert manifest["elbo"] == {
        **terms,
        # Of white images, as many as in training.
        "independent_pixels": pytest.approx(784 * np.log(41 / 42), rel=1e-6),
        "standard_error": pytest.approx(scipy.stats.sem(scored["elbo"]), rel=1e-6),
        "unit": "nats per image",
        "split": "test",
        "images": 40,
    }
    assert manifest["baseline"] is None
    assert manifest["data_fingerprint"] == "of the data"
    assert manifest["spans"] == SPANS
    assert {key: manifest[key] for key in PROVENANCE} == PROVENANCE
    assert manifest["stack"] == {
        "python": platform.python_version(),
        "tfx": tfx.__version__,
        "tensorflow": tf.__version__,
        "tf-keras": tfk.__version__,
        "tensorflow-probability": tfp.__version__,
        "vae-pipeline": "0.1.0",
    }


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_an_error_that_is_not_finite_is_none_in_the_manifest(
    push, scored, destination, tmp_path, bad
):
    """Else its JSON would not be valid."""
    odd = dataclasses.replace(scored, elbo=np.full(40, bad))
    push("one", scores=evaluations.write_scores(tmp_path / "odd", odd))
    manifest = listing.find_served_version(destination).manifest
    assert manifest.content["elbo"]["standard_error"] is None
    assert manifest.standard_error is None


def test_scores_that_are_lost_are_named(push, destination):
    with pytest.raises(ScoresError) as error:
        push("one", scores=standard_artifacts.Examples())
    assert str(error.value) == (
        "the candidate must have scores, CandidateScores found no model: run the "
        "Trainer again"
    )
    assert not os.path.exists(destination)


def pushed_by_another(models, name, destination, **manifest):
    """Returns a function that pushes a version while a run is in progress."""
    folder = path_utils.serving_model_dir(models[name].uri)
    return lambda: push_next(
        folder, destination=destination, manifest=Manifest.from_content(manifest)
    )


@pytest.mark.parametrize("served_before", [False, True])
def test_a_version_pushed_during_the_run_is_not_replaced(
    push, models, destination, served_before
):
    """The gate has not compared this model with the version pushed meanwhile."""
    meanwhile = pushed_by_another(models, "other", destination, run_key="another")
    if served_before:
        meanwhile()
    before = numbers(destination)
    pushed = push("one", meanwhile=meanwhile)
    assert_not_pushed(pushed)
    assert len(numbers(destination)) == len(before) + 1
    newest = numbers(destination)[-1]
    against = f"version {before[-1]}" if served_before else "nothing"
    assert verdict(pushed)["refusals"] == [
        f"version {newest} is served now, but this model was compared with "
        f"{against}: the next run compares its model with version {newest}"
    ]
    push("one")  # the gate has measured the model again
    assert numbers(destination)[-1] > newest


def test_a_version_pushed_after_the_pushers_own_check_is_not_replaced(
    push, models, destination, monkeypatch
):
    meanwhile = pushed_by_another(models, "other", destination, run_key="another")
    original = publish.publish_version

    def publish_late(*arguments, **options):
        monkeypatch.setattr(publish, "publish_version", original)
        meanwhile()
        return original(*arguments, **options)

    monkeypatch.setattr(publish, "publish_version", publish_late)
    pushed = push("one")
    assert_not_pushed(pushed)
    [newest] = numbers(destination)
    assert verdict(pushed)["refusals"] == [
        f"version {newest} is served now, but this model was compared with nothing: "
        f"the next run compares its model with version {newest}"
    ]


def test_a_baseline_removed_during_the_run_stops_the_push(push, models, destination):
    """A user may remove a version by hand, which is a rollback too."""
    for name in ("other", "same"):
        pushed_by_another(models, name, destination, run_key=name)()
    first, second = numbers(destination)
    folder = os.path.join(destination, str(second))
    pushed = push("one", meanwhile=functools.partial(shutil.rmtree, folder))
    assert_not_pushed(pushed)
    assert numbers(destination) == [first]
    assert verdict(pushed)["refusals"] == [
        f"version {first} is served now, but this model was compared with "
        f"version {second}: the next run compares its model with version {first}"
    ]


def test_a_rollback_during_the_run_in_an_object_store_is_kept(push, models, s3):
    uri = f"s3://{s3.name}/serving/vae"
    for name in ("other", "same"):
        pushed_by_another(models, name, uri, run_key=name)()
    served = listing.find_served_version(uri)
    pushed = push(
        "one",
        destination=uri,
        meanwhile=lambda: rolling_back.roll_back(uri, None, why="blurred"),
    )
    assert_not_pushed(pushed)
    again = listing.find_served_version(uri)
    assert again.manifest.content["run_key"] == "other"
    assert verdict(pushed)["refusals"] == [
        f"version {again.number} is served now, but this model was compared with "
        f"version {served.number}: the next run compares its model with version "
        f"{again.number}"
    ]


def test_a_version_of_the_same_inputs_is_enough(push, models, destination):
    """A model of the same inputs is not known to be better than the served one."""
    meanwhile = pushed_by_another(
        models, "other", destination, run_key=PROVENANCE["run_key"]
    )
    pushed = push("one", meanwhile=meanwhile)
    assert_not_pushed(pushed)
    assert verdict(pushed)["refusals"] == []


def verdict(pushed):
    return json.loads(
        pathlib.Path(pushed.uri, "VERDICT.json").read_text(encoding="utf-8")
    )


def test_the_gate_result_is_written_to_a_file_for_readers_without_metadata(
    push, destination
):
    pushed = push("one")
    version = listing.find_served_version(destination)
    assert verdict(pushed) == {
        "refusals": [],
        "elbo": version.manifest.content["elbo"]["elbo"],
        "baseline_elbo": None,
        "estimate": "the evidence lower bound, 2 samples of z per image, fixed "
        "binarization, seed 0, 40 images of the test split",
        "pushed": version.path,
        "difference": None,
        "independent_pixels": pytest.approx(784 * np.log(41 / 42), rel=1e-6),
    }
    again = verdict(push("one", infra_blessed=False))
    assert again["refusals"] == ["InfraCheck: no answer"]
    assert again["pushed"] is None


def test_the_manifest_names_the_baseline(push, models, destination):
    push("one")
    [first] = numbers(destination)
    push("other")
    files = files_of(path_utils.serving_model_dir(models["one"].uri))
    files["assets.extra/statistics.pb"] = STATISTICS
    lines = [
        f"{hashlib.sha256(data).hexdigest()}  {name}\n"
        for name, data in sorted(files.items())
    ]
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    manifest = listing.find_served_version(destination).manifest.content
    assert manifest["baseline"] == {"version": first, "digest": digest}


def test_a_model_is_pushed_once(push, destination):
    push("one")
    assert_not_pushed(push("one"))
    assert len(numbers(destination)) == 1


def test_an_export_by_another_process_is_the_same_model(push, models, destination):
    one, same = (
        files_of(path_utils.serving_model_dir(models[name].uri))
        for name in ("one", "same")
    )
    assert (
        one["saved_model.pb"] != same["saved_model.pb"]
    )  # the functions have other numbers
    push("one")
    assert_not_pushed(push("same"))
    assert len(numbers(destination)) == 1


def test_an_object_store_is_pushed_to(push, s3):
    uri = f"s3://{s3.name}/serving/vae"
    pushed = push("one", destination=uri)
    version = listing.find_served_version(uri)
    listing.verify_version(version)
    assert pushed.get_string_custom_property("pushed_version") == str(version.number)
    assert pushed.get_string_custom_property("pushed_destination") == (
        f"{uri}/{version.number}"
    )
    assert_not_pushed(push("same", destination=uri))
    other = push("other", destination=uri)
    manifest = listing.find_served_version(uri).manifest.content
    assert manifest["baseline"] == {"version": version.number, "digest": version.digest}
    assert other.get_int_custom_property("pushed") == 1


def test_another_model_is_a_version_more(push, destination):
    assert [push(name).get_int_custom_property("pushed") for name in ("one", "other")]
    first, second = numbers(destination)
    assert listing.find_served_version(destination).number == second > first


def test_a_model_is_pushed_again_when_another_took_its_place(push, destination):
    for name in ("one", "other", "one"):
        assert push(name).get_int_custom_property("pushed") == 1
    assert len(numbers(destination)) == 3


def test_after_a_rollback_what_is_served_counts(push, destination):
    push("one")
    push("other")
    shutil.rmtree(listing.find_served_version(destination).path)
    assert_not_pushed(push("one"))
    assert push("other").get_int_custom_property("pushed") == 1


def test_a_rejected_model_is_never_pushed_again(push, destination):
    """This also holds for a new export by another process, and after its removal."""
    push("other")
    push("one")
    again = rolling_back.roll_back(destination, None, why="blurred")
    [record] = rolling_back.read_rejected_models(destination)
    reason = f"this model must not be served again: {record.describe()}"
    for name in ("one", "same"):
        pushed = push(name)
        assert_not_pushed(pushed)
        assert pushed.get_string_custom_property("rejection") == reason
        assert verdict(pushed)["refusals"] == [reason]
        assert verdict(pushed)["pushed"] is None
    assert_not_pushed(other := push("other"))  # the served model
    assert verdict(other)["refusals"] == []
    first, second, third = numbers(destination)
    assert third == again.number
    for number in (first, second):
        shutil.rmtree(os.path.join(destination, str(number)))
    assert_not_pushed(push("one"))
    shutil.rmtree(again.path)
    assert_not_pushed(push("one"))
    assert push("other").get_int_custom_property("pushed") == 1


def test_a_rejected_model_of_an_object_store(push, s3):
    uri = f"s3://{s3.name}/serving/vae"
    for name in ("other", "one"):
        push(name, destination=uri)
    rolling_back.roll_back(uri, None, why="blurred")
    assert_not_pushed(pushed := push("same", destination=uri))
    [reason] = verdict(pushed)["refusals"]
    assert "(blurred)" in reason


def test_a_damaged_version_is_not_a_baseline(push, destination):
    push("other")
    push("one")
    first, second = numbers(destination)
    pathlib.Path(destination, str(second), "saved_model.pb").write_bytes(b"damage")
    assert push("one").get_int_custom_property("pushed") == 1
    version = listing.find_served_version(destination)
    assert version.number > second
    assert version.manifest.content["baseline"]["version"] == first


def test_a_version_is_signed_and_an_unsigned_one_is_no_baseline(
    push, destination, tmp_path
):
    pair = write_pair(tmp_path / "keys", "key")
    push("one")
    pushed = push("one", signing=pair.to_json())
    verifier = pair.load_verifier(destination)
    served = listing.find_served_version(destination, verifier=verifier)
    assert pushed.get_string_custom_property("pushed_version") == str(served.number)
    assert numbers(destination)[1:] == [served.number]


def test_without_the_private_key_nothing_is_pushed(push, destination, tmp_path):
    pair = write_pair(tmp_path / "keys", "key")
    signing = SigningSettings(verify=pair.verify).to_json()
    with pytest.raises(NoSigningKeyError, match="push.sign must name the private key"):
        push("one", signing=signing)
    assert numbers(destination) == []
