"""Attacks on the versions: names, files of other kinds, manifests, retired versions."""

import json
import os
import pathlib
import socket

import pytest

from components.registry.manifest import Manifest
from tests.support import places, pushes

pytestmark = pytest.mark.attacks

VERSIONS = ("versions",)
ROLLBACK = ("rollback", "--reason", "x")
PRUNE = ("prune", "--keep", "5")
COMMANDS = {"versions": VERSIONS, "rollback": ROLLBACK, "prune": PRUNE}


@pytest.fixture
def root(tmp_path):
    """Returns a root with two versions."""
    root = tmp_path / "runs"
    for name in ("a", "b"):
        files = {**places.FILES, "saved_model.pb": name.encode()}
        pushes.push_next(
            places.write_model(tmp_path / name, files),
            destination=str(root / "serving" / "vae"),
            manifest=Manifest.from_content({}),
        )
    return root


def find_versions(root):
    return sorted((root / "serving" / "vae").glob("[0-9]*"))


def check_answer(outcome, *words, code=0):
    assert outcome.code == code, outcome.printed[-3000:]
    assert "Traceback" not in outcome.printed
    for word in words:
        assert word in outcome.printed


NAMES = ["9223372036854775807", "9223372036854775808", "9" * 255, "0", "007", "-1"]


@pytest.mark.line("number that no version can have")
@pytest.mark.parametrize("name", NAMES, ids=lambda name: name[:20])
def test_a_name_above_the_versions(attack, root, name):
    (root / "serving" / "vae" / name).mkdir()
    outcome = attack(*VERSIONS, "--root", root)
    check_answer(outcome, repr(name)[:30], "is ignored", "served")
    check_answer(attack(*ROLLBACK, "--root", root), "it is now served from")


def make_socket(path):
    here = os.getcwd()
    os.chdir(path.parent)  # the path of a socket has at most 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


KINDS = {
    "a named pipe": os.mkfifo,
    "a socket": make_socket,
    "a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.line("version with a file that is no file")
@pytest.mark.parametrize("name", ["MANIFEST.json", "saved_model.pb", "more"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_special_file_in_a_version(attack, root, kind, name):
    path = find_versions(root)[-1] / name
    path.unlink(missing_ok=True)
    KINDS[kind](path)
    check_answer(attack(*VERSIONS, "--root", root), "damaged: ")
    check_answer(attack(*PRUNE, "--root", root))


@pytest.mark.line("version with a file that is no file")
@pytest.mark.parametrize("name", [".retired-7.json", ".rejected-7.json", "9999999999"])
@pytest.mark.parametrize("kind", ["a named pipe", "a socket"])
def test_a_special_file_beside_the_versions(attack, root, kind, name):
    KINDS[kind](root / "serving" / "vae" / name)
    for words in (VERSIONS, PRUNE):
        outcome = attack(*words, "--root", root)
        assert outcome.code in (0, 1), outcome.printed
        assert "Traceback" not in outcome.printed


@pytest.mark.line("version with a file that is no file")
@pytest.mark.parametrize("kind", KINDS)
def test_the_history_is_no_folder(attack, root, kind):
    KINDS[kind](root / "history")
    for words in (VERSIONS, PRUNE, ("history",)):
        outcome = attack(*words, "--root", root)
        assert outcome.code is not None
        assert "Traceback" not in outcome.printed


ODD = {
    "a text": {"rolled_back": "x"},
    "nothing": {"elbo": None},
    "a number that is not finite": {"elbo": {"elbo": float("nan")}},
    "a huge number": {"elbo": {"elbo": 10**400}},
    "half a character": {"run_key": "\ud800"},
    "a list": {"config": [1]},
    "spans that are none": {"spans": [7]},
}


@pytest.mark.line("manifest with an odd value")
@pytest.mark.parametrize("kind", ODD)
def test_a_manifest_with_an_odd_value(attack, root, kind):
    path = find_versions(root)[-1] / "MANIFEST.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, **ODD[kind]}), encoding="utf-8")
    state = "served" if kind == "nothing" else "damaged: MANIFEST.json is not one"
    check_answer(attack(*VERSIONS, "--root", root), state)
    check_answer(attack(*PRUNE, "--root", root))


@pytest.mark.line("retired version that is served again")
@pytest.mark.parametrize("words", [ROLLBACK, ("rollback", "FIRST", "--reason", "x")])
@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff"])
def test_a_rollback_to_a_retired_version(attack, root, words, content):
    first = find_versions(root)[0]
    retire = ("versions", "retire", first.name, "--why", "x", "--root", root)
    check_answer(attack(*retire), "is retired")
    if content is not None:  # a damaged record retires all the same
        pathlib.Path(first.parent, f".retired-{first.name}.json").write_bytes(content)
    words = [first.name if word == "FIRST" else word for word in words]
    check_answer(attack(*words, "--root", root), code=2)
    assert len(find_versions(root)) == 2


@pytest.mark.line("retired version that is served again")
def test_retiring_the_served_version(attack, root):
    last = find_versions(root)[-1]
    retire = ("versions", "retire", last.name, "--why", "x", "--root", root)
    check_answer(attack(*retire), "roll back first", code=2)
    assert not list(last.parent.glob(".retired-*"))
