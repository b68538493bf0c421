"""Faults of the machine, as against faults of a model or of data.

A gate decision depends on data, model and thresholds alone. What the machine did (a
time-out, a full disk, no memory, a lost connection) fails the step: the next run tries
it again. Only the standard library is imported: InfraCheck's probe loads this file,
and the command line must start at once.
"""

import errno

# They say what is at a path, not what is wrong with the disk.
_PATH_ERRNOS = frozenset(
    [
        *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY),
        *(errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL),
    ]
)

# The codes of TensorFlow's errors, which are gRPC's: it gives these for no memory, a
# full disk, no permission to read, a lost connection and a broken accelerator. A
# model's own faults are INVALID_ARGUMENT, NOT_FOUND, DATA_LOSS and the like.
_TENSORFLOW_CODES = frozenset(
    [
        *(1, 2, 4),  # CANCELLED, UNKNOWN, DEADLINE_EXCEEDED
        *(7, 8, 10),  # PERMISSION_DENIED, RESOURCE_EXHAUSTED, ABORTED
        *(13, 14, 16),  # INTERNAL, UNAVAILABLE, UNAUTHENTICATED
    ]
)

_PROGRAM_ERRORS = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)


def is_fault(error: BaseException) -> bool:
    """Whether an error is the machine's, or may be: in doubt it is.

    An OSError without a number is a library's own, such as TensorFlow's for a folder
    that holds no SavedModel.
    """
    code = getattr(error, "error_code", None)  # TensorFlow is not imported for this
    if code is not None:
        return code in _TENSORFLOW_CODES
    if isinstance(error, OSError):
        return error.errno is not None and error.errno not in _PATH_ERRNOS
    return not isinstance(error, _PROGRAM_ERRORS)
