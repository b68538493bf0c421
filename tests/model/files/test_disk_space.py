"""Full disks: how errors about them are recognized and described."""

import errno
import shutil

import pytest

from model.files import disk_space


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "x"),
        OSError(errno.EDQUOT, "x"),
        RuntimeError("writing a.gz: No space left on device; 3 bytes"),
        ValueError("(sqlite3.OperationalError) database or disk is full"),
    ],
)
def test_a_full_disk_is_recognized_by_number_or_words(error):
    assert disk_space.is_full(error)


@pytest.mark.parametrize("error", [None, OSError(errno.EIO, "x"), ValueError("full")])
def test_another_error_is_not_a_full_disk(error):
    assert not disk_space.is_full(error)


def test_a_full_disk_behind_another_error_is_recognized():
    as_cause, as_context = ValueError("as a cause"), KeyError("while it was handled")
    as_cause.__cause__ = OSError(errno.ENOSPC, "x")
    as_context.__context__ = OSError(errno.ENOSPC, "x")
    assert disk_space.is_full(as_cause)
    assert disk_space.is_full(as_context)


@pytest.fixture
def free(monkeypatch):
    """Returns a function that sets the free MB of folders, by name, out of 100 MB."""

    def set_free(**megabytes):
        def usage(folder):
            name = str(folder).rpartition("/")[2]
            bytes_free = megabytes[name] * 1_000_000
            return shutil._ntuple_diskusage(100_000_000, 0, bytes_free)

        monkeypatch.setattr(shutil, "disk_usage", usage)

    return set_free


def test_the_message_names_what_is_needed_and_what_is_free(tmp_path, free):
    free(**{tmp_path.name: 2})
    then = "2,000,000 bytes are free; free some space or choose another data folder"
    message = disk_space.describe_full_disk(tmp_path, 3_000_000)
    assert message == f"{tmp_path}: 3,000,000 bytes are needed, {then}"
    assert (
        disk_space.describe_full_disk(tmp_path)
        == f"{tmp_path}: the disk is full, {then}"
    )


def test_the_folder_with_the_least_space_is_named(tmp_path, free):
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
    free(one=30, two=20, three=90)
    folders = [str(tmp_path / name) for name in ("one", "absent", "two", "three")]
    expected = f"{tmp_path}/two (20 MB free of 100 MB)"
    error = OSError(errno.ENOSPC, "No space left on device")
    assert disk_space.describe_fullest_disk(error, folders) == expected


def test_the_folder_that_the_error_names_comes_before_one_with_less_space(
    tmp_path, free
):
    for name in ("one", "one/inside", "two"):
        (tmp_path / name).mkdir()
    free(one=30, inside=40, two=20)
    folders = [str(tmp_path / name) for name in ("one", "one/inside", "two")]
    full = OSError(errno.ENOSPC, "No space left on device", f"{tmp_path}/one/model.pb")
    expected = f"{tmp_path}/one (30 MB free of 100 MB)"
    assert disk_space.describe_fullest_disk(full, folders) == expected
    text = f"{tmp_path}/one/inside/ckpt-1; No space left on device"
    behind = RuntimeError("the checkpoint can't be written")
    behind.__cause__ = ValueError(text)
    expected = f"{tmp_path}/one/inside (40 MB free of 100 MB)"
    assert disk_space.describe_fullest_disk(behind, folders) == expected
