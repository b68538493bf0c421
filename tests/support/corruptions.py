"""Corruptions of a data set, which DataGate's distances are measured on."""

from collections.abc import Callable, Mapping

import numpy as np
import scipy.ndimage
import sklearn.datasets

# Images, uint8 [N, 28, 28], and labels, integers [N].
Pair = tuple[np.ndarray, np.ndarray]

_SEED = 0


def of_images(change: Callable[[np.ndarray], np.ndarray]) -> Callable[..., Pair]:
    """Returns a corruption that changes the images and leaves the labels."""
    return lambda images, labels: (np.ascontiguousarray(change(images)), labels)


def shift(images: np.ndarray, *, down: int, right: int) -> np.ndarray:
    """Shifts images by pixels; what comes in at the border is black."""
    moved = np.roll(images, (down, right), axis=(1, 2))
    _, height, width = images.shape
    rows, columns = np.arange(height), np.arange(width)
    is_inside = np.outer(
        (rows >= down) & (rows < height + down),
        (columns >= right) & (columns < width + right),
    )
    return np.where(is_inside, moved, 0).astype(images.dtype)


def swap_rows(images: np.ndarray) -> np.ndarray:
    """Swaps rows 0 and 1, rows 2 and 3, and so on."""
    return images[:, np.arange(images.shape[1]) ^ 1]


def transpose_some(images: np.ndarray) -> np.ndarray:
    """Transposes one image in ten."""
    some = (np.arange(len(images)) % 10 == 0)[:, np.newaxis, np.newaxis]
    return np.where(some, images.transpose(0, 2, 1), images)


def blur(images: np.ndarray) -> np.ndarray:
    """Blurs images by a Gaussian with a standard deviation of 1 pixel."""
    grey = scipy.ndimage.gaussian_filter(images.astype(np.float32), (0, 1, 1))
    return np.rint(grey).astype(np.uint8)


def add_noise(images: np.ndarray) -> np.ndarray:
    """Adds normal noise with a standard deviation of 25 of the 255 grey levels."""
    noise = np.random.default_rng(_SEED).normal(0.0, 25.0, images.shape)
    return np.clip(np.rint(images + noise), 0, 255).astype(np.uint8)


def repeat_class(images: np.ndarray, labels: np.ndarray, *, label: int = 1) -> Pair:
    """Doubles the images of one class; they come last."""
    again = labels == label
    return np.concatenate([images, images[again]]), np.append(labels, labels[again])


def shuffle_labels(images: np.ndarray, labels: np.ndarray) -> Pair:
    """Gives each image the label of an image that is chosen at random."""
    return images, np.random.default_rng(_SEED).permutation(labels)


def load_other_digits() -> Pair:
    """Returns scikit-learn's 1,797 digits of 8 x 8 pixels, three times as large.

    They get a black border of 2 pixels, as MNIST's digits have one of 4.
    """
    digits = sklearn.datasets.load_digits()
    grey = np.rint(digits.images * 255 / 16).astype(np.uint8)
    large = grey.repeat(3, axis=1).repeat(3, axis=2)
    return np.pad(large, ((0, 0), (2, 2), (2, 2))), digits.target


# Each must stop a run.
MUST_STOP: Mapping[str, Callable[[np.ndarray, np.ndarray], Pair]] = {
    "transposed": of_images(lambda x: x.transpose(0, 2, 1)),
    "flipped left-right": of_images(lambda x: x[:, :, ::-1]),
    "flipped up-down": of_images(lambda x: x[:, ::-1]),
    "rotated by 90 degrees": of_images(lambda x: np.rot90(x, axes=(1, 2))),
    "shifted by 3 pixels": of_images(lambda x: shift(x, down=0, right=3)),
    "inverted": of_images(lambda x: 255 - x),
    "contrast halved": of_images(lambda x: x // 2),
    "rows swapped in pairs": of_images(swap_rows),
}

# The distances of each are reported; some of them stop a run, too.
REPORTED: Mapping[str, Callable[[np.ndarray, np.ndarray], Pair]] = {
    "blurred": of_images(blur),
    "noisy": of_images(add_noise),
    "one class doubled": repeat_class,
    "labels shuffled": shuffle_labels,
    "one image in ten transposed": of_images(transpose_some),
}
