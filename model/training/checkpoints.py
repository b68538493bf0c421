"""Checkpoints: the saved state of a training, from which the same training resumes."""

import logging
import os
import posixpath

import tensorflow as tf

from model.files import filesystems
from model.training.state import State

logger = logging.getLogger(__name__)

_KEEP = 2  # the previous checkpoint is used if the last one is damaged
_INDEX = "checkpoint"  # TensorFlow's file with the name of the last checkpoint
_DONE = "done"  # an empty file that marks a training as done


class Checkpoints:
    """The checkpoints of one training, in a local folder or in an object store.

    A checkpoint is valid when the index names it, and the index is replaced atomically:
    if a process is killed while it writes a checkpoint, the previous one stays valid.
    """

    def __init__(self, state: State, parent: str, *, identity: str, scratch: str):
        """Prepares saving and restoring; writes nothing until the first checkpoint.

        Args:
          state: the state to save and restore.
          parent: folder or URI in which each training has a folder of checkpoints.
          identity: identity of this training, the name of its folder in `parent`.
          scratch: local folder for copies of the checkpoints if `parent` is a URI.

        Raises:
          PathError: the URI's scheme is unknown.
        """
        self._state, self._parent = state, parent.rstrip("/")
        folder = filesystems.local_path(parent)
        self._uri = "" if folder else f"{parent.rstrip('/')}/{identity}"
        self._folder = os.path.join(folder or scratch, identity)
        self._checkpoint = tf.train.Checkpoint(state=state)
        self._manager = self._new_manager()

    @property
    def latest(self) -> str | None:
        """Returns the path or URI of the last checkpoint; None if there is none."""
        path = self._manager.latest_checkpoint
        return f"{self._uri}/{os.path.basename(path)}" if path and self._uri else path

    def restore(self) -> None:
        """Restores the state from the last undamaged checkpoint, if there is one.

        Removes the checkpoints in `parent` of other trainings that are marked as done.

        Raises:
          StorageError: the object store does not answer.
        """
        self._remove_others()
        if self._uri:
            self._download()
        variables = self._state.variables()
        fresh = [variable.numpy() for variable in variables]
        for path in reversed(self._manager.checkpoints):
            try:
                self._checkpoint.restore(path).assert_existing_objects_matched()
            except (tf.errors.OpError, AssertionError, ValueError) as error:
                why = " ".join(str(error).split())
                logger.warning("checkpoint %s is damaged (%s): not used", path, why)
                for variable, value in zip(variables, fresh):
                    variable.assign(value)  # a part may have been restored
                continue
            logger.info("resuming from step %d: %s", self._state.steps_done, path)
            return

    def save(self) -> None:
        """Saves the state as the newest checkpoint, unless a weight is not finite.

        If the object store does not answer, the training continues: a warning is
        logged, and the checkpoint stays on this machine's disk.

        Raises:
          tf.errors.OpError: the disk can't be written.
        """
        if not self._state.is_finite():
            return
        path = self._manager.save(checkpoint_number=self._state.steps_done)
        if self._uri:
            try:
                self._upload(os.path.basename(path))
            except filesystems.StorageError as error:
                logger.warning("checkpoint %s is on this machine only: %s", path, error)

    def mark_done(self) -> None:
        """Marks the training as done, so that the next one removes its checkpoints.

        Raises:
          StorageError: the object store does not answer.
        """
        with filesystems.open_filesystem(self._uri or self._folder) as (files, folder):
            files.makedirs(folder, exist_ok=True)
            files.touch(posixpath.join(folder, _DONE))

    def _remove_others(self) -> None:
        """Removes the checkpoints of the other trainings that are marked as done."""
        own_name = os.path.basename(self._uri or self._folder)
        with filesystems.open_filesystem(self._parent) as (files, parent):
            for folder in (
                files.ls(parent, detail=False) if files.exists(parent) else ()
            ):
                is_done = files.exists(posixpath.join(folder, _DONE))
                if is_done and posixpath.basename(folder.rstrip("/")) != own_name:
                    logger.info("removing checkpoints of a done training: %s", folder)
                    files.rm(folder, recursive=True)

    def _new_manager(self) -> tf.train.CheckpointManager:
        return tf.train.CheckpointManager(self._checkpoint, self._folder, _KEEP)

    def _upload(self, name: str) -> None:
        """Uploads a checkpoint and the index, and removes older checkpoints."""
        parts = [part for part in os.listdir(self._folder) if _stem(part) == name]
        with filesystems.open_filesystem(self._uri) as (files, folder):
            # The index comes last, so that it names only complete checkpoints.
            for part in (*parts, _INDEX):
                source = os.path.join(self._folder, part)
                files.put_file(source, posixpath.join(folder, part))
            kept = {os.path.basename(path) for path in self._manager.checkpoints}
            for path in files.ls(folder, detail=False):
                part = posixpath.basename(path)
                if part != _INDEX and _stem(part) not in kept:
                    files.rm_file(path)

    def _download(self) -> None:
        """Downloads the index and the checkpoints to the scratch folder, if any."""
        with filesystems.open_filesystem(self._uri) as (files, folder):
            if not files.exists(posixpath.join(folder, _INDEX)):
                return
            os.makedirs(self._folder, exist_ok=True)
            for path in files.ls(folder, detail=False):
                files.get_file(
                    path, os.path.join(self._folder, posixpath.basename(path))
                )
        self._manager = self._new_manager()


def _stem(part: str) -> str:
    """Returns the name of the checkpoint that a file belongs to."""
    return part.rpartition(".")[0]
