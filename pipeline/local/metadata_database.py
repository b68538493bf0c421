"""The metadata file of a root, and the check that a run can rely on it."""

import contextlib
import datetime
import pathlib
import sqlite3
from collections.abc import Callable

import ml_metadata
from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2

from model.errors import PipelineError

DONE = (  # the states of a step that completed
    metadata_store_pb2.Execution.COMPLETE,
    metadata_store_pb2.Execution.CACHED,
)

_LOCK_TIMEOUT = 10.0  # seconds to wait for another process's lock on the file


class MetadataError(PipelineError):
    """A metadata file cannot be used; the message names it and says what to do."""


def check_metadata(
    file: pathlib.Path,
    artifacts: pathlib.Path,
    *,
    print_line: Callable[[str], None],
    lock_timeout: float = _LOCK_TIMEOUT,
) -> None:
    """Raises MetadataError for a file that a run cannot write to.

    Metadata without an execution number new ones from 1, in folders that may have old
    artifacts. So this renames the folder of such artifacts, to a name with the time.

    Args:
      file: the SQLite file, which need not exist.
      artifacts: the folder of the steps' outputs.
      print_line: prints which folder was renamed.
      lock_timeout: seconds to wait for another process's lock.

    Raises:
      MetadataError: the file is no SQLite database, is damaged, cannot be written,
        stays locked, or has a schema that this ml-metadata does not know.
    """
    executions = _count_executions(file, lock_timeout) if file.exists() else 0
    if executions == 0 and artifacts.is_dir() and any(artifacts.iterdir()):
        now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        aside = artifacts.with_name(f"{artifacts.name}-{now}")
        artifacts.rename(aside)
        print_line(
            f"{file} knows nothing of the artifacts in {artifacts}: they are in "
            f"{aside} now, and every step runs again"
        )


def open_store(
    file: pathlib.Path, *, is_read_only: bool = False
) -> metadata_store.MetadataStore:
    """Returns the store in a file; a read-only one does not disturb a run."""
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(file)
    if is_read_only:
        config.sqlite.connection_mode = (
            metadata_store_pb2.SqliteMetadataSourceConfig.READONLY
        )
    return metadata_store.MetadataStore(config)


def _count_executions(file: pathlib.Path, lock_timeout: float) -> int:
    """Returns how many executions the file contains, after checks of the file."""
    try:
        # Closed before ml-metadata opens the file: POSIX releases all of a process's
        # locks on a file when the process closes one of its descriptors.
        with contextlib.closing(_connect(file, lock_timeout)) as database:
            _try_to_write(database)
            (fault,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if fault != "ok":
                raise sqlite3.DatabaseError(" ".join(fault.split()))
            version = _one_number(database, "SELECT schema_version FROM MLMDEnv")
            count = _one_number(database, "SELECT count(*) FROM Execution")
    except sqlite3.Error as error:
        raise MetadataError(
            f"{file} {_what_to_do(str(error), lock_timeout)}"
        ) from error
    if version:
        _check_schema(file, version)
    return count


def _connect(file: pathlib.Path, lock_timeout: float) -> sqlite3.Connection:
    # Without an isolation level, only BEGIN begins a transaction.
    return sqlite3.connect(
        f"{file.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=lock_timeout,
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


def _what_to_do(fault: str, lock_timeout: float) -> str:
    if "locked" in fault:
        return (
            f"is locked by another process, and was for {lock_timeout:.0f} s: wait "
            "until that ends, or find it with `fuser` and end it"
        )
    if "readonly" in fault or "unable to open" in fault:
        return (
            f"can't be written ({fault}): make the file and its folder writable, or "
            "choose another --root"
        )
    if "full" in fault or "disk I/O" in fault:
        return f"can't be written ({fault}): free some space on its disk"
    return (
        f"is no SQLite database that can be read ({fault}): move it away, and the next "
        "run begins with new metadata; what is served stays the baseline"
    )


def _check_schema(file: pathlib.Path, version: int) -> None:
    try:
        open_store(file)
    except RuntimeError as error:
        raise MetadataError(
            f"{file} has the schema version {version}, which ml-metadata "
            f"{ml_metadata.__version__} can't use ({str(error).splitlines()[0]}): run "
            "with the ml-metadata that wrote it, choose another --root, or move the "
            "file away to begin with new metadata"
        ) from error
