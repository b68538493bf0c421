"""The distinction between faults of the machine and faults of a model or of data.

A gate decision depends only on data, model and thresholds. A fault of the machine (a
time-out, a full disk, no memory, a lost connection) fails the step, and the next run
repeats it. This module imports only the standard library, because InfraCheck's probe
loads it as a file and the command line must start fast.
"""

import errno

# These errors describe the content of a path, not a fault of the disk.
_PATH_ERRNOS = frozenset(
    [
        *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY),
        *(errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL),
    ]
)

# TensorFlow's errors have the codes of gRPC. It uses the codes below for no memory, a
# full disk, no permission to read, a lost connection and a broken accelerator. Faults
# of a model have other codes, such as INVALID_ARGUMENT, NOT_FOUND and DATA_LOSS.
_TENSORFLOW_CODES = frozenset(
    [
        *(1, 2, 4),  # CANCELLED, UNKNOWN, DEADLINE_EXCEEDED
        *(7, 8, 10),  # PERMISSION_DENIED, RESOURCE_EXHAUSTED, ABORTED
        *(13, 14, 16),  # INTERNAL, UNAVAILABLE, UNAUTHENTICATED
    ]
)

# These errors come from a path that the user gave: a file in place of a folder, a link
# to itself, a name that is too long.
_WRONG_PATH_ERRNOS = _PATH_ERRNOS - {errno.ENOENT, errno.ENOTEMPTY, errno.EINVAL}

_PROGRAM_ERRORS = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)


def is_wrong_path(error: OSError) -> bool:
    """Returns whether no file or folder can be at the error's path.

    A missing file does not count: the program may have forgotten to write it.
    """
    return error.filename is not None and error.errno in _WRONG_PATH_ERRNOS


def is_fault(error: BaseException) -> bool:
    """Returns whether the machine caused an error, or may have caused it.

    The decision uses the error's TensorFlow code, its errno or its type; an error of
    unknown type counts as the machine's. An OSError without an errno comes from a
    library and does not count: TensorFlow raises one for a folder without a SavedModel.
    """
    code = getattr(error, "error_code", None)  # works without importing TensorFlow
    if code is not None:
        return code in _TENSORFLOW_CODES
    if isinstance(error, OSError):
        return error.errno is not None and error.errno not in _PATH_ERRNOS
    return not isinstance(error, _PROGRAM_ERRORS)
