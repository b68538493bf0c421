"""Errors that are faults of the machine, not of the model or the data."""

import errno
import os

import pytest
import tensorflow as tf

from model.files import machine_faults


def of_tensorflow(kind):
    return kind(None, None, "a message")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EIO, os.strerror(errno.EIO)),
        OSError(errno.EMFILE, os.strerror(errno.EMFILE)),
        PermissionError(errno.EACCES, os.strerror(errno.EACCES)),
        TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)),
        ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)),
        MemoryError(),
        ImportError("libcuda.so"),
        RuntimeError("can't start new thread"),
        of_tensorflow(tf.errors.ResourceExhaustedError),
        of_tensorflow(tf.errors.DeadlineExceededError),
        of_tensorflow(tf.errors.UnavailableError),
        of_tensorflow(tf.errors.UnknownError),  # from EIO
        of_tensorflow(tf.errors.InternalError),  # from CUDA
    ],
    ids=repr,
)
def test_the_machines(error):
    assert machine_faults.is_fault(error)


@pytest.mark.parametrize(
    "error",
    [
        OSError("SavedModel file does not exist at: folder"),
        FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)),
        IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)),
        ValueError("elbo: an empty batch must be refused"),
        TypeError("an unexpected keyword"),
        KeyError("loc"),
        of_tensorflow(tf.errors.InvalidArgumentError),
        of_tensorflow(tf.errors.NotFoundError),
        of_tensorflow(tf.errors.DataLossError),
    ],
    ids=repr,
)
def test_a_models(error):
    assert not machine_faults.is_fault(error)


@pytest.mark.parametrize(
    ("number", "name", "expected"),
    [
        *((number, "a", True) for number in (errno.ENOTDIR, errno.ELOOP)),
        *((number, "a", True) for number in (errno.ENAMETOOLONG, errno.EISDIR)),
        (errno.EEXIST, "a", True),
        (errno.ELOOP, None, False),  # not of a path
        *((number, "a", False) for number in (errno.ENOENT, errno.ENOSPC)),
    ],
)
def test_a_path_at_which_no_file_can_be(number, name, expected):
    error = OSError(number, os.strerror(number), name)
    assert machine_faults.is_wrong_path(error) is expected
