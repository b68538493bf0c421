"""A root's metadata file: it is opened, and looked at before a run relies on it."""

import contextlib
import datetime
import pathlib
import sqlite3
from collections.abc import Callable

import ml_metadata
from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2

DONE = (  # the states of a step that ended well
    metadata_store_pb2.Execution.COMPLETE,
    metadata_store_pb2.Execution.CACHED,
)

_WAIT = 10.0  # seconds for another process to let go of the file


class MetadataError(RuntimeError):
    """A metadata file can't be used; the message names it and says what to do."""


def check(
    file: pathlib.Path,
    artifacts: pathlib.Path,
    say: Callable[[str], None],
    wait: float = _WAIT,
) -> None:
    """Returns if a run can write to a metadata file, or to a new one.

    Metadata that know of no execution number theirs from 1: into folders in which old
    artifacts may be. Those are set aside, under a name with the time.

    Args:
      file: SQLite's, or where it will be.
      artifacts: the folder of what the steps made.
      say: is called with what was set aside.
      wait: seconds to wait for a lock.

    Raises:
      MetadataError: the file is no SQLite database, is damaged, can't be written,
        stays locked, or is not of the schema that this ml-metadata knows.
    """
    executions = _executions(file, wait) if file.exists() else 0
    if executions == 0 and artifacts.is_dir() and any(artifacts.iterdir()):
        now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        aside = artifacts.with_name(f"{artifacts.name}-{now}")
        artifacts.rename(aside)
        say(
            f"{file} knows nothing of the artifacts in {artifacts}: they are in "
            f"{aside} now, and every step runs again"
        )


def opened(file: pathlib.Path, read_only: bool = False) -> metadata_store.MetadataStore:
    """Returns the store in a file; read only, a run may go on meanwhile."""
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(file)
    if read_only:
        config.sqlite.connection_mode = (
            metadata_store_pb2.SqliteMetadataSourceConfig.READONLY
        )
    return metadata_store.MetadataStore(config)


def _executions(file: pathlib.Path, wait: float) -> int:
    """Returns how many executions the file knows of."""
    try:
        # Closed before ml-metadata opens the file: POSIX lets go of all of a process's
        # locks on a file when it closes one of its descriptors.
        with contextlib.closing(_connect(file, wait)) as database:
            _try_to_write(database)
            (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise sqlite3.DatabaseError(" ".join(found.split()))
            version = _one_number(database, "SELECT schema_version FROM MLMDEnv")
            count = _one_number(database, "SELECT count(*) FROM Execution")
    except sqlite3.Error as error:
        raise MetadataError(f"{file} {_what_to_do(str(error), wait)}") from error
    if version:
        _open(file, version)
    return count


def _connect(file: pathlib.Path, wait: float) -> sqlite3.Connection:
    # A transaction begins where we say so.
    return sqlite3.connect(
        f"{file.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=wait,
        isolation_level=None,
    )


def _try_to_write(database: sqlite3.Connection) -> None:
    database.execute("BEGIN IMMEDIATE")
    (version,) = database.execute("PRAGMA user_version").fetchone()
    database.execute(f"PRAGMA user_version = {version:d}")
    database.execute("COMMIT")


def _one_number(database: sqlite3.Connection, query: str) -> int:
    try:
        row = database.execute(query).fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):  # nothing was ever written
            return 0
        raise
    return row[0] if row else 0


def _what_to_do(found: str, wait: float) -> str:
    if "locked" in found:
        return (
            f"is locked by another process, and was for {wait:.0f} s: wait until that "
            "ends, or find it with `fuser` and end it"
        )
    if "readonly" in found or "unable to open" in found:
        return (
            f"can't be written ({found}): make the file and its folder writable, or "
            "choose another --root"
        )
    if "full" in found or "disk I/O" in found:
        return f"can't be written ({found}): free some space on its disk"
    return (
        f"is no SQLite database that can be read ({found}): move it away, and the next "
        "run begins with new metadata; what is served stays the baseline"
    )


def _open(file: pathlib.Path, version: int) -> None:
    try:
        opened(file)
    except RuntimeError as error:
        raise MetadataError(
            f"{file} has the schema version {version}, which ml-metadata "
            f"{ml_metadata.__version__} can't use ({str(error).splitlines()[0]}): run "
            "with the ml-metadata that wrote it, choose another --root, or move the "
            "file away to begin with new metadata"
        ) from error
