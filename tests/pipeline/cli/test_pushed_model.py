"""The search of the commands for the pushed model that they use."""

import os
import shutil

import pytest

from components.evaluation.estimate import Bound, Estimate
from components.registry.listing import Version
from components.registry.manifest import Manifest
from components.registry.signed_version import InvalidSignatureError
from pipeline.cli import pushed_model
from pipeline.cli.pushed_model import PushedModel, PushedModelError
from tests.support.pushed_model import assert_fails
from tests.support.signing_keys import write_pair
from tests.support.version_root import VersionRoot


def pushed(config):
    manifest = Manifest.from_content({"config": config})
    version = Version(number=7, path="/serving/vae/7", manifest=manifest)
    return PushedModel(version, "/tmp/copy")  # noqa: S108


def test_the_estimate_is_that_of_the_manifest():
    config = {"gate": {"samples": 4, "seed": 9}, "model": {"latent_size": 2}}
    assert pushed(config).read_estimate() == Estimate(
        bound=Bound.ELBO, samples=4, seed=9, binarization="fixed"
    )


@pytest.mark.parametrize("config", [{}, {"gate": {"samples": 4, "seed": 9}}])
def test_a_manifest_without_settings_is_named(config):
    with pytest.raises(PushedModelError, match="manifest of version 7") as error:
        pushed(config).read_estimate()
    assert str(error.value) == (
        "the manifest of version 7 must have the settings gate and model of this "
        "release: another release pushed it, or another program; name another version"
    )


def test_a_version_that_is_not_there_is_named(use, model_root):
    destination = os.path.dirname(model_root.version.path)
    message = (
        f"--version: the version must be one of those at {destination} "
        f"({model_root.version.number}), got 7"
    )
    assert_fails(use, ["generate", "--version", "7"], code=2, message=message)


def test_without_a_served_version_the_command_prints_advice(use, model_root):
    nowhere = model_root.path / "nowhere"
    message = (
        f"nothing is served at {nowhere}/vae: `run` first, or name the place by --root "
        "or --set push.destination=..."
    )
    arguments = ["score", model_root.one, "--set", f"push.destination={nowhere}"]
    assert_fails(use, arguments, code=1, message=message)


def test_a_model_without_the_signature_is_refused(use, model_root):
    message = (
        "the model must have the signature elbo, it lacks elbo: an older release "
        "exported it, train it anew"
    )
    old = f"push.destination={model_root.path / 'old'}"
    arguments = ["score", model_root.one, "--set", old]
    assert_fails(use, arguments, code=1, message=message)


def test_a_model_that_was_tampered_with_is_not_used(model_root, use, tmp_path):
    copy = tmp_path / "vae" / str(model_root.version.number)
    shutil.copytree(model_root.version.path, copy)
    (copy / "saved_model.pb").write_bytes(b"changed")
    code, _, err = use("generate", "--set", f"push.destination={tmp_path}")
    assert code == 1
    assert "saved_model.pb has SHA-256 " in err
    assert "nothing is served at " in err


def test_a_damaged_newer_version_is_named_and_not_used(use, model_root, tmp_path):
    folder, number = tmp_path / "vae", model_root.version.number
    for each in (number, number + 1):
        shutil.copytree(model_root.version.path, folder / str(each))
    (folder / str(number + 1) / "saved_model.pb").unlink()
    there = f"push.destination={tmp_path}"
    code, out, err = use("generate", "-n", "1", "--set", there)
    assert code == 0, err
    assert f"by version {number} of {folder}\n" in out
    assert f"{number + 1}" in err
    assert "saved_model.pb is missing" in err


def test_a_version_without_a_valid_signature_is_not_used(tmp_path, capsys):
    pair = write_pair(tmp_path, "key")
    root = VersionRoot(tmp_path, capsys)
    signed, unsigned = root.push("a", -91, signing=pair), root.push("b", -90)
    warnings = []
    verifier = pair.load_verifier(root.destination)
    options = {"warn": warnings.append, "verifier": verifier}
    with pushed_model.fetch(root.destination, None, **options) as model:
        assert model.version == signed
    assert [f"version {unsigned.number} of" in each for each in warnings] == [True]
    with (
        pytest.raises(
            InvalidSignatureError,
            match=f"version {unsigned.number} of {root.destination} is not used: it h",
        ),
        pushed_model.fetch(root.destination, unsigned.number, **options),
    ):
        pass


def test_the_commands_verify_the_model_with_the_settings_key(tmp_path, capfd):
    pair = write_pair(tmp_path, "key")
    root = VersionRoot(tmp_path, capfd)
    forged = root.push("b", -90, signing=write_pair(tmp_path, "other"))
    options = pushed_model.ModelOptions(
        root=str(tmp_path / "runs"),
        preset="smoke",
        config=None,
        set=(f"push.verify={pair.verify}",),
        dataset=None,
        source=None,
        span_window=None,
        version=None,
    )
    code = pushed_model.run_with_model(
        options, "generate", use=lambda model, console: pytest.fail("used")
    )
    assert code == 1
    assert (
        f"version {forged.number} of {root.destination} is damaged: model.sig is not "
        "signed by the key that push.verify names"
    ) in " ".join(capfd.readouterr().err.split())
