"""The reader of arrays in pickles, with pickles of NumPy and malicious ones."""

import copyreg
import io
import os
import pickle
import resource
import struct

import numpy as np
import pytest

from components.datasets import pickled_arrays
from components.datasets.idx import DataError
from tests.support.pickles import EMPTY, FLOATS, RECONSTRUCT, array, text


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.float32).reshape(3, 4),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.arange(5, dtype=">i8"),
        np.array([1, 255], np.uint8),
        np.array([True, False]),
        np.array([0.5], np.float16),
    ],
    ids=lambda array: str(array.dtype),
)
def test_reads_numeric_arrays_as_pickle_does(array, protocol):
    data = pickle.dumps(((array, 1), (array[::-1], None)), protocol)
    if protocol == 2:  # Python 3 writes bytes by a call of `_codecs.encode`
        with pytest.raises(DataError, match="the pickle asks for _codecs.encode, exp"):
            pickled_arrays.read(data)
        return
    (first, one), (second, nothing) = pickled_arrays.read(data)
    assert (one, nothing) == (1, None)
    for found, expected in ((first, array), (second, array[::-1])):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_the_pickle_packed_by_hand_is_an_array():
    """Shows that the refusals below are not due to the test's own packing."""
    data = array(b"K\x02\x85", data=text(struct.pack("<2f", 1.5, -2)))
    np.testing.assert_array_equal(pickled_arrays.read(data), [1.5, -2])
    np.testing.assert_array_equal(
        pickle.loads(b"\x80\x02" + data, encoding="latin1"), [1.5, -2]
    )


def objects():
    return pickle.dumps(np.array([None, {}], object), 4)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        # Object pointers, of which an attacker chooses the bytes.
        (objects(), "the pickle calls numpy.dtype('O8'), expected what arrays of"),
        (b"cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R.", "calls numpy.dtype('O8'), expect"),
        (b"cnumpy\ndtype\nU\x02V8K\x00K\x01\x87R.", "calls numpy.dtype('V8'), expect"),
        (b"cnumpy\ndtype\nU\x02S8K\x00K\x01\x87R.", "calls numpy.dtype('S8'), expect"),
        (b"cnumpy\ndtype\nU\x02M8K\x00K\x01\x87R.", "calls numpy.dtype('M8'), expect"),
        (b"cnumpy\ndtype\nU\x05f4,O8K\x00K\x01\x87R.", "numpy.dtype('f4,O8'), expect"),
        (b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01|N(dNNNNtb.", "DICT"),
        (
            b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<N)NJ\xff\xff\xff\xff"
            b"J\xff\xff\xff\xffK\x3ftb.",
            "the pickle sets a state that no array of numbers has",
        ),
        # Calls of what is admitted as a name alone.
        (b"cnumpy\nndarray\nK\x05\x85R.", "the pickle calls numpy.ndarray, expected"),
        (b"cnumpy\nndarray\nK\x01\x85U\x02O8\x86R.", "calls numpy.ndarray, expected"),
        (RECONSTRUCT + b"K\x00K\x00\x85U\x01b\x87R.", "calls numpy.core.multiarray._r"),
        (
            RECONSTRUCT + b"cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85U\x01b\x87R.",
            "the pickle calls numpy.core.multiarray._reconstruct, expected",
        ),
        (EMPTY + b")R.", "the pickle calls _Array, expected what arrays"),
        # Other instructions that call or look up something.
        (b"cnumpy\nndarray\n)\x81.", "has the instruction NEWOBJ, expected NumPy"),
        (b"cnumpy\nndarray\n)}\x92.", "has the instruction EMPTY_DICT, expected"),
        (b"(inumpy\nndarray\n.", "the pickle has the instruction INST, expected"),
        (b"(cnumpy\nndarray\no.", "the pickle has the instruction OBJ, expected"),
        (b"\x82\x01.", "the pickle has the instruction EXT1, expected NumPy arrays"),
        (b"Pkey\n.", "the pickle has the instruction PERSID, expected NumPy arrays"),
        (b"K\x01Q.", "the pickle has the instruction BINPERSID, expected NumPy arr"),
        (b"\x97.", "the pickle has the instruction NEXT_BUFFER, expected NumPy arr"),
        (b"]K\x01a.", "the pickle has the instruction EMPTY_LIST, expected NumPy"),
        (b"\x8c\x02os\x8c\x06system\x93.", "the pickle asks for os.system, expected"),
        (b"cnumpy.core.multiarray\nscalar\n.", "asks for numpy.core.multiarray.scal"),
        # States of arrays.
        (array(b"\x8a\x05\0\0\0\0\x40\x85"), "shape (274877906944,) and 8 bytes, expe"),
        (array(b"\x8a\x09" + bytes(8) + b"\1\x85"), "and 8 bytes, expected 73,786,97"),
        (array(b"J\xff\xff\xff\xff\x85"), "has an array of another shape than one or"),
        (array(b"K\x00\x85"), "has an array of another shape than one or two positive"),
        (array(b"K\x01K\x01K\x02\x87"), "has an array of another shape than one or"),
        (array(b"\x88\x85"), "has an array of another shape than one or two positive"),
        (array(b"K\x02"), "has an array of another shape than one or two positive"),
        (array(b"K\x02\x85", data=b"K\x08"), "has an array of int, expected bytes; do"),
        (array(b"K\x02\x85", data=b")"), "has an array of tuple, expected bytes; do"),
        (array(b"K\x02\x85", kind=b"N"), "sets a state that no array of numbers has"),
        (array(b"K\x02\x85", data=b"X\x02\0\0\0\xc4\x80"), "damaged ('latin-1' codec"),
        (
            array(b"K\x02\x85")[:-1] + b"(K\x01K\x02\x85" + FLOATS + b"\x89Ntb.",
            "the pickle sets a state that no array of numbers has, expected NumPy",
        ),
        (b"cnumpy\nndarray\n)b.", "the pickle sets a state that no array of numbers"),
        (b")Nb.", "the pickle sets a state that no array of numbers has, expected"),
        # Damage.
        (b"", "the pickle is damaged (pickle exhausted before seeing STOP); fetch the"),
        (b".", "the pickle is damaged (not enough values to unpack"),
        (b"K\x01K\x02.", "the pickle is damaged (too many values to unpack"),
        (b"R.", "the pickle is damaged (pop from empty list)"),
        (b"t.", "the pickle is damaged ("),
        (b"\x86.", "the pickle is damaged (a tuple lacks elements)"),
        (b"h\x05.", "the pickle is damaged (5)"),
        (b"\x8e" + b"\xff" * 8 + b".", "the pickle is damaged ("),
        (b"T\xff\xff\xff\x7f.", "the pickle is damaged (expected 2147483647 bytes in"),
        (b"T\xff\xff\xff\xff.", "the pickle is damaged (string4 byte count < 0: -1)"),
        (b"I" + b"9" * 5000 + b"\n.", "the pickle "),
        (b"K\x01" * 1001 + b".", "has more than 1,000 instructions or 12 states, exp"),
        (FLOATS * 13 + b".", "has more than 1,000 instructions or 12 states, expected"),
    ],
)
def test_anything_else_is_refused(data, message):
    with pytest.raises(DataError) as error:
        pickled_arrays.read(data)
    assert message in str(error.value)


def test_many_arrays_of_one_text_are_refused():
    """Each array would be a copy of the text."""
    text = b"X" + struct.pack("<I", 4096) + bytes(4096) + b"q\x05"
    shape = EMPTY + b"(K\x01M\x00\x04\x85"
    first = shape + FLOATS + b"q\x06\x89" + text + b"tb"
    assert len(pickled_arrays.read(first + b".")) == 1024
    pickle_ = first + shape + b"h\x06\x89h\x05tb" + b"\x86."
    with pytest.raises(DataError) as error:
        pickled_arrays.read(pickle_)
    assert str(error.value) == (
        f"the pickle has {len(pickle_):,} bytes, and its arrays have more; do not use "
        "this file"
    )


def test_an_extension_that_was_used_before_is_refused():
    """`pickle.Unpickler` takes an extension from its cache without `find_class`."""
    copyreg.add_extension("os", "getpid", 0xF0)
    try:
        data = b"\x80\x02\x82\xf0)R."
        assert pickle.loads(data) == os.getpid()
        with pytest.raises(DataError, match="has the instruction EXT1, expected"):
            pickled_arrays.read(data)
    finally:
        copyreg.remove_extension("os", "getpid", 0xF0)


def test_a_persistent_id_is_refused():
    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return "key" if isinstance(value, np.ndarray) else None

    file = io.BytesIO()
    Pickler(file, 4).dump((np.zeros(3), 1))
    with pytest.raises(DataError, match="has the instruction BINPERSID, expected"):
        pickled_arrays.read(file.getvalue())


def test_a_high_index_of_the_memo_takes_no_memory():
    """`pickle.Unpickler` makes a table of as many entries."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert pickled_arrays.read(b"K\x07r\xff\xff\xff\xff.") == 7
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


@pytest.mark.parametrize("call", [b")R", b"cnumpy\ndtype\nh\x00R"])
def test_nested_tuples_are_not_printed(call):
    """60 tuples of two that are one: as text, they would have 2^60 elements."""
    nested = b")q\x00" + b"h\x00h\x00\x86q\x00" * 60
    with pytest.raises(DataError, match="the pickle calls (tuple|numpy.dtype), expec"):
        pickled_arrays.read(nested + call + b".")
