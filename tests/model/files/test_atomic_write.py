"""Atomic writes: a file is replaced as a whole, or stays unchanged."""

import os
import stat

import pytest

from model.files import atomic_write


def test_the_text_is_written_and_nothing_else(tmp_path):
    path = tmp_path / "new" / "folder" / "file"
    atomic_write.write(path, "größer\n")
    assert path.read_bytes() == "größer\n".encode()
    atomic_write.write(path, "again")
    assert path.read_text() == "again"
    assert list(path.parent.iterdir()) == [path]


def test_the_mode_is_the_given_one_or_the_umasks(tmp_path):
    before = os.umask(0o027)
    try:
        atomic_write.write(tmp_path / "secret", "x", mode=0o600)
        atomic_write.write(tmp_path / "other", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "other").stat().st_mode) == 0o640


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_text(tmp_path, monkeypatch, call):
    path = tmp_path / "file"
    path.write_text("old")

    def fail(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        with pytest.raises(OSError, match="No space left"):
            atomic_write.write(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_text_and_folder_are_on_the_disk_in_that_order(tmp_path, monkeypatch):
    """A power cut after the call loses nothing; one during it keeps the old text."""
    calls = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(descriptor):
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        size = os.fstat(descriptor).st_size if os.path.isfile(path) else None
        calls.append(("fsync", os.path.isdir(path), size))
        real_fsync(descriptor)

    def replace(source, target):
        calls.append(("replace", str(target)))
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    open_before = len(os.listdir("/proc/self/fd"))
    atomic_write.write(tmp_path / "file", "text")
    assert calls == [
        ("fsync", False, 4),
        ("replace", str(tmp_path / "file")),
        ("fsync", True, None),
    ]
    assert len(os.listdir("/proc/self/fd")) == open_before
