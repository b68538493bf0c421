"""The reader of image files, which converts harmless forms and refuses others."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from pipeline.cli import image_files
from pipeline.cli.image_files import ImageError, batches, read

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, [28, 28], dtype=np.uint8)
BITS = (RNG.integers(0, 2, [28, 28]) * 255).astype(np.uint8)


def opaque(mode):
    return Image.fromarray(GREY).convert("RGBA").convert(mode)


def palette():
    image = Image.fromarray(GREY, "L").copy()
    indexed = Image.frombytes("P", (28, 28), image.tobytes())
    indexed.putpalette([value for value in range(256) for _ in range(3)])
    return indexed


def saved(tmp_path, image, name="a.png", **options):
    path = str(tmp_path / name)
    image.save(path, **options)
    return path


def read_one(path):
    """Reads one image file; returns its pixels, and the notes about its conversion."""
    notes = []
    file = read(path, notes.append)
    assert file.names == [path]
    assert file.pixels.shape == (1, 28, 28)
    return np.array(file.pixels[0]), notes


def test_a_grey_png_is_read_as_it_is(tmp_path):
    pixels, notes = read_one(saved(tmp_path, Image.fromarray(GREY)))
    np.testing.assert_array_equal(pixels, GREY)
    assert notes == []


def test_a_grey_jpeg_is_read(tmp_path):
    flat = np.full([28, 28], 77, np.uint8)
    pixels, notes = read_one(saved(tmp_path, Image.fromarray(flat), "a.jpg"))
    np.testing.assert_array_equal(pixels, flat)
    assert notes == []


@pytest.mark.parametrize(
    ("image", "expected", "note"),
    [
        (opaque("LA"), GREY, "converted from mode LA to grey values, without a loss"),
        (
            opaque("RGBA"),
            GREY,
            "converted from mode RGBA to grey values, without a loss",
        ),
        (opaque("RGB"), GREY, "converted from mode RGB to grey values, without a loss"),
        (palette(), GREY, "converted from mode P to grey values, without a loss"),
        (
            Image.fromarray(BITS).convert("1"),
            BITS,
            "converted from 1 bit to grey values of 0 and 255",
        ),
        (
            Image.fromarray(GREY.astype(np.uint16) * 257),
            GREY,
            "converted from 16 bits to 8, without a loss",
        ),
    ],
)
def test_harmless_differences_are_converted_with_a_message(
    tmp_path, image, expected, note
):
    path = saved(tmp_path, image)
    pixels, notes = read_one(path)
    np.testing.assert_array_equal(pixels, expected)
    (message,) = notes
    assert message.startswith(f"{path}: {note}")


def a_colour():
    pixels = np.stack([GREY] * 3, axis=-1)
    pixels[5, 6, 2] ^= 1
    return Image.fromarray(pixels)


def make_transparent():
    pixels = np.stack([GREY] * 3 + [np.full([28, 28], 255, np.uint8)], axis=-1)
    pixels[5, 6, 3] = 254
    return Image.fromarray(pixels)


def of_16_bits():
    pixels = GREY.astype(np.uint16) * 257
    pixels[0, 0] += 1
    return Image.fromarray(pixels)


def with_exif(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize(
    ("image", "name", "options", "message"),
    [
        (a_colour(), "a.png", {}, "it must be grey, got colours"),
        (
            make_transparent(),
            "a.png",
            {},
            "it must be opaque, got transparent pixels: lay it on black",
        ),
        (
            Image.fromarray(GREY),
            "a.png",
            {"transparency": int(GREY[0, 0])},
            "it must be opaque, got transparent pixels: lay it on black",
        ),
        (
            of_16_bits(),
            "a.png",
            {},
            "it must be of 8 bits, got 16, and values that 8 can't hold",
        ),
        (
            Image.new("L", (28, 56)),
            "a.png",
            {},
            "it must be of 28x28 pixels, got 28x56: scale it first",
        ),
        (Image.new("CMYK", (28, 28)), "a.jpg", {}, "it must be grey, got mode CMYK"),
        (
            Image.fromarray(GREY),
            "a.jpg",
            {"exif": with_exif(6)},
            "its EXIF data say that it is to be turned: save it upright",
        ),
        (
            Image.fromarray(GREY),
            "a.png",
            {"save_all": True, "append_images": [Image.fromarray(BITS)]},
            "it must be one image, got an animation",
        ),
        (
            Image.fromarray(GREY),
            "a.gif",
            {},
            "it is neither a PNG nor a JPEG nor named .npy; expected a grey PNG or "
            "JPEG of 28x28 pixels, or a .npy of such",
        ),
    ],
)
def test_pictures_that_are_refused(tmp_path, image, name, options, message):
    path = saved(tmp_path, image, name, **options)
    with pytest.raises(ImageError) as error:
        read(path, pytest.fail)
    assert str(error.value) == f"{path}: {message}"


def test_exif_of_an_upright_image_is_accepted(tmp_path):
    path = saved(tmp_path, Image.fromarray(GREY), "a.jpg", exif=with_exif(1))
    assert read(path, pytest.fail).pixels.shape == (1, 28, 28)


def png():
    file = io.BytesIO()
    Image.fromarray(GREY).save(file, "PNG")
    return file.getvalue()


def huge():
    """Returns a PNG whose header states 60,000 x 60,000 pixels, which are 3.6 GB."""

    def chunk(kind, data):
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(100_000)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.png", png()[:300], "image file is truncated"),
        ("a.png", b"", "it is neither a PNG nor a JPEG nor named .npy"),
        ("a.png", b"<svg/>", "it is neither a PNG nor a JPEG nor named .npy"),
        ("a.png", huge(), "Image size (3600000000 pixels) exceeds limit"),
        ("a.png", png() + bytes(1024**2), "more than any image of 28x28 pixels"),
        ("a.npy", b"\x80\x04K\x01.", "it is no .npy of numbers"),
        ("a.npy", b"", "it is no .npy of numbers"),
    ],
)
def test_files_that_are_refused(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ImageError) as error:
        read(str(tmp_path / name), pytest.fail)
    assert str(error.value).startswith(f"{tmp_path / name}: ")
    assert message in str(error.value)


def test_text_that_is_a_bomb_is_refused(tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "a" * 80_000_000, zip=True)
    path = saved(tmp_path, Image.fromarray(GREY), pnginfo=info)
    with pytest.raises(ImageError, match="Decompressed data too large"):
        read(path, pytest.fail)


def test_a_file_that_is_not_there():
    with pytest.raises(ImageError) as error:
        read("no/such.png", pytest.fail)
    assert str(error.value) == (
        "no/such.png: No such file or directory; expected a grey PNG or JPEG of 28x28 "
        "pixels, or a .npy of such"
    )


@pytest.mark.parametrize("shape", [[28, 28], [28, 28, 1], [3, 28, 28], [3, 28, 28, 1]])
@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.float64, np.float16])
def test_arrays(tmp_path, shape, kind):
    whole = RNG.integers(0, 256, shape)
    values = whole.astype(np.uint8) if kind == np.uint8 else (whole / 255).astype(kind)
    path = str(tmp_path / "a.npy")
    np.save(path, values)
    file = read(path, pytest.fail)
    count = 3 if shape[0] == 3 else 1
    several = [f"{path}[{i}]" for i in range(3)]
    assert file.names == (several if count == 3 else [path])
    ((names, got),) = batches([file], 128)
    assert names == file.names
    assert (got.shape, got.dtype) == ((count, 28, 28, 1), np.float32)
    np.testing.assert_allclose(got, whole.reshape(got.shape) / 255, atol=4e-4)


def test_an_array_of_booleans_is_converted_with_a_message(tmp_path):
    path = str(tmp_path / "a.npy")
    np.save(path, BITS > 0)
    pixels, notes = read_one(path)
    np.testing.assert_array_equal(pixels, BITS)
    assert notes == [f"{path}: converted false and true to 0 and 255"]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.zeros([27, 28]),
            "its shape must be [28, 28], [28, 28, 1], [N, 28, 28] or [N, 28, 28, 1], "
            "got [27, 28]",
        ),
        (np.zeros([28, 28, 3]), "its shape must be [28, 28]"),
        (np.zeros([]), "its shape must be [28, 28]"),
        (np.zeros([0, 28, 28]), "it must have 1 to 100,000 images, got 0"),
        (
            np.zeros([28, 28], np.int64),
            "its type must be uint8, or floats in [0, 1], got int64",
        ),
        (np.zeros([28, 28], complex), "its type must be uint8, or floats in [0, 1]"),
        (np.full([28, 28], None), "it is no .npy of numbers (Array can't be memory"),
    ],
)
def test_arrays_that_are_refused(tmp_path, array, message):
    path = str(tmp_path / "a.npy")
    np.save(path, array, allow_pickle=True)
    with pytest.raises(ImageError) as error:
        read(path, pytest.fail)
    assert str(error.value).startswith(f"{path}: {message}")


def test_an_array_that_is_cut_off(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros([9, 28, 28]))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ImageError, match="it is no .npy of numbers"):
        read(str(path), pytest.fail)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ("(1099511627776, 28, 28)", "it is no .npy of numbers (mmap length is greater"),
        ("(100000, 28, 28)", "it is no .npy of numbers (mmap length is greater than"),
        ("(1208925819614629174706176, 28, 28)", "it is no .npy of numbers ("),
        # 784 bytes modulo 2^64.
        ("(1152921504606846977, 28, 28)", "it is no .npy of numbers ("),
        ("(-1, 28, 28)", "it is no .npy of numbers ("),
        ("(-1, -28, 28)", "it is no .npy of numbers ("),
        ("(1, 28, 28.0)", "it is no .npy of numbers ("),
        ("(" + "28, " * 99 + ")", "it is no .npy of numbers ("),
    ],
)
def test_a_shape_that_the_file_cannot_have_is_refused(tmp_path, shape, message):
    path = tmp_path / "a.npy"
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    size = struct.pack("<H", len(header))
    path.write_bytes(b"\x93NUMPY\x01\x00" + size + header + bytes(784))
    with pytest.raises(ImageError) as error:
        read(str(path), pytest.fail)
    assert str(error.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    ("value", "shown"), [(np.nan, "nan"), (1.5, "1.5"), (-0.25, "-0.25")]
)
def test_floats_out_of_range_are_refused(tmp_path, value, shown):
    path = str(tmp_path / "a.npy")
    array = np.zeros([3, 28, 28])
    array[1, 2, 3] = value
    np.save(path, array)
    with pytest.raises(ImageError) as error:
        list(batches([read(path, pytest.fail)], 128))
    assert str(error.value) == (
        f"{path}[1]: floats must be in [0, 1], got {shown} at row 2, column 3"
    )


def test_batches_are_of_one_size_across_files(tmp_path):
    arrays = [np.full([n, 28, 28], n, np.uint8) for n in (3, 1, 6)]
    files = []
    for number, array in enumerate(arrays):
        np.save(tmp_path / f"{number}.npy", array)
        files.append(read(str(tmp_path / f"{number}.npy"), pytest.fail))
    got = list(batches(files, 4))
    assert [len(pixels) for _, pixels in got] == [4, 4, 2]
    everything = np.concatenate([pixels for _, pixels in got])[..., 0]
    np.testing.assert_allclose(everything, np.concatenate(arrays) / 255, rtol=1e-6)
    names = [name for each, _ in got for name in each]
    assert names == [name for file in files for name in file.names]


def test_the_grid_shows_each_image_where_it_belongs():
    three = np.stack([np.full([28, 28, 1], v) for v in (0.0, 1.0, 0.2)])
    picture = np.asarray(image_files.grid(three, 2))
    assert picture.shape == (2 + 2 * 58, 2 + 2 * 58)
    assert np.unique(picture[2:58, 2:58]) == 0
    assert np.unique(picture[2:58, 60:116]) == 255
    assert np.unique(picture[60:116, 2:58]) == 51
    assert np.unique(picture[60:116, 60:116]) == 128  # an empty cell
    apart = np.asarray(image_files.grid(three, 2, group=1))
    assert apart.shape == (118, 124)
    assert np.unique(apart[2:58, 66:122]) == 255


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (
            b"\2\0" + struct.pack("<I", 2**32 - 1),
            "header states a length of 4,294,967,",
        ),
        (b"\1\0" + struct.pack("<H", 65_535), "header states a length of 65,535 bytes"),
        (b"\1\0" + struct.pack("<H", 9_000) + b"(" * 9_000, "no .npy of numbers ("),
        (b"\1\0" + struct.pack("<H", 40) + b"(True, 28, 28)".ljust(40), "numbers ("),
    ],
)
def test_headers_that_are_refused(tmp_path, data, why):
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY" + data)
    with pytest.raises(ImageError) as error:
        read(str(path), pytest.fail)
    assert why in str(error.value)
    assert len(str(error.value)) < 1_000
