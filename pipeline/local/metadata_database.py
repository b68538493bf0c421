"""The SQLite file of ML Metadata in a root, and the check before a run uses it."""

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
    """Raises MetadataError for an unusable file; renames artifacts without metadata.

    New metadata number executions from 1, and a step's output folder has that number as
    name. So if the metadata have no executions, new outputs would be mixed with old
    ones: this renames the folder of artifacts to `artifacts-<time>`.

    Args:
      file: the SQLite file, which need not exist.
      artifacts: the folder of the steps' outputs.
      print_line: prints a line for people if the folder is renamed.
      lock_timeout: seconds to wait for another process's lock.

    Raises:
      MetadataError: the file is no SQLite database, is damaged, cannot be written,
        stays locked, or has a schema that this ml-metadata does not know.
    """
    executions = _count_executions(file, lock_timeout) if file.exists() else 0
    if executions == 0 and artifacts.is_dir() and any(artifacts.iterdir()):
        now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        new_path = artifacts.with_name(f"{artifacts.name}-{now}")
        artifacts.rename(new_path)
        print_line(
            f"{file} has no entry for the artifacts in {artifacts}: they were moved "
            f"to {new_path}, and every step runs again"
        )


def open_store(
    file: pathlib.Path, *, is_read_only: bool = False
) -> metadata_store.MetadataStore:
    """Opens the metadata store in a SQLite file.

    Args:
      file: the SQLite file.
      is_read_only: whether to open it without a lock on writers, beside a run.
    """
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(file)
    if is_read_only:
        config.sqlite.connection_mode = (
            metadata_store_pb2.SqliteMetadataSourceConfig.READONLY
        )
    return metadata_store.MetadataStore(config)


def _count_executions(file: pathlib.Path, lock_timeout: float) -> int:
    """Checks a metadata file, and returns the number of executions in it."""
    try:
        # The connection must be closed before ml-metadata opens the file: POSIX drops
        # all locks of a process on a file when it closes any descriptor of the file.
        with contextlib.closing(_connect(file, lock_timeout)) as database:
            _try_to_write(database)
            (fault,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if fault != "ok":
                raise sqlite3.DatabaseError(" ".join(fault.split()))
            version = _read_number(database, "SELECT schema_version FROM MLMDEnv")
            count = _read_number(database, "SELECT count(*) FROM Execution")
    except sqlite3.Error as error:
        raise MetadataError(
            f"{file} {_describe_fault(str(error), lock_timeout)}"
        ) from error
    if version:
        _check_schema(file, version)
    return count


def _connect(file: pathlib.Path, lock_timeout: float) -> sqlite3.Connection:
    # Without an isolation level, sqlite3 begins no transaction by itself.
    return sqlite3.connect(
        f"{file.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=lock_timeout,
        isolation_level=None,
    )


def _try_to_write(database: sqlite3.Connection) -> None:
    """Writes the database's user_version again, which fails if it is not writable."""
    database.execute("BEGIN IMMEDIATE")
    (version,) = database.execute("PRAGMA user_version").fetchone()
    database.execute(f"PRAGMA user_version = {version:d}")
    database.execute("COMMIT")


def _read_number(database: sqlite3.Connection, query: str) -> int:
    """Returns the number that a query selects; 0 without the table or a row."""
    try:
        row = database.execute(query).fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):  # the file is new
            return 0
        raise
    return row[0] if row else 0


def _describe_fault(fault: str, lock_timeout: float) -> str:
    """Returns what SQLite's error message means for a run, and what to do."""
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
    """Raises MetadataError if ml-metadata cannot use the file's schema version."""
    try:
        open_store(file)
    except RuntimeError as error:
        raise MetadataError(
            f"{file} has the schema version {version}, which ml-metadata "
            f"{ml_metadata.__version__} can't use ({str(error).splitlines()[0]}): run "
            "with the ml-metadata that wrote it, choose another --root, or move the "
            "file away to begin with new metadata"
        ) from error
