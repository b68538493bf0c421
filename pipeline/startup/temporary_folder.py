"""A folder for the process's temporary files, which is removed at the end.

Libraries do not remove their temporary files: TFDS leaves a folder for each data set
that it looks up, and AutoGraph leaves modules with their bytecode.
"""

import contextlib
import fcntl
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from model.training import signals

# Around the eight characters that `mkdtemp` chooses. A folder that has such a name is
# removed: nobody would give it to a clone.
_PREFIX, _SUFFIX = "vae-pipeline-", ".tmp"


@contextlib.contextmanager
def use_own_folder() -> Iterator[None]:
    """Makes a new folder for temporary files, and removes it after the block.

    The folders of killed processes are removed, too. If no folder can be made, the
    block uses the default one.
    """
    try:
        parent = pathlib.Path(tempfile.gettempdir())
        _remove_abandoned_folders(parent)
        folder, lock = _create_folder(parent)
    except OSError:
        yield
        return
    before = tempfile.tempdir, os.environ.get("TMPDIR")
    # Python reads tempfile.tempdir; TensorFlow and child processes read TMPDIR.
    tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
    try:
        yield
    finally:
        with signals.defer_signals():
            tempfile.tempdir = before[0]
            if before[1] is None:
                os.environ.pop("TMPDIR", None)
            else:
                os.environ["TMPDIR"] = before[1]
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _create_folder(parent: pathlib.Path) -> tuple[pathlib.Path, int]:
    """Creates and locks a folder; returns it and the descriptor that holds the lock.

    The kernel releases the lock when the process ends, even after SIGKILL.
    """
    while True:
        folder = pathlib.Path(tempfile.mkdtemp(_SUFFIX, _PREFIX, parent))
        # Before the folder is locked, another process may remove it as abandoned.
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists():
                return folder, lock
            os.close(lock)


def _remove_abandoned_folders(parent: pathlib.Path) -> None:
    """Removes the folders of ended processes: those that no process has locked."""
    for folder in parent.glob(f"{_PREFIX}{'?' * 8}{_SUFFIX}"):
        with contextlib.suppress(OSError):  # the folder is another user's, or locked
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(lock).st_uid == os.getuid():
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
