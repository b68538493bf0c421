"""Digests of files, against known SHA-256 digests and sha256sum."""

import io
import subprocess

import pytest

from model.files import digests

OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180
OF_NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize(("data", "digest"), [(b"abc", OF_ABC), (b"", OF_NOTHING)])
def test_a_file_has_the_digest_of_its_bytes(tmp_path, data, digest):
    (tmp_path / "file").write_bytes(data)
    assert digests.digest_file(tmp_path / "file") == digest


def test_a_large_file_has_the_digest_that_sha256sum_gives(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(bytes(range(256)) * 10_000)  # 2.4 chunks
    printed = subprocess.run(["sha256sum", path], check=True, capture_output=True)
    assert digests.digest_file(path) == printed.stdout.decode().split()[0]


def test_a_stream_is_digested_from_its_position():
    stream = io.BytesIO(b"head abc")
    stream.seek(5)
    assert digests.digest_stream(stream) == OF_ABC


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        digests.digest_file(tmp_path / "nowhere")
