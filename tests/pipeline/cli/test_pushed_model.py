"""How commands find the pushed model that they use."""

import os
import shutil

from tests.support.pushed_model import assert_fails


def test_a_version_that_is_not_there_is_named(use, model_root):
    destination = os.path.dirname(model_root.version.path)
    message = (
        f"--version: the version must be one of those at {destination} "
        f"({model_root.version.number}), got 7"
    )
    assert_fails(use, ["generate", "--version", "7"], code=2, message=message)


def test_where_nothing_is_served_the_command_says_what_to_do(use, model_root):
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
