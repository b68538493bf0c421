"""The reader of NumPy arrays in a pickle, which calls nothing that the pickle names.

`pickle.Unpickler` calls whatever its `find_class` admits: with `numpy.ndarray` and
`numpy.dtype`, a pickle makes arrays of object pointers. This reader interprets the few
instructions that a tuple of numeric arrays needs, and makes the arrays itself.
"""

import collections
import dataclasses
import io
import math
import pickletools
from typing import Any

import numpy as np

from components.datasets.idx import DataError

# Numeric types of at most 8 bytes, as NumPy's pickles write them.
_CODES = frozenset(
    ["b1", "f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]
)
_GLOBALS = frozenset(
    [
        "numpy.ndarray",
        "numpy.dtype",
        "numpy.core.multiarray._reconstruct",
        "numpy._core.multiarray._reconstruct",
    ]
)
_RECONSTRUCT = ".multiarray._reconstruct"
_INSTRUCTIONS = 1_000  # maximum; MNIST's six arrays need about 200
_STATES = 12  # maximum; of MNIST's six arrays and their types
_PLAIN_TYPE = (None, None, None, -1, -1, 0)  # a type without fields and alignment

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = frozenset(
    [
        *("BININT", "BININT1", "BININT2", "LONG1"),
        *("BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES"),
        *("BINUNICODE", "SHORT_BINUNICODE"),
    ]
)
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUTS = frozenset(["PUT", "BINPUT", "LONG_BINPUT"])
_GETS = frozenset(["GET", "BINGET", "LONG_BINGET"])
_NO_EFFECT = frozenset(["PROTO", "FRAME"])


@dataclasses.dataclass(frozen=True)
class _Global:
    """The name of a function or a class in a pickle."""

    name: str


@dataclasses.dataclass(eq=False)
class _Type:
    """An array's type; `dtype` is None until its byte order was read."""

    code: str
    dtype: np.dtype | None = None


@dataclasses.dataclass(eq=False)
class _Array:
    """An array; `values` is None until its data was read."""

    values: np.ndarray | None = None

    @property
    def size(self) -> int:
        """Returns the number of bytes of its data."""
        return 0 if self.values is None else self.values.nbytes


class _Mark:
    """The beginning of a tuple's elements on the stack."""


def read(data: bytes) -> Any:
    """Returns the object in a pickle of numeric arrays, numbers and tuples of these.

    Args:
      data: the pickle, of protocol 2 to 4, written by Python 2 or 3. Strings of Python
        2 are decoded as latin1.

    Raises:
      DataError: the pickle is damaged, or contains anything else.
    """
    try:
        result = _interpret(data)
    except (ValueError, LookupError, TypeError, OverflowError) as error:
        raise DataError(
            f"the pickle is damaged ({error}); fetch the package again"
        ) from error
    return _finish(result)


def _interpret(data: bytes) -> Any:
    """Returns the object in a pickle, with drafts in place of its arrays.

    Raises:
      DataError: the pickle has other instructions than arrays need.
      ValueError, LookupError, TypeError, OverflowError: the pickle is damaged.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    counts: collections.Counter[str] = collections.Counter()
    total = 0  # bytes of all arrays
    for opcode, argument, _ in pickletools.genops(io.BytesIO(data)):
        if opcode.name == "STOP":
            break
        counts[opcode.name] += 1
        # The memo lets one string be the data of any number of arrays.
        if counts.total() > _INSTRUCTIONS or counts["BUILD"] > _STATES:
            raise DataError(
                f"the pickle has more than {_INSTRUCTIONS:,} instructions or "
                f"{_STATES} states, expected six arrays; do not use this file"
            )
        _execute(opcode.name, argument, stack=stack, memo=memo)
        if opcode.name == "BUILD" and isinstance(stack[-1], _Array):
            total += stack[-1].size
            if total > len(data):
                raise DataError(
                    f"the pickle has {len(data):,} bytes, and its arrays have more; do "
                    "not use this file"
                )
    (result,) = stack
    return result


def _execute(
    name: str, argument: Any, *, stack: list[Any], memo: dict[int, Any]
) -> None:
    """Executes one instruction of a pickle on the stack and the memo."""
    if name in _NO_EFFECT:
        pass
    elif name in _CONSTANTS:
        stack.append(_CONSTANTS[name])
    elif name in _LITERALS:
        stack.append(argument)
    elif name == "MARK":
        stack.append(_Mark)
    elif name == "TUPLE":
        start = len(stack) - 1 - stack[::-1].index(_Mark)
        stack[start:] = [tuple(stack[start + 1 :])]
    elif name in _TUPLES:
        start = len(stack) - _TUPLES[name]
        if start < 0:
            raise ValueError("a tuple lacks elements")
        stack[start:] = [tuple(stack[start:])]
    elif name in _PUTS:
        memo[argument] = stack[-1]
    elif name == "MEMOIZE":
        memo[len(memo)] = stack[-1]
    elif name in _GETS:
        stack.append(memo[argument])
    elif name == "GLOBAL":
        stack.append(_create_global(argument.replace(" ", ".", 1)))
    elif name == "STACK_GLOBAL":
        attribute, module = stack.pop(), stack.pop()
        stack.append(_create_global(f"{module}.{attribute}"))
    elif name == "REDUCE":
        arguments, function = stack.pop(), stack.pop()
        stack.append(_make(function, arguments))
    elif name == "BUILD":
        state, target = stack.pop(), stack[-1]
        _set_state(target, state)
    else:
        raise DataError(
            f"the pickle has the instruction {name}, expected NumPy arrays alone; do "
            "not use this file"
        )


def _create_global(name: str) -> _Global:
    """Returns a global by its name; raises DataError unless arrays need it."""
    if name not in _GLOBALS:
        raise DataError(
            f"the pickle asks for {name:.200}, expected NumPy arrays alone; do not use "
            "this file"
        )
    return _Global(name)


def _make(function: Any, arguments: Any) -> _Type | _Array:
    """Returns the type or the array that a call in the pickle stands for."""
    name = function.name if isinstance(function, _Global) else type(function).__name__
    if isinstance(function, _Global) and type(arguments) is tuple:
        first, *rest = arguments
        if name == "numpy.dtype" and type(first) is str and rest == [0, 1]:
            if first in _CODES:
                return _Type(first)
            name = f"{name}({first!r:.20})"
        if name.endswith(_RECONSTRUCT) and first == _Global("numpy.ndarray"):
            shape, code = rest
            if shape == (0,) and code in ("b", b"b"):
                return _Array()
    # Without the arguments: nested tuples can be too long to print.
    raise DataError(
        f"the pickle calls {name}, expected what arrays of numbers need; do not use "
        "this file"
    )


def _set_state(target: Any, state: Any) -> None:
    """Sets the byte order of a type, or the shape and the data of an array."""
    if isinstance(target, _Type) and target.dtype is None:
        version, order, *rest = state
        if version == 3 and order in ("<", ">", "|") and tuple(rest) == _PLAIN_TYPE:
            target.dtype = np.dtype(f"{order}{target.code}")
            return
    if isinstance(target, _Array) and target.values is None:
        version, shape, kind, is_fortran, data = state
        if version == 1 and isinstance(kind, _Type) and kind.dtype is not None:
            target.values = _array(shape, kind.dtype, data=data, is_fortran=is_fortran)
            return
    raise DataError(
        "the pickle sets a state that no array of numbers has, expected NumPy arrays "
        "alone; do not use this file"
    )


def _array(shape: Any, dtype: np.dtype, *, data: Any, is_fortran: Any) -> np.ndarray:
    """Returns an array of this shape; its data must have exactly as many bytes."""
    if not (
        isinstance(shape, tuple)
        and 1 <= len(shape) <= 2
        and all(type(size) is int and size > 0 for size in shape)
    ):
        raise DataError(
            "the pickle has an array of another shape than one or two positive "
            "numbers; do not use this file"
        )
    if isinstance(data, str):
        data = data.encode("latin1")
    if not isinstance(data, bytes):
        raise DataError(
            f"the pickle has an array of {type(data).__name__}, expected bytes; do not "
            "use this file"
        )
    expected = math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise DataError(
            f"the pickle has an array of the shape {shape} and {len(data):,} bytes, "
            f"expected {expected:,} bytes; get the file again"
        )
    return np.frombuffer(data, dtype).reshape(shape, order="F" if is_fortran else "C")


def _finish(value: Any) -> Any:
    """Returns the value with the arrays in place of their drafts, in at most 2 tuples.

    Tuples in a pickle can contain the same tuple many times, so that they are followed
    no deeper than the pairs of a data set.
    """
    if not isinstance(value, tuple):
        return _finished_element(value)
    return tuple(
        tuple(map(_finished_element, part))
        if isinstance(part, tuple)
        else _finished_element(part)
        for part in value
    )


def _finished_element(value: Any) -> Any:
    """Returns an array in place of its draft, and every other value as it is."""
    return value.values if isinstance(value, _Array) else value
