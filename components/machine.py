"""Faults of the machine, as against faults of a model or of data.

A gate decision depends on data, model and thresholds alone. What the machine did (a
time-out, a full disk, no memory, a lost connection) fails the step: the next run tries
it again. This file imports no other of ours, for InfraCheck's probe loads it.
"""

import errno

import tensorflow as tf

# They say what is at a path, not what is wrong with the disk.
_OF_PATHS = frozenset(
    [
        *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY),
        *(errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL),
    ]
)

# TensorFlow gives these for no memory, a full disk, no permission to read, a lost
# connection and a broken accelerator. A model's own fault is InvalidArgumentError,
# NotFoundError, DataLossError and the like.
_OF_TENSORFLOW = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.PermissionDeniedError,
    tf.errors.ResourceExhaustedError,
    tf.errors.UnauthenticatedError,
    tf.errors.UnavailableError,
    tf.errors.UnknownError,
)

_OF_CODE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)


def is_fault(error: BaseException) -> bool:
    """Whether an error is the machine's, or may be: in doubt it is.

    An OSError without a number is a library's own, such as TensorFlow's for a folder
    that holds no SavedModel.
    """
    if isinstance(error, tf.errors.OpError):
        return isinstance(error, _OF_TENSORFLOW)
    if isinstance(error, OSError):
        return error.errno is not None and error.errno not in _OF_PATHS
    return not isinstance(error, _OF_CODE)
