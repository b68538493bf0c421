"""Digests: of each file, and of all."""

import hashlib
import pathlib
import subprocess

import pytest

from components.registry.manifest import digest_of, file_digests
from tests.support.places import FILES, write_model

OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
OF_NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "model")


def test_digests_of_files(model):
    pathlib.Path(model, "MANIFEST.json").write_text(
        "not of the model", encoding="utf-8"
    )
    pathlib.Path(model, "variables", "MANIFEST.json").write_bytes(b"abc")
    digests = file_digests(model)
    expected = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
    expected["variables/MANIFEST.json"] = OF_ABC
    assert digests == expected
    assert digests["saved_model.pb"] == OF_ABC
    assert digests["variables/variables.index"] == OF_NOTHING
    assert list(digests) == sorted(digests)


def test_digests_of_objects(place):
    for name, data in FILES.items():
        place.write(f"7/{name}", data)
    place.write("7/MANIFEST.json", b"not of the model")
    place.write("77/saved_model.pb", b"of another version")
    expected = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
    assert file_digests(f"{place.uri}/7") == expected


def test_a_large_file_is_read_in_pieces(model):
    data = bytes(range(256)) * 10_000
    pathlib.Path(model, "large").write_bytes(data)
    assert file_digests(model)["large"] == hashlib.sha256(data).hexdigest()


def test_one_digest_is_that_of_the_lines_of_sha256sum(model):
    names = sorted(FILES)
    command = ["sha256sum", *names]
    lines = subprocess.run(command, cwd=model, check=True, capture_output=True).stdout
    digests = file_digests(model)
    assert digest_of(digests) == hashlib.sha256(lines).hexdigest()
    assert digest_of(dict(reversed(digests.items()))) == digest_of(digests)


def test_one_digest_sees_names_and_contents():
    digests = {
        digest_of(files)
        for files in ({"a": "0"}, {"b": "0"}, {"a": "1"}, {"a": "0", "b": "0"}, {})
    }
    assert len(digests) == 5
