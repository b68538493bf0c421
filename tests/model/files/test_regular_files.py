"""Reading of regular files only: nothing waits for a named pipe or opens a device."""

import os
import socket
import stat

import fsspec
import pytest

from model.files import regular_files
from model.files.regular_files import IrregularFileError


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


KINDS = {
    "a named pipe": os.mkfifo,
    "a socket": make_socket,
    "a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_special_file_is_refused_in_words(tmp_path, kind):
    path = tmp_path / "x"
    KINDS[kind](path)
    message = f"{path} must be a regular file, but it is {kind}: remove it"
    for read in (regular_files.read_bytes, regular_files.read_text):
        with pytest.raises(IrregularFileError) as error:
            read(path)
        assert str(error.value) == message
    files = fsspec.filesystem("file")
    for read in (regular_files.read_stored, regular_files.open_stored):
        with pytest.raises(IrregularFileError) as error:
            read(files, str(path))
        assert str(error.value) == message


def test_a_file_that_becomes_a_named_pipe_does_not_block(tmp_path, monkeypatch):
    path = tmp_path / "x"
    os.mkfifo(path)
    regular = os.stat(__file__)
    monkeypatch.setattr(os, "stat", lambda path: regular)
    with pytest.raises(IrregularFileError, match="is a named pipe"):
        regular_files.open_regular(path)


def test_a_regular_file_and_a_link_to_one_are_read(tmp_path):
    (tmp_path / "x").write_bytes("é".encode())
    (tmp_path / "link").symlink_to("x")
    assert regular_files.read_text(tmp_path / "link") == "é"
    assert regular_files.read_bytes(str(tmp_path / "x")) == b"\xc3\xa9"


def test_a_folder_and_a_missing_file_are_the_errors_of_the_system(tmp_path):
    with pytest.raises(IsADirectoryError) as error:
        regular_files.open_regular(tmp_path)
    assert error.value.filename == str(tmp_path)
    with pytest.raises(FileNotFoundError):
        regular_files.open_regular(tmp_path / "x")


@pytest.mark.parametrize("kind", ["a named pipe", "a socket"])
def test_a_folder_with_a_special_file_is_refused(tmp_path, kind):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").write_bytes(b"")
    (tmp_path / "c").symlink_to("/dev/zero")  # links are another check's
    regular_files.refuse_irregular(str(tmp_path))
    KINDS[kind](tmp_path / "a" / "x")
    message = f"^a/x below {tmp_path} must be a regular file, but it is {kind}: remove"
    with pytest.raises(IrregularFileError, match=message):
        regular_files.refuse_irregular(str(tmp_path))


def test_each_kind_of_device_has_a_name():
    assert regular_files.describe_kind(stat.S_IFBLK) == "a device"
    assert regular_files.describe_kind(stat.S_IFCHR) == "a device"
    assert regular_files.describe_kind(stat.S_IFREG) is None
