"""The training loop, which fits the VAE to the train split."""

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

_DIGITS = 10  # number of images of the eval split on TensorBoard
_BLOCK = 0.5  # seconds of training steps between two checks of signals and clocks


class TrainingError(PipelineError):
    """Training with these settings and this data set is not possible."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Files:
    """The files and folders that training reads and writes."""

    train: Sequence[str]  # patterns of the transformed train split's files
    eval: Sequence[str]  # patterns of the eval split's files
    scratch: str  # a folder on this machine's disk, for a copy of the images
    checkpoints: str = ""  # a permanent folder or URI; empty: scratch
    log_dir: str = ""  # TensorBoard's folder; empty: no logs
    base_model: str = ""  # the SavedModel for a warm start


class TrainingResult(NamedTuple):
    """The results of a training."""

    vae: VAE
    strategy: tf.distribute.Strategy
    checkpoints: Checkpoints  # to mark as done when the model is exported


def train(
    model_config: ModelConfig,
    config: TrainConfig,
    *,
    files: Files,
    evaluation_seed: int,
) -> TrainingResult:
    """Builds a VAE and fits it to the train split, under `tf.distribute`.

    The eval split is evaluated after each epoch. If there are checkpoints of the same
    training, it resumes from the last one, and ends with the same weights as a training
    without interruption. On SIGINT and SIGTERM it saves a checkpoint and then stops.

    Args:
      model_config: the networks and distributions of the VAE.
      config: the settings of the training.
      files: the files to read and the folders to write.
      evaluation_seed: seed of the noise in the evaluations of the eval split.

    Raises:
      TrainingError: there are too few images, the batch size is no multiple of the
        number of replicas, or the loss or the ELBO of the eval split is not finite.
      DeviceError: another worker was lost.
    """
    if (workers := tf_config.count_workers()) > 1:
        logger.info("waiting for the %d workers of TF_CONFIG", workers)
    with devices.convert_lost_worker_errors():
        strategy = devices.create_strategy(config.replicas)
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
        vae = VAE(model_config, precision.choose_policy(config))
        if config.warm_start:
            logger.info("%s", warm_start.load_weights(vae, files.base_model))
        adam = create_optimizer(config, steps_per_epoch * config.epochs)
        state = State(vae, adam, config=config)
    checkpoints = Checkpoints(
        state,
        parent=files.checkpoints or files.scratch,
        identity=_compute_identity(
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
    batches = data.make_training_batches(
        images,
        config,
        latent_size=model_config.latent_size,
        is_binary=model_config.is_binary,
        first_step=state.steps_done,
    )
    feature = BITS if model_config.is_binary else PIXELS
    evaluation_batches = data.make_evaluation_batches(
        files.eval,
        feature,
        batch_size=config.batch_size,
        latent_size=model_config.latent_size,
        samples=1,
        seed=evaluation_seed,
    )
    is_writer = devices.is_chief(strategy)
    board = None
    if is_writer and files.log_dir:
        with log_if_slow("preparing TensorBoard's files"):
            examples = read_examples(files.eval, feature, batch_size=_DIGITS)
            digits = tf.cast(next(iter(examples)).images, tf.float32) / 255.0
            board = tensorboard.Board(files.log_dir, vae, state=state, images=digits)
    with devices.convert_lost_worker_errors():
        _Loop(
            take_steps=functools.partial(
                steps.build_training(vae, state, strategy=strategy, config=config),
                iter(devices.distribute_batches(strategy, batches)),
            ),
            evaluate=functools.partial(
                steps.build_evaluation(vae, strategy),
                devices.distribute_batches(strategy, evaluation_batches),
            ),
            state=state,
            config=config,
            steps_per_epoch=steps_per_epoch,
            checkpoints=checkpoints if is_writer else None,
            board=board,
        ).run()
    state.set_final_weights()
    return TrainingResult(vae, strategy, checkpoints)


def create_optimizer(config: TrainConfig, steps: int) -> tfk.optimizers.Optimizer:
    """Returns Adam with the configured learning rate, clipping and weight decay.

    Args:
      config: the settings of the training.
      steps: number of steps of the whole training, warm-up included.

    Sources: Kingma & Ba 2015, Adam; Loshchilov & Hutter 2017, SGDR (cosine schedule);
    Loshchilov & Hutter 2019, Decoupled Weight Decay Regularization (kernels' decay).
    """
    rate = config.learning_rate
    # A training shorter than its warm-up would never reach the configured rate.
    warmup = min(config.warmup_steps, steps // 10)
    schedule = tfk.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else rate,
        decay_steps=max(steps - warmup, 1),
        # With alpha 1 the "decay" ends at the rate it begins with: a constant.
        alpha=0.0 if config.schedule == "cosine" else 1.0,
        warmup_target=rate if warmup else None,
        warmup_steps=warmup,
    )
    adam = tfk.optimizers.Adam(
        schedule,
        weight_decay=config.weight_decay or None,
        global_clipnorm=config.clip_norm,
    )
    # Only kernels decay. Under a strategy, the variables of replicas have own names.
    adam.exclude_from_weight_decay(var_names=[r"^(?!.*/kernel(/replica_\d+)?:)"])
    return adam


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Loop:
    """The loop of a training: steps, evaluations, checkpoints and progress reports."""

    take_steps: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
    evaluate: Callable[[], dict[str, float]]
    state: State
    config: TrainConfig
    steps_per_epoch: int
    checkpoints: Checkpoints | None  # None where another process writes them
    board: tensorboard.Board | None

    def run(self) -> None:
        """Takes the remaining training steps, and returns early after a signal.

        After each epoch it evaluates the eval split, writes TensorBoard's files and
        saves a checkpoint.

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
            self.take_steps(tf.constant(0))  # here, signals still act at once
        with signals.defer_signals() as stop:
            while step < total and not self._is_out_of_patience():
                epoch, of_epoch = divmod(step, self.steps_per_epoch)
                began = time.monotonic()
                count = min(block, self.steps_per_epoch - of_epoch)
                block_steps, loss = (
                    value.numpy() for value in self.take_steps(tf.constant(count))
                )
                step, of_epoch = step + int(block_steps), of_epoch + int(block_steps)
                block_seconds = time.monotonic() - began
                reporter.add(int(block_steps), block_seconds)
                is_epoch_end = of_epoch == self.steps_per_epoch
                if not is_first or is_epoch_end:  # the first one compiles
                    images += int(block_steps) * self.config.batch_size
                    seconds += block_seconds
                is_first = False
                if not tf_config.count_workers():
                    # Workers wait for each other after each block, so their blocks must
                    # have the same number of steps.
                    block = max(1, int(_BLOCK * block_steps / block_seconds))
                if not math.isfinite(loss):
                    what = f"the loss is {loss} at step {step} of {total}"
                    raise self._not_finite_error(what)
                means = dict(zip(steps.MEANS, self.state.sums.numpy() / of_epoch))
                if is_epoch_end:
                    with self.state.use_averages():
                        with log_if_slow("measuring the eval split"):
                            measured = self.evaluate()
                        if not math.isfinite(measured["elbo"]):
                            what = f"the eval split's ELBO is {measured['elbo']}"
                            raise self._not_finite_error(f"{what} after step {step}")
                        self.state.keep_best(measured["elbo"], epoch + 1)
                        values = {("train", name): means[name] for name in means}
                        values |= {("eval", name): measured[name] for name in measured}
                        values["train", "learning_rate"] = _get_learning_rate(
                            self.state
                        )
                        values["train", "images_per_second"] = images / seconds
                        self.state.record_epoch(epoch + 1, values)
                        if self.board:
                            with log_if_slow("drawing for TensorBoard"):
                                self.board.write_epoch(epoch + 1)
                    images, seconds = 0, 0.0
                    reporter.report_epoch(means["elbo"], measured["elbo"])
                    self.state.sums.assign(tf.zeros_like(self.state.sums))
                else:
                    reporter.report_within_epoch(means["elbo"])
                is_due = (
                    time.monotonic() - saved >= 60.0 * self.config.checkpoint_minutes
                )
                if self.checkpoints and (is_epoch_end or is_due or stop.signal):
                    with log_if_slow("saving a checkpoint"):
                        self.checkpoints.save()
                    saved = time.monotonic()
                if stop.signal:
                    return

    def _not_finite_error(self, what: str) -> TrainingError:
        """Returns an error about a value that is not finite, with settings to change.

        Args:
          what: the value and the step, the beginning of the message.
        """
        config = self.config
        good = (self.checkpoints.latest if self.checkpoints else None) or "none"
        return TrainingError(
            f"{what}, at learning rate {_get_learning_rate(self.state):.3g}: lower "
            f"train.learning_rate ({config.learning_rate}) or train.clip_norm "
            f"({config.clip_norm}) and train again from the start; the last good "
            f"checkpoint: {good}"
        )

    def _is_out_of_patience(self) -> bool:
        """Returns whether the ELBO did not improve for `patience` epochs."""
        if self.config.patience is None:
            return False
        epochs = self.state.steps_done // self.steps_per_epoch
        return epochs - int(self.state.best_epoch.numpy()) >= self.config.patience


def _get_learning_rate(state: State) -> float:
    """Returns the learning rate of the last step."""
    return float(state.optimizer.learning_rate.numpy())


def _compute_identity(
    state: State,
    model_config: ModelConfig,
    *,
    config: TrainConfig,
    evaluation_seed: int,
    digest: str,
) -> str:
    """Returns a digest of everything that determines the weights that training finds.

    This includes the settings, the shapes of the variables and the train split. Two
    trainings with the same digest may continue from each other's checkpoints.
    """
    settings = dataclasses.asdict(config)
    # The number of replicas changes only the order of additions.
    del settings["replicas"], settings["checkpoint_minutes"]
    settings["precision"] = precision.choose_policy(config)  # replaces `auto`
    shapes = [variable.shape.as_list() for variable in state.variables()]
    parts = [
        dataclasses.asdict(model_config),
        settings,
        evaluation_seed,
        digest,
        shapes,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
