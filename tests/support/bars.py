"""A small data set for tests of the whole pipeline: digits drawn as two bars each."""

import gzip
import struct

import numpy as np


def write_idx(folder, labels):
    """Writes 1,000 train and 500 test images, which a model can learn, as IDX files."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for prefix, count in (("train", 1000), ("t10k", 500)):
        label = rng.choice(labels, count).astype(np.uint8)
        images = np.zeros([count, 28, 28], np.uint8)
        for image, digit in zip(images, label):
            image[2 + 2 * (digit % 10) :][:4, 4:24] = 255
            image[4:24, 2 + 2 * rng.integers(10) :][:, :4] = rng.integers(128, 256)
        header = struct.pack(">4i", 0x803, count, 28, 28)
        path = folder / f"{prefix}-images-idx3-ubyte.gz"
        path.write_bytes(gzip.compress(header + images.tobytes()))
        header = struct.pack(">2i", 0x801, count)
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(header + label.tobytes())
