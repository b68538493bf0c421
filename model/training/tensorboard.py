"""TensorBoard's files of a training: curves, images after each epoch, and the graph."""

import os
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from model.config import IMAGE_SHAPE
from model.distributions.posterior import draw_at_zero_noise
from model.training.state import CURVES, State
from model.vae import VAE

_ZOOM = 3  # factor by which images are enlarged
_GAP = 2  # pixels between two images
_SAMPLES = 30  # number of draws from the prior

Curve = list[tuple[int, float]]  # pairs of an epoch, from 1, and a value


class Board:
    """Writes TensorBoard's files of a training into a folder.

    After a resumed training the files are the same as without an interruption.
    """

    def __init__(self, folder: str, vae: VAE, *, state: State, images: tf.Tensor):
        """Writes the graph, and the curves of the epochs in the training's history.

        Args:
          folder: the folder to write; its old content is removed first.
          vae: the model in training.
          state: the state of the training.
          images: float32 [N, 28, 28, 1], images of the eval split whose reconstructions
            are written after each epoch.
        """
        if tf.io.gfile.exists(folder):
            tf.io.gfile.rmtree(folder)
        self._writers = {
            split: tf.summary.create_file_writer(os.path.join(folder, split))
            for split in ("train", "eval")
        }
        self._state, self._images = state, images
        self._prior_seed = [0, 0]  # the same draws after each epoch

        # AutoGraph would take half a minute to rewrite Keras's own code.
        @tf.function(autograph=False)
        def draw(images):
            rebuilt = vae.decode(draw_at_zero_noise(vae.encode(images)))
            z = vae.prior.sample(_SAMPLES, seed=self._prior_seed)
            drawn = vae.decode(z)
            modes = (tf.cast(x.mode(), tf.float32) for x in (rebuilt, drawn))
            return *modes, rebuilt.mean()

        self._draw = draw
        noise = tf.TensorSpec([None, 1, vae.config.latent_size])
        elbo = tf.function(vae.elbo_terms, autograph=False).get_concrete_function(
            tf.TensorSpec([None, *IMAGE_SHAPE], name="images"), noise
        )
        with self._writers["eval"].as_default():
            tf.summary.graph(elbo.graph)
        for epoch, values in enumerate(state.history.numpy(), start=1):
            if not np.isnan(values).all():
                self._write_curves(epoch, values)

    def write_epoch(self, epoch: int) -> None:
        """Writes the curves' values of an epoch, reconstructions and generated images.

        Args:
          epoch: number of the epoch, from 1; `state.history` must already include it.
        """
        self._write_curves(epoch, self._state.history.numpy()[epoch - 1])
        modes, drawn, means = self._draw(self._images)
        rows = np.stack([self._images, modes, means])
        with self._writers["eval"].as_default():
            tf.summary.image(
                "images, and the decoder's modes and means at their posterior means",
                arrange_in_grid(rows)[np.newaxis],
                step=epoch,
            )
            tf.summary.image(
                "the decoder's modes at draws from the prior",
                arrange_in_grid(drawn.numpy().reshape(3, -1, *IMAGE_SHAPE))[np.newaxis],
                step=epoch,
            )
        self._writers["eval"].flush()

    def _write_curves(self, epoch: int, values: np.ndarray) -> None:
        for (split, name), value in zip(CURVES, values):
            with self._writers[split].as_default():
                tf.summary.scalar(name, value, step=epoch)
        for writer in self._writers.values():
            writer.flush()


def arrange_in_grid(images: np.ndarray) -> np.ndarray:
    """Returns one picture with all images in rows and columns, uint8 [H, W, 1].

    Args:
      images: float32 [rows, columns, 28, 28, 1] in [0, 1].
    """
    pixels = np.round(255 * images[..., 0]).astype(np.uint8)
    pixels = pixels.repeat(_ZOOM, axis=2).repeat(_ZOOM, axis=3)
    gaps = [(0, 0), (0, 0), (_GAP, 0), (_GAP, 0)]
    rows, columns, height, width = (
        padded := np.pad(pixels, gaps, constant_values=128)
    ).shape
    picture = padded.transpose(0, 2, 1, 3).reshape(rows * height, columns * width)
    return picture[..., np.newaxis]


def read_curves(folder: str) -> Mapping[tuple[str, str], Curve]:
    """Returns the curves that a `Board` wrote into a folder, by split and name.

    A folder without files of TensorBoard has no curves.
    """
    curves: dict[tuple[str, str], Curve] = {}
    for split in ("train", "eval"):
        for path in sorted(tf.io.gfile.glob(os.path.join(folder, split, "events.*"))):
            for event in tf.compat.v1.train.summary_iterator(path):
                for value in event.summary.value:
                    if (split, value.tag) in CURVES:
                        number = float(tf.make_ndarray(value.tensor))
                        curve = curves.setdefault((split, value.tag), [])
                        curve.append((int(event.step), number))
    return curves
