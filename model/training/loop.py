"""Fits the VAE."""

import dataclasses
import functools
import hashlib
import json
import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf
import tf_keras as tfk

from model import data
from model.config import ModelConfig, TrainConfig
from model.errors import PipelineError
from model.examples import BITS, PIXELS, read_examples
from model.networks import precision
from model.training import devices, signals, steps, tensorboard, tf_config, warm_start
from model.training.checkpoints import Checkpoints
from model.training.progress import Reporter, log_if_slow
from model.training.state import State
from model.vae import VAE

logger = logging.getLogger(__name__)

_DIGITS = 10  # images of the eval split on TensorBoard
_BLOCK = 0.5  # seconds of steps between two looks at signals and clocks


class TrainingError(PipelineError):
    """The settings and the data can't be trained with."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Files:
    """What training reads and writes."""

    train: Sequence[str]  # patterns of the transformed train split's files
    eval: Sequence[str]  # those of the eval split, evaluated after each epoch
    scratch: str  # a folder on this machine's disk, for the images
    checkpoints: str = ""  # a folder or a URI that outlives the process; empty: scratch
    log_dir: str = ""  # where TensorBoard's logs go, if anywhere
    base_model: str = ""  # a SavedModel, for a warm start


class Trained(NamedTuple):
    """What training leaves."""

    vae: VAE
    strategy: tf.distribute.Strategy
    checkpoints: Checkpoints  # to be removed once the model is safe


def train(
    model_config: ModelConfig,
    config: TrainConfig,
    *,
    files: Files,
    evaluation_seed: int,
) -> Trained:
    """Returns a VAE fitted to the train files, under `tf.distribute`.

    If there are checkpoints of the same training, it resumes from the last one and
    ends with the weights of a training that was never stopped. SIGINT and SIGTERM save
    a checkpoint and then act.

    Args:
      model_config: what to build.
      config: how to train it.
      files: what to read, and where to write.
      evaluation_seed: of the noise of the evaluations after each epoch.

    Raises:
      TrainingError: there are too few images, the batch size is no multiple of the
        number of replicas, or the loss or the ELBO of the eval split is not finite.
      DeviceError: another worker is lost.
    """
    if (workers := tf_config.count_workers()) > 1:
        logger.info("waiting for the %d workers of TF_CONFIG", workers)
    with devices.lost_workers_named():
        strategy = devices.strategy(config.replicas)
    replicas = strategy.num_replicas_in_sync
    if config.batch_size % replicas:
        raise TrainingError(
            f"batch_size must be a multiple of the {replicas} replicas, "
            f"got {config.batch_size}"
        )
    os.makedirs(files.scratch, exist_ok=True)
    with log_if_slow("reading the train split"):
        images = data.ImageFile(files.train, files.scratch)
    steps_per_epoch = images.count // config.batch_size
    if steps_per_epoch == 0:
        raise TrainingError(
            f"the train split must have at least batch_size ({config.batch_size}) "
            f"images, got {images.count}"
        )
    tfk.utils.set_random_seed(config.seed)
    with strategy.scope():
        vae = VAE(model_config, precision.policy(config))
        if config.warm_start:
            logger.info("%s", warm_start.load(vae, files.base_model))
        adam = optimizer(config, steps_per_epoch * config.epochs)
        state = State(vae, adam, config=config)
    checkpoints = Checkpoints(
        state,
        place=files.checkpoints or files.scratch,
        identity=_identity(
            state,
            model_config,
            config=config,
            evaluation_seed=evaluation_seed,
            digest=images.digest,
        ),
        scratch=files.scratch,
    )
    with log_if_slow("looking for checkpoints of this training"):
        checkpoints.restore()
    devices.check_agreement(strategy, "step", value=state.steps_done)
    sum_of_weights = state.sum_of_weights()
    devices.check_agreement(strategy, "sum of all weights", value=sum_of_weights)
    batches = data.training_batches(
        images,
        config,
        latent_size=model_config.latent_size,
        is_binary=model_config.binary,
        first_step=state.steps_done,
    )
    feature = BITS if model_config.binary else PIXELS
    evaluation_batches = data.evaluation_batches(
        files.eval,
        feature,
        batch_size=config.batch_size,
        latent_size=model_config.latent_size,
        samples=1,
        seed=evaluation_seed,
    )
    writes = devices.is_chief(strategy)
    board = None
    if writes and files.log_dir:
        with log_if_slow("preparing TensorBoard's files"):
            examples = read_examples(files.eval, feature, batch_size=_DIGITS)
            digits = tf.cast(next(iter(examples)).images, tf.float32) / 255.0
            board = tensorboard.Board(files.log_dir, vae, state=state, images=digits)
    with devices.lost_workers_named():
        _Loop(
            take_steps=functools.partial(
                steps.training(vae, state, strategy=strategy, config=config),
                iter(devices.share_out(strategy, batches)),
            ),
            evaluate=functools.partial(
                steps.evaluation(vae, strategy),
                devices.share_out(strategy, evaluation_batches),
            ),
            state=state,
            config=config,
            steps_per_epoch=steps_per_epoch,
            checkpoints=checkpoints if writes else None,
            board=board,
        ).run()
    state.finish()
    return Trained(vae, strategy, checkpoints)


def optimizer(config: TrainConfig, steps: int) -> tfk.optimizers.Optimizer:
    """Returns Adam, its learning rate warmed up and then decayed over `steps`.

    Sources: Kingma & Ba 2015, Adam; Loshchilov & Hutter 2017, SGDR, for the cosine, and
    2019, Decoupled Weight Decay Regularization, for the decay of the kernels.
    """
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
    adam = tfk.optimizers.Adam(
        schedule,
        weight_decay=config.weight_decay or None,
        global_clipnorm=config.clip_norm,
    )
    # Under a strategy each replica's variable has a name of its own.
    adam.exclude_from_weight_decay(var_names=[r"^(?!.*/kernel(/replica_\d+)?:)"])
    return adam


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Loop:
    """The loop of a training: steps, evaluations, checkpoints and reports."""

    take_steps: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
    evaluate: Callable[[], dict[str, float]]
    state: State
    config: TrainConfig
    steps_per_epoch: int
    checkpoints: Checkpoints | None  # None where another process writes them
    board: tensorboard.Board | None

    def run(self) -> None:
        """Takes the steps that are left, epoch by epoch.

        Raises:
          TrainingError: the loss, or the ELBO of the eval split, is not finite.
        """
        total, step = self.config.epochs * self.steps_per_epoch, self.state.steps_done
        reporter = Reporter(
            self.config.epochs,
            self.steps_per_epoch,
            batch_size=self.config.batch_size,
            first=step,
        )
        saved = time.monotonic()
        block, is_first = 1, True
        images, seconds = 0, 0.0  # of the running epoch
        with log_if_slow("building the training graph"):
            self.take_steps(tf.constant(0))  # while signals still act at once
        with signals.deferred() as stop:
            while step < total and not self._is_out_of_patience():
                epoch, of_epoch = divmod(step, self.steps_per_epoch)
                began = time.monotonic()
                count = min(block, self.steps_per_epoch - of_epoch)
                taken, loss = (
                    value.numpy() for value in self.take_steps(tf.constant(count))
                )
                step, of_epoch = step + int(taken), of_epoch + int(taken)
                taking = time.monotonic() - began
                reporter.add(int(taken), taking)
                ended = of_epoch == self.steps_per_epoch
                if not is_first or ended:  # the first one compiles
                    images += int(taken) * self.config.batch_size
                    seconds += taking
                is_first = False
                if not tf_config.count_workers():
                    # Workers meet in each turn of the loop: theirs must all be as long.
                    block = max(1, int(_BLOCK * taken / taking))
                if not math.isfinite(loss):
                    what = f"the loss is {loss} at step {step} of {total}"
                    raise self._not_finite(what)
                means = dict(zip(steps.MEANS, self.state.sums.numpy() / of_epoch))
                if ended:
                    with self.state.averaged():
                        with log_if_slow("measuring the eval split"):
                            found = self.evaluate()
                        if not math.isfinite(found["elbo"]):
                            what = (
                                f"the eval split's ELBO is {found['elbo']} after step "
                            )
                            raise self._not_finite(f"{what}{step}")
                        self.state.keep_best(found["elbo"], epoch + 1)
                        values = {("train", name): means[name] for name in means}
                        values |= {("eval", name): found[name] for name in found}
                        values["train", "learning_rate"] = _rate(self.state)
                        values["train", "images_per_second"] = images / seconds
                        self.state.remember(epoch + 1, values)
                        if self.board:
                            with log_if_slow("drawing for TensorBoard"):
                                self.board.epoch_ended(epoch + 1)
                    images, seconds = 0, 0.0
                    reporter.epoch_ended(means["elbo"], found["elbo"])
                    self.state.sums.assign(tf.zeros_like(self.state.sums))
                else:
                    reporter.within_epoch(means["elbo"])
                due = time.monotonic() - saved >= 60.0 * self.config.checkpoint_minutes
                if self.checkpoints and (ended or due or stop.signal):
                    with log_if_slow("saving a checkpoint"):
                        self.checkpoints.save()
                    saved = time.monotonic()
                if stop.signal:
                    return

    def _not_finite(self, what: str) -> TrainingError:
        """Returns the error, which names the settings to change."""
        config = self.config
        good = (self.checkpoints.latest if self.checkpoints else None) or "none"
        return TrainingError(
            f"{what}, at learning rate {_rate(self.state):.3g}: lower "
            f"train.learning_rate ({config.learning_rate}) or train.clip_norm "
            f"({config.clip_norm}), with which training begins anew; the last good "
            f"checkpoint: {good}"
        )

    def _is_out_of_patience(self) -> bool:
        if self.config.patience is None:
            return False
        epochs = self.state.steps_done // self.steps_per_epoch
        return epochs - int(self.state.best_epoch.numpy()) >= self.config.patience


def _rate(state: State) -> float:
    """Returns the learning rate of the last step."""
    return float(state.optimizer.learning_rate.numpy())


def _identity(
    state: State,
    model_config: ModelConfig,
    *,
    config: TrainConfig,
    evaluation_seed: int,
    digest: str,
) -> str:
    """Returns a digest of all that decides a training: settings, networks, images."""
    settings = dataclasses.asdict(config)
    # The number of replicas changes the order of sums and nothing else.
    del settings["replicas"], settings["checkpoint_minutes"]
    settings["precision"] = precision.policy(config)  # auto: by the processor
    shapes = [variable.shape.as_list() for variable in state.variables()]
    parts = [
        dataclasses.asdict(model_config),
        settings,
        evaluation_seed,
        digest,
        shapes,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
