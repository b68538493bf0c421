"""A pushed model, images for it, and checks of the pictures that commands write."""

import pathlib

import numpy as np
import tf_keras as tfk
from PIL import Image

from components.registry.manifest import Manifest
from model import export, fixed_noise
from model.vae import VAE
from pipeline.config.loading import decisive, resolve
from tests.support.configs import demo_model
from tests.support.pushes import push_next
from tests.support.serving_http import Affine

SAMPLES, SEED = 3, 11  # of the export; they differ from the defaults
SIZE = {"latent_size": 2, "hidden_units": 8}


class ModelRoot:
    """A root with a version, a folder with one that lacks signatures, and images."""

    def __init__(self, path):
        self.path = path
        tfk.utils.set_random_seed(0)
        self.vae = VAE(demo_model(**SIZE))
        export.export(self.vae, str(path / "model"), samples=SAMPLES, seed=SEED)
        settings = [f"gate.samples={SAMPLES}", f"gate.seed={SEED}"]
        settings += [f"model.{field}={value}" for field, value in SIZE.items()]
        config = decisive(resolve("demo", settings=[*settings, "model.prior=standard"]))
        destination = str(path / "runs" / "serving" / "vae")
        self.version = push_next(
            str(path / "model"),
            destination=destination,
            manifest=Manifest.from_content({"config": config}),
        )
        self.named = f"version {self.version.number} of {destination}"
        other = Affine(1.0, 0.0).export(path / "other")
        push_next(
            other,
            destination=str(path / "old" / "vae"),
            manifest=Manifest.from_content({}),
        )
        rng = np.random.default_rng(0)
        self.images = rng.integers(0, 256, [130, 28, 28], dtype=np.uint8)
        np.save(path / "many.npy", self.images)
        self.one, self.two = str(path / "one.png"), str(path / "two.png")
        Image.fromarray(self.images[0]).save(self.one)
        Image.fromarray(self.images[1]).convert("RGB").save(self.two)

    def elbo(self, images):
        """Returns the ELBO and its terms [N, 3], in nats, from the model in memory."""
        grey = (images / 255).astype(np.float32)[..., np.newaxis]
        bits = fixed_noise.binarize(grey, SEED)
        noise = fixed_noise.normal(
            bits, SEED, samples=SAMPLES, latent_size=SIZE["latent_size"]
        )
        terms = self.vae.elbo_terms(bits, noise)
        return np.array([terms.elbo(), terms.reconstruction, terms.kl]).T


def tiles(path, columns, group=0):
    """Returns each image of a picture, uint8 [N, 28, 28], and the empty cells.

    Args:
      path: the PNG file.
      columns: images in a row.
      group: how many neighbours in a row are one group; 0: all.
    """
    pixels = np.asarray(Image.open(path))
    found = []
    for top in range(2, len(pixels), 58):
        for column in range(columns):
            left = 2 + 58 * column + (6 * (column // group) if group else 0)
            tile = pixels[top : top + 56, left : left + 56]
            np.testing.assert_array_equal(tile[::2, ::2], tile[1::2, 1::2])
            found.append(tile[::2, ::2])
    return np.stack(found)


def assert_shows(shown, expected):
    """Asserts that pixels in bytes show the expected values in [0, 1]."""
    np.testing.assert_allclose(shown / 255, expected[..., 0], atol=0.51 / 255)


def assert_fails(use, arguments, *, code, message):
    """Asserts that a command fails with a message, prints no result, writes no file.

    Args:
      use: the fixture `use`.
      arguments: the command line.
      code: the expected exit code.
      message: the beginning of the expected message.
    """
    got, out, err = use(*arguments)
    assert got == code, out + err
    assert f"vae-pipeline: {message}" in err
    assert out == ""
    assert not list(pathlib.Path().glob("*.png*"))
