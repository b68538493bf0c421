"""The reader of the image files that users give, and the writer of PNG pictures.

The reader refuses an image whose conversion would lose information.
"""

import os
import pathlib
import tokenize
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from model.errors import PipelineError

SIZE = 28  # pixels per side

_FILE_BYTES = 1024**2  # maximum of a PNG or JPEG; 28x28 pixels need a few hundred
_HEADER_BYTES = 10_000  # maximum in a .npy file; the header of an array has 118
_LONGEST_REASON = 300  # characters of NumPy's message
# NumPy evaluates the header as a Python literal.
_HEADER_ERRORS = (
    *(ValueError, SyntaxError, OverflowError, TypeError, tokenize.TokenError),
    *(RecursionError, MemoryError),
)
_ARRAY_IMAGES = 100_000  # maximum in one .npy file
_ORIENTATION = 0x0112  # EXIF's tag for how to turn an image
_EXPECTED = "a grey PNG or JPEG of 28x28 pixels, or a .npy of such"


class ImageError(PipelineError):
    """An image file is refused; the message has the reason and what was expected."""

    is_bad_input = True


class Images(NamedTuple):
    """The images of one file, and a name for each image."""

    names: list[str]
    pixels: np.ndarray  # uint8 or float, [N, 28, 28]; may be memory-mapped


def read(path: str, print_line: Callable[[str], None]) -> Images:
    """Returns the images of a PNG, a JPEG or a .npy file.

    Args:
      path: path of the file. A .npy has the shape [28, 28], [28, 28, 1], [N, 28, 28]
        or [N, 28, 28, 1], and uint8 or floats in [0, 1].
      print_line: called with a line about each conversion.

    Raises:
      ImageError: the file is not such a file, or can't be read.
    """
    try:
        if path.lower().endswith(".npy"):
            return _read_array(path, print_line)
        return Images([path], _read_picture(path, print_line)[np.newaxis])
    except OSError as error:  # PIL raises it for a truncated picture, too
        reason = error.strerror or str(error) or "it can't be read"
        raise ImageError(f"{path}: {reason}; expected {_EXPECTED}") from error


def batches(
    files: Iterable[Images], size: int
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Yields batches of at most `size` images, across the files.

    A batch is the names of the images, and float32 [B, 28, 28, 1] in [0, 1].

    Raises:
      ImageError: a float is not in [0, 1].
    """
    names: list[str] = []
    parts: list[np.ndarray] = []
    for file in files:
        start = 0
        while start < len(file.names):
            end = min(len(file.names), start + size - len(names))
            parts.append(_floats(file.names[start:end], file.pixels[start:end]))
            names += file.names[start:end]
            start = end
            if len(names) == size:
                yield names, np.concatenate(parts)[..., np.newaxis]
                names, parts = [], []
    if names:
        yield names, np.concatenate(parts)[..., np.newaxis]


def _floats(names: list[str], pixels: np.ndarray) -> np.ndarray:
    """Converts pixels, uint8 or floats in [0, 1], to float32 [B, 28, 28] in [0, 1].

    Raises:
      ImageError: a float is not in [0, 1]; the message has the image's name.
    """
    if pixels.dtype.kind == "u":
        return pixels.astype(np.float32) / 255
    bad = ~((pixels >= 0) & (pixels <= 1))  # true for NaN, too
    if bad.any():
        index = np.argwhere(bad)[0]
        raise ImageError(
            f"{names[index[0]]}: floats must be in [0, 1], got "
            f"{pixels[tuple(index)]:g} at row {index[1]}, column {index[2]}"
        )
    return pixels.astype(np.float32)


def _read_array(path: str, print_line: Callable[[str], None]) -> Images:
    """Returns the images of a .npy file, memory-mapped unless they are booleans."""
    _check_header_size(path)
    try:
        # This reads the header only, and unpickles nothing: a pickle can run any code.
        array = np.lib.format.open_memmap(path, mode="r")
    except _HEADER_ERRORS as error:
        text = str(error).partition("\n")[0][:_LONGEST_REASON]
        raise ImageError(f"{path}: it is no .npy of numbers ({text})") from error
    shape = array.shape
    if shape in ((SIZE, SIZE), (SIZE, SIZE, 1)):
        pixels = array.reshape(1, SIZE, SIZE)
    elif shape[1:] in ((SIZE, SIZE), (SIZE, SIZE, 1)):
        pixels = array.reshape(-1, SIZE, SIZE)
    else:
        raise ImageError(
            f"{path}: its shape must be [28, 28], [28, 28, 1], [N, 28, 28] or "
            f"[N, 28, 28, 1], got {list(shape)}"
        )
    if not 1 <= len(pixels) <= _ARRAY_IMAGES:
        raise ImageError(
            f"{path}: it must have 1 to {_ARRAY_IMAGES:,} images, got {len(pixels):,}"
        )
    if array.dtype == bool:
        print_line(f"{path}: converted false and true to 0 and 255")
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    elif array.dtype != np.uint8 and array.dtype.kind != "f":
        raise ImageError(
            f"{path}: its type must be uint8, or floats in [0, 1], got {array.dtype}"
        )
    single = len(pixels) == 1
    names = [path] if single else [f"{path}[{i}]" for i in range(len(pixels))]
    return Images(names, pixels)


def _check_header_size(path: str) -> None:
    """Checks the length of a .npy file's header, for which NumPy allocates memory.

    Raises:
      ImageError: the header is longer than that of any array of images.
    """
    with open(path, "rb") as file:
        start = file.read(12)
    # https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
    is_first_version = start[6:7] == b"\1"
    size = int.from_bytes(start[8:10] if is_first_version else start[8:12], "little")
    if start.startswith(np.lib.format.MAGIC_PREFIX) and size > _HEADER_BYTES:
        raise ImageError(
            f"{path}: it is no .npy of numbers (its header states a length of {size:,} "
            f"bytes, expected at most {_HEADER_BYTES:,})"
        )


def _read_picture(path: str, print_line: Callable[[str], None]) -> np.ndarray:
    """Returns the grey values of a PNG or JPEG, uint8 [28, 28]."""
    size = os.path.getsize(path)
    if size > _FILE_BYTES:
        raise ImageError(
            f"{path}: it has {size:,} bytes, more than any image of 28x28 pixels; "
            f"expected {_EXPECTED}"
        )
    try:
        # This reads the header only: a picture that is too large is never decoded.
        image = Image.open(pathlib.Path(path), formats=("PNG", "JPEG"))
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{path}: it is neither a PNG nor a JPEG nor named .npy; "
            f"expected {_EXPECTED}"
        ) from error
    except (Image.DecompressionBombError, ValueError, SyntaxError) as error:
        raise ImageError(f"{path}: {error}; expected {_EXPECTED}") from error
    with image:
        if image.size != (SIZE, SIZE):
            width, height = image.size
            raise ImageError(
                f"{path}: it must be of 28x28 pixels, got {width}x{height}: scale "
                "it first"
            )
        if getattr(image, "n_frames", 1) != 1:
            raise ImageError(f"{path}: it must be one image, got an animation")
        try:
            image.load()
            turned = image.getexif().get(_ORIENTATION, 1) != 1
        except (ValueError, SyntaxError, EOFError) as error:
            raise ImageError(f"{path}: {error}; expected {_EXPECTED}") from error
        if turned:
            raise ImageError(
                f"{path}: its EXIF data say that it is to be turned: save it upright"
            )
        return _grey_values(path, image, print_line=print_line)


def _grey_values(
    path: str, image: Image.Image, *, print_line: Callable[[str], None]
) -> np.ndarray:
    """Returns the grey values of an image of any PIL mode, uint8 [28, 28].

    Raises:
      ImageError: the image has colours, transparent pixels, or values that 8 bits
        can't hold.
    """
    mode = image.mode
    if mode == "L" and "transparency" not in image.info:
        return np.asarray(image)
    if mode == "1":
        print_line(f"{path}: converted from 1 bit to grey values of 0 and 255")
        return np.asarray(image.convert("L"))
    if mode.startswith("I"):
        return _eight_of_16_bits(path, np.asarray(image), print_line=print_line)
    if mode not in ("L", "LA", "P", "PA", "RGB", "RGBA"):
        raise ImageError(f"{path}: it must be grey, got mode {mode}")
    *colours, alpha = np.moveaxis(np.asarray(image.convert("RGBA")), -1, 0)
    if (alpha != 255).any():
        raise ImageError(
            f"{path}: it must be opaque, got transparent pixels: lay it on black"
        )
    if any((colour != colours[0]).any() for colour in colours):
        raise ImageError(f"{path}: it must be grey, got colours")
    print_line(f"{path}: converted from mode {mode} to grey values, without a loss")
    return colours[0]


def _eight_of_16_bits(
    path: str, values: np.ndarray, *, print_line: Callable[[str], None]
) -> np.ndarray:
    """Converts grey values of 16 bits to uint8, if that loses nothing.

    Raises:
      ImageError: a value is not an 8-bit value times 257.
    """
    eight, rest = np.divmod(values.astype(np.int64), 257)  # 65535 is 257 * 255
    if rest.any() or not ((eight >= 0) & (eight <= 255)).all():
        raise ImageError(
            f"{path}: it must be of 8 bits, got 16, and values that 8 can't hold"
        )
    print_line(f"{path}: converted from 16 bits to 8, without a loss")
    return eight.astype(np.uint8)


def grid(images: np.ndarray, columns: int, *, group: int = 0) -> Image.Image:
    """Returns one picture of all images, row by row on grey, each at twice its size.

    Args:
      images: [N, 28, 28, 1] in [0, 1].
      columns: number of images in a row.
      group: number of images in a group; wider gaps separate the groups of a row. 0:
        each row is one group.
    """
    scale, gap = 2, 2
    side = SIZE * scale + gap  # pixels of an image and one gap
    between = 3 * gap if group else 0
    groups = -(-columns // group) if group else 1
    rows = -(-len(images) // columns)
    width = columns * side + gap + (groups - 1) * between
    ground = np.full([rows * side + gap, width], 128, np.uint8)
    large = np.repeat(np.repeat(images[..., 0], scale, axis=1), scale, axis=2)
    for index, pixels in enumerate(np.rint(large * 255).astype(np.uint8)):
        row, column = divmod(index, columns)
        top = gap + side * row
        left = gap + side * column + (between * (column // group) if group else 0)
        ground[top : top + SIZE * scale, left : left + SIZE * scale] = pixels
    return Image.fromarray(ground)


def write_png(picture: Image.Image, path: str) -> None:
    """Writes a picture as a PNG file; a failure leaves an existing file unchanged.

    Raises:
      OSError: the file can't be written.
    """
    partial = f"{path}.partial"
    try:
        picture.save(partial, "PNG", optimize=True)
        os.replace(partial, path)
    except OSError as error:
        raise OSError(f"{path} can't be written: {error.strerror}") from error
