"""Pickles of NumPy arrays, written by hand as Python 2 wrote them."""

import struct

RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
EMPTY = RECONSTRUCT + b"cnumpy\nndarray\nK\x00\x85U\x01b\x87R"
FLOATS = (
    b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNN"
    b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
)


def text(data: bytes) -> bytes:
    """Returns the instruction for a byte string of Python 2."""
    return b"T" + struct.pack("<i", len(data)) + data


def array(shape: bytes, kind: bytes = FLOATS, data: bytes | None = None) -> bytes:
    """Returns a pickle of an array.

    Args:
      shape: the instructions for its shape.
      kind: the instructions for its type.
      data: the instruction for its data; None: eight zeros.
    """
    return (
        EMPTY + b"(K\x01" + shape + kind + b"\x89" + (data or text(bytes(8))) + b"tb."
    )
