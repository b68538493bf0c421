"""Metadata files that a run cannot use: damaged, read-only, locked or too new."""

import contextlib
import sqlite3
import subprocess
import sys

import pytest

from tests.support import disks, sqlite_lock

pytestmark = pytest.mark.faults


@pytest.fixture
def file(place):
    return place.root / "metadata.sqlite"


def test_no_sqlite(place, file, outcome):
    before = place.served()
    content = b"not a database " * 1000
    file.write_bytes(content)
    printed = place.run(code=1)
    assert f"{file} is no SQLite database that can be read (file is not" in printed
    assert "move it away, and the next run begins with new metadata" in printed
    assert file.read_bytes() == content
    assert place.served() == before

    file.unlink()
    printed = place.run()
    assert f"{file} has no entry for the artifacts in {place.root}/artifacts" in printed
    assert "Ingest           from the cache" not in printed
    assert place.served() == before  # the model is the same, so it is not pushed again
    assert "every step came from the cache" in place.run()
    outcome(
        "`metadata.sqlite` is not SQLite, or damaged",
        "`FILE is no SQLite database that can be read (...): move it away, ...`, exit "
        "code 1",
        "with the file moved away, runs every step; old artifacts are set aside",
    )


def test_read_only(place, file, outcome):
    with disks.read_only(file):
        printed = place.run(code=1)
    assert f"{file} can't be written (attempt to write a readonly" in printed
    place.push()
    outcome(
        "`metadata.sqlite` is read-only",
        "`FILE can't be written (...): make the file and its folder writable, or "
        "choose another --root`, exit code 1",
        "continues",
    )


def test_locked(place, file, outcome):
    other = subprocess.Popen(
        [sys.executable, "-c", sqlite_lock.PROGRAM, str(file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    other.stdout.readline()
    printed = place.run(code=1)
    assert f"{file} is locked by another process, and was for 10 s: wait" in printed
    other.communicate()  # closes its standard input, so it ends
    place.push()
    outcome(
        "`metadata.sqlite` is locked by another process",
        "after 10 s `FILE is locked by another process, ...`, exit code 1",
        "continues",
    )


def test_newer_schema(place, file, outcome):
    def set_version(number):
        with contextlib.closing(sqlite3.connect(file)) as database, database:
            (before,) = database.execute("SELECT schema_version FROM MLMDEnv")
            database.execute("UPDATE MLMDEnv SET schema_version = ?", [number])
        return before[0]

    ours = set_version(99)
    printed = place.run(code=1)
    assert f"{file} has the schema version 99, which ml-metadata " in printed
    assert "run with the ml-metadata that wrote it, choose another --root" in printed
    assert set_version(ours) == 99
    place.push()
    outcome(
        "`metadata.sqlite` is of a newer schema",
        "`FILE has the schema version 99, which ml-metadata N can't use (...): "
        "run with the ml-metadata that wrote it, ...`, exit code 1",
        "continues, where that is",
    )
