"""A folder of the process's own for temporary files, which goes with all that is left.

TFDS leaves a folder for each data set that it looks up, and AutoGraph the modules that
it writes, with their bytecode.
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
def own_folder() -> Iterator[None]:
    """Keeps the block's temporary files in a new folder, and removes it at the end.

    The folders of processes that were killed are removed too. Where no folder can be
    made, the block runs without one.
    """
    try:
        parent = pathlib.Path(tempfile.gettempdir())
        _remove_left(parent)
        folder, lock = _new_folder(parent)
    except OSError:
        yield
        return
    before = tempfile.tempdir, os.environ.get("TMPDIR")
    # Python reads the first, and what it starts and TensorFlow the second.
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


def _new_folder(parent: pathlib.Path) -> tuple[pathlib.Path, int]:
    """Returns a new folder, and the descriptor that keeps it locked while it is open.

    The kernel unlocks the folder of a process that ends, however it ends.
    """
    while True:
        folder = pathlib.Path(tempfile.mkdtemp(_SUFFIX, _PREFIX, parent))
        # Until it is locked, another process may take it for one that was left.
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists():
                return folder, lock
            os.close(lock)


def _remove_left(parent: pathlib.Path) -> None:
    """Removes the folders that no process has locked any more."""
    for folder in parent.glob(f"{_PREFIX}{'?' * 8}{_SUFFIX}"):
        with contextlib.suppress(OSError):  # another user's, or locked
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(lock).st_uid == os.getuid():
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
