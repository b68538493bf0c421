"""Fits the VAE."""

import logging
import math
import time
from collections.abc import Sequence
from typing import NamedTuple

import tf_keras as tfk

from model import data, devices
from model.config import ModelConfig, TrainConfig
from model.vae import VAE

logger = logging.getLogger(__name__)

_REPORT_EVERY = 0.5  # seconds between two reports of progress


class Progress(NamedTuple):
    """How far training is; each log record of this module carries one."""

    epoch: int  # the running one, from 1
    epochs: int
    step: int  # steps done, of all epochs
    steps: int
    elbo: float  # nats per image: one sample, dynamic binarization, train split
    eval_elbo: float | None  # nats per image: fixed binarization, eval split
    images_per_second: float
    seconds_left: float


def train(
    model_config: ModelConfig,
    config: TrainConfig,
    train_files: Sequence[str],
    eval_files: Sequence[str],
    evaluation_seed: int,
    log_dir: str | None = None,
) -> VAE:
    """Returns a VAE fitted to the train files, under `tf.distribute`.

    Args:
      model_config: what to build.
      config: how to train it.
      train_files: patterns of the transformed train split's files.
      eval_files: those of the eval split, evaluated after each epoch.
      evaluation_seed: of the noise of those evaluations.
      log_dir: where TensorBoard's logs go, if anywhere.

    Raises:
      ValueError: there are too few images, or the batch size is no multiple of the
        number of replicas.
      FloatingPointError: the ELBO is no longer a number.
    """
    strategy = devices.strategy(config.replicas)
    replicas = strategy.num_replicas_in_sync
    if config.batch_size % replicas:
        raise ValueError(
            f"batch_size must be a multiple of the {replicas} replicas, "
            f"got {config.batch_size}"
        )
    images = data.read_images(train_files, "image").cache()
    count = int(images.reduce(0, lambda n, _: n + 1))  # fills the cache, too
    steps = count // config.batch_size
    if steps == 0:
        raise ValueError(
            f"the train split must have at least batch_size ({config.batch_size}) "
            f"images, got {count}"
        )
    tfk.utils.set_random_seed(config.seed)
    with strategy.scope():
        vae = VAE(model_config)
        vae.compile(optimizer=optimizer(config, steps * config.epochs))
    latent_size = model_config.latent_size
    callbacks: list[tfk.callbacks.Callback] = [_Report(config, steps)]
    if log_dir:
        callbacks.append(tfk.callbacks.TensorBoard(log_dir, write_graph=False))
    vae.fit(
        data.training_batches(images, count, latent_size, config),
        epochs=config.epochs,
        steps_per_epoch=steps,
        validation_data=data.evaluation_batches(
            data.read_images(eval_files, "binarized"),
            config.batch_size,
            latent_size,
            samples=1,
            seed=evaluation_seed,
        ),
        callbacks=callbacks,
        verbose=0,
    )
    return vae


def optimizer(config: TrainConfig, steps: int) -> tfk.optimizers.Optimizer:
    """Returns Adam, its learning rate warmed up and then decayed over `steps`."""
    rate = config.learning_rate
    # A schedule shorter than its warm-up would never reach the rate that was asked for.
    warmup = min(config.warmup_steps, steps // 10)
    schedule = tfk.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else rate,
        decay_steps=max(steps - warmup, 1),
        # With alpha 1 the "decay" goes from the rate to the rate: a constant.
        alpha=0.0 if config.schedule == "cosine" else 1.0,
        warmup_target=rate if warmup else None,
        warmup_steps=warmup,
    )
    return tfk.optimizers.Adam(schedule, global_clipnorm=config.clip_norm)


class _Report(tfk.callbacks.Callback):
    """Logs the progress of `fit`, and stops it when the ELBO is not a number."""

    def __init__(self, config: TrainConfig, steps: int):
        super().__init__()
        self._config = config
        self._steps = steps  # per epoch
        self._epoch = 0
        self._eval_elbo: float | None = None
        self._started = self._reported = time.monotonic()

    def on_train_begin(self, logs=None):
        self._started = time.monotonic()

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if time.monotonic() - self._reported >= _REPORT_EVERY:
            self._report(batch + 1, logs, logging.DEBUG)

    def on_epoch_end(self, epoch, logs=None):
        self._eval_elbo = logs["val_elbo"]
        self._report(self._steps, logs, logging.INFO)

    def _report(self, step_of_epoch, logs, level):
        self._reported = time.monotonic()
        config, elbo = self._config, logs["elbo"]
        step = self._epoch * self._steps + step_of_epoch
        steps = config.epochs * self._steps
        if not math.isfinite(elbo):
            raise FloatingPointError(
                f"the ELBO is {elbo} at step {step} of {steps}: lower "
                f"train.learning_rate ({config.learning_rate}) or train.clip_norm "
                f"({config.clip_norm})"
            )
        seconds_a_step = (self._reported - self._started) / step
        progress = Progress(
            epoch=self._epoch + 1,
            epochs=config.epochs,
            step=step,
            steps=steps,
            elbo=elbo,
            eval_elbo=self._eval_elbo,
            images_per_second=config.batch_size / seconds_a_step,
            seconds_left=(steps - step) * seconds_a_step,
        )
        logger.log(
            level,
            "epoch %d/%d, step %d/%d, ELBO %.2f nats (train), %s nats (eval), "
            "%.0f images/s, %.0f s left",
            progress.epoch,
            progress.epochs,
            step,
            steps,
            elbo,
            "-" if self._eval_elbo is None else f"{self._eval_elbo:.2f}",
            progress.images_per_second,
            progress.seconds_left,
            extra={"progress": progress},
        )
