"""TFRecords packed by hand, and right and wrong files of them."""

import struct

import google_crc32c


def mask(data: bytes) -> bytes:
    """Returns the four bytes of the masked CRC-32C of some data."""
    crc = google_crc32c.value(data)
    rotated = (crc >> 15 | crc << 17) % 2**32
    return struct.pack("<I", (rotated + 0xA282EAD8) % 2**32)


def header(length: int) -> bytes:
    """Returns the beginning of a record: a length and its checksum."""
    packed = struct.pack("<Q", length)
    return packed + mask(packed)


def pack(data: bytes) -> bytes:
    """Returns a whole record."""
    return header(len(data)) + data + mask(data)
