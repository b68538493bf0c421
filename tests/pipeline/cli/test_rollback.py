"""The command `rollback`: its output and its exit codes."""

import pathlib

import pytest

from components.registry import listing, rolling_back
from tests.support.signing_keys import to_flags, write_pair
from tests.support.version_root import VersionRoot


@pytest.fixture
def root(tmp_path, capsys):
    return VersionRoot(tmp_path, capsys)


def test_rolling_back_prints_the_served_version(root):
    one, two = root.push("a", -91), root.push("b", -90)
    assert root.command("rollback", "--reason", " sevens look like ones ") == 0
    served = listing.find_served_version(root.destination)
    record = served.manifest.rolled_back
    assert root.out.splitlines() == [
        f"version {served.number} is version {one.number} again, in place of "
        f"{two.number}: by {record.by} at {record.at} (sevens look like ones)",
        f"it is now served from {root.destination}, and is the next run's baseline",
    ]


def test_to_a_version_that_is_named(root):
    one, _, three = (root.push(name, -90) for name in "abc")
    assert root.command("rollback", one.number, "--reason", "worse") == 0
    record = listing.find_served_version(root.destination).manifest.rolled_back
    assert (record.to, record.replaced) == (one.number, three.number)


def test_in_an_object_store(root, s3):
    uri = f"s3://{s3.name}/serving/vae"
    one, _ = (root.push(name, -90, uri) for name in "ab")
    there = ["--set", f"push.destination=s3://{s3.name}/serving"]
    assert root.command("rollback", "--reason", "worse", *there) == 0
    assert listing.find_served_version(uri).digest == one.digest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["7", "--reason", "x"], "the version must be one of {one}, {two}, got 7"),
        (["{two}", "--reason", "x"], "version {two} is already served: choose another"),
        (
            ["{one}", "--reason", "x"],
            "version {one} is damaged: saved_model.pb is miss",
        ),
        (["--reason", "x"], "there is no intact version older than {two}, of another"),
        (
            ["--reason", " "],
            "--reason must be a text, which the manifest records; got nothing",
        ),
    ],
)
def test_a_rollback_without_an_older_version_is_refused(root, arguments, message):
    one, two = root.push("a", -91), root.push("b", -90)
    pathlib.Path(one.path, "saved_model.pb").unlink()
    names = {"one": one.number, "two": two.number}
    assert root.command("rollback", *(a.format(**names) for a in arguments)) == 2
    assert f"vae-pipeline: {message.format(**names)}" in root.err
    assert listing.find_served_version(root.destination) == two
    assert rolling_back.read_rejected_models(root.destination) == []


def test_a_reason_is_asked_for(root):
    assert root.command("rollback") == 2
    message = "--reason must be given; see vae-pipeline rollback --help"
    assert root.err == f"vae-pipeline: {message}\n"


def test_a_store_that_does_not_answer(root, s3):
    there = ["--set", "push.destination=s3://no-such-bucket/serving"]
    assert root.command("rollback", "--reason", "x", *there) == 1
    assert "vae-pipeline: can't use s3://no-such-bucket/serving/vae (" in root.err


def test_under_push_verify_a_rollback_needs_the_private_key(root, tmp_path):
    pair = write_pair(tmp_path, "key")
    one = root.push("a", -91, signing=pair)
    root.push("b", -90, signing=pair)
    words = ["rollback", "--reason", "worse"]
    assert root.command(*words, *to_flags(pair, "verify")) == 2
    assert "push.sign must name the private key (env:NAME or file:PATH)" in root.err
    assert root.command(*words, *to_flags(pair)) == 0
    verifier = pair.load_verifier(root.destination)
    served = listing.find_served_version(root.destination, verifier=verifier)
    assert served.digest == one.digest


def test_no_output_and_no_file_has_the_key(root, tmp_path, monkeypatch):
    pair = write_pair(tmp_path, "key")
    text = (tmp_path / "key").read_text(encoding="ascii")
    canary = text.splitlines()[1]
    monkeypatch.setenv("SIGN_KEY", text)
    for name in "ab":
        root.push(name, -90, signing=pair)
    words = ["rollback", "--reason", "worse"]
    flags = ["--set", "push.sign=env:SIGN_KEY", *to_flags(pair, "verify")]
    assert root.command(*words, *flags) == 0
    shown = [root.out, root.err]
    monkeypatch.setenv("SIGN_KEY", text.replace("MIG", "MIX"))
    assert root.command(*words, *flags) == 2
    assert "in PEM, got something else" in root.err
    shown += [root.out, root.err]
    # The key itself in the setting.
    assert root.command(*words, "--set", f"push.sign={text}") == 2
    assert "might be the key itself and is not shown" in root.err
    shown += [root.out, root.err]
    files = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    shown += [path.read_text(encoding="latin-1") for path in files]
    assert not any(canary in each for each in shown)
