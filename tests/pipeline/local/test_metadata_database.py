"""Metadata files that a run cannot use, all of them real files."""

import contextlib
import pathlib
import sqlite3
import subprocess
import sys

import pytest
from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2

from pipeline.local import metadata_database
from tests.support import disks, sqlite_lock


def opened(file):
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(file)
    return metadata_store.MetadataStore(config)


@pytest.fixture
def root(tmp_path):
    """Returns a root whose metadata have one execution, and whose artifact exists."""
    store = opened(tmp_path / "metadata.sqlite")
    kind = store.put_execution_type(metadata_store_pb2.ExecutionType(name="Step"))
    store.put_executions([metadata_store_pb2.Execution(type_id=kind)])
    (tmp_path / "artifacts" / "Step" / "1").mkdir(parents=True)
    return tmp_path


def check(root, **kwargs):
    """Checks a root's metadata; returns the lines that the check prints."""
    lines = []
    metadata_database.check_metadata(
        root / "metadata.sqlite", root / "artifacts", print_line=lines.append, **kwargs
    )
    return lines


def error_of(root, **kwargs):
    with pytest.raises(metadata_database.MetadataError) as error:
        check(root, **kwargs)
    return str(error.value)


def set_schema_version(file, version):
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE MLMDEnv SET schema_version = ?", [version])


def test_metadata_that_can_be_used_are_left_as_they_are(root):
    assert check(root) == []
    assert (root / "artifacts" / "Step" / "1").is_dir()
    assert len(opened(root / "metadata.sqlite").get_executions()) == 1


def test_a_new_root_has_neither(tmp_path):
    assert check(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("left", ["none", "empty", "new"])
def test_artifacts_without_metadata_are_moved(root, left):
    file = root / "metadata.sqlite"
    file.unlink()
    if left == "empty":
        file.touch()
    elif left == "new":
        opened(file)
    (line,) = check(root)
    (aside,) = root.glob("artifacts-*")
    assert line == (
        f"{file} has no entry for the artifacts in {root / 'artifacts'}: they were "
        f"moved to {aside}, and every step runs again"
    )
    assert not (root / "artifacts").exists()
    assert (aside / "Step" / "1").is_dir()


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda data: b"not a database " * 1000, "file is not a database"),
        (lambda data: data[: len(data) // 2], "database disk image is malformed"),
        (lambda data: data[:8192] + b"\xff" * (len(data) - 8192), ""),
    ],
)
def test_a_file_that_is_not_a_sqlite_database_is_named(root, damage, found):
    file = root / "metadata.sqlite"
    file.write_bytes(damage(file.read_bytes()))
    message = error_of(root)
    assert message.startswith(f"{file} is no SQLite database that can be read ({found}")
    assert message.endswith(
        "): move it away, and the next run begins with new metadata; what is served "
        "stays the baseline"
    )
    assert file.exists()


def test_a_file_that_is_read_only_is_named(root):
    file = root / "metadata.sqlite"
    with disks.read_only(file):
        message = error_of(root)
    assert message == (
        f"{file} can't be written (attempt to write a readonly database): make the "
        "file and its folder writable, or choose another --root"
    )


def test_a_folder_in_place_of_the_file_is_named(tmp_path):
    (tmp_path / "metadata.sqlite").mkdir()
    assert error_of(tmp_path).startswith(
        f"{tmp_path / 'metadata.sqlite'} can't be written (unable to open database "
    )


def test_a_permanent_lock_is_named_and_a_short_one_is_waited_for(root):
    file = root / "metadata.sqlite"
    other = subprocess.Popen(
        [sys.executable, "-c", sqlite_lock.PROGRAM, str(file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    other.stdout.readline()
    assert error_of(root, lock_timeout=0.1) == (
        f"{file} is locked by another process, and was for 0 s: wait until that ends, "
        "or find it with `fuser` and end it"
    )
    other.stdin.close()  # ends the process
    assert check(root) == []
    other.wait()
    other.stdout.close()


@pytest.mark.parametrize("version", [4, 99])
def test_another_schema_is_named(root, version):
    file = root / "metadata.sqlite"
    set_schema_version(file, version)
    message = error_of(root)
    assert message.startswith(f"{file} has the schema version {version}, which ml-meta")
    assert f"MLMD database version {version} is " in message
    assert message.endswith(
        "): run with the ml-metadata that wrote it, choose another --root, or move the "
        "file away to begin with new metadata"
    )


def test_a_full_disk_is_named(root):
    with disks.small(root / "disk", megabytes=1) as disk:
        file = pathlib.Path(disk, "metadata.sqlite")
        file.write_bytes((root / "metadata.sqlite").read_bytes())
        disks.fill(disk)
        assert error_of(disk) == (
            f"{file} can't be written (database or disk is full): free some space on "
            "its disk"
        )
