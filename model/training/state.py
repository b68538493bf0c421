"""The state of a training: all variables that training changes and checkpoints save."""

import contextlib
import math
from collections.abc import Iterator, Mapping

import numpy as np
import tensorflow as tf
import tf_keras as tfk

from model.config import TrainConfig
from model.vae import VAE

# The values that are recorded for each epoch: the split and the name of each curve. All
# are in nats per image, except the last two.
CURVES = (
    ("train", "elbo"),
    ("train", "reconstruction"),
    ("train", "kl"),
    ("eval", "elbo"),
    ("eval", "reconstruction"),
    ("eval", "kl"),
    ("train", "learning_rate"),
    ("train", "images_per_second"),
)


class State(tf.train.Checkpoint):
    """The variables of a training: weights, averages, best weights, optimizer and step.

    Batches, schedules and random numbers are computed from the seed and the number of
    the step, so the step is enough to continue them.
    """

    def __init__(
        self, vae: VAE, optimizer: tfk.optimizers.Optimizer, *, config: TrainConfig
    ):
        """Makes the variables; must be called in the strategy's scope."""
        variables = vae.trainable_variables
        optimizer.build(variables)
        super().__init__(
            weights=list(vae.weights),
            optimizer=optimizer,
            step=tf.Variable(0, dtype=tf.int64, trainable=False),
            # Sums over the steps of the current epoch: ELBO, reconstruction, KL; nats.
            sums=tf.Variable([0.0, 0.0, 0.0], trainable=False),
            averages=_copy_variables(variables) if config.ema else [],
            best=_copy_variables(variables) if config.patience else [],
            best_elbo=tf.Variable(-float("inf"), trainable=False),
            best_epoch=tf.Variable(0, dtype=tf.int64, trainable=False),
            # The CURVES, one row per epoch; NaN until the epoch has ended.
            history=tf.Variable(
                tf.fill([config.epochs, len(CURVES)], math.nan), trainable=False
            ),
        )
        self._variables, self._decay = variables, config.ema

    @property
    def steps_done(self) -> int:
        """Returns the number of finished training steps."""
        return int(self.step.numpy())

    def variables(self) -> list[tf.Variable]:
        """Returns all variables that a checkpoint saves."""
        return [
            *(*self.weights, *self.averages, *self.best, *self.optimizer.variables),
            *(self.step, self.sums, self.best_elbo, self.best_epoch, self.history),
        ]

    def sum_of_weights(self) -> float:
        """Returns the sum of all weights' absolute values.

        Workers compare it to check that they have the same weights.
        """
        sums = (np.abs(weight.numpy()).sum(dtype=np.float64) for weight in self.weights)
        return float(sum(sums))

    def update_averages(self, strategy: tf.distribute.Strategy) -> None:
        """Updates the moving averages of the weights; must be called after each step.

        The averages are exponential. Their decay is smaller in the first steps, as in
        tf.train.ExponentialMovingAverage.

        Source: Polyak & Juditsky 1992, Acceleration of Stochastic Approximation by
        Averaging.
        """
        if not self.averages:
            return
        done = tf.cast(self.step, tf.float32)
        rate = 1.0 - tf.minimum(self._decay, (1.0 + done) / (10.0 + done))

        def move(average, variable):
            average.assign_sub(rate * (average - variable))

        for average, variable in zip(self.averages, self._variables):
            strategy.extended.update(average, move, args=(variable,))

    @contextlib.contextmanager
    def use_averages(self) -> Iterator[None]:
        """Replaces the weights by their averages while the block runs.

        Without averages (setting `ema` 0) the weights stay.
        """
        if not self.averages:
            yield
            return
        weights = [variable.numpy() for variable in self._variables]
        try:
            _assign(self._variables, self.averages)
            yield
        finally:
            _assign(self._variables, weights)

    def keep_best(self, elbo: float, epoch: int) -> None:
        """Copies the current weights to `best` if their ELBO is the best so far.

        Args:
          elbo: ELBO of the eval split, nats per image.
          epoch: number of the epoch, from 1.
        """
        if self.best and elbo > self.best_elbo.numpy():
            _assign(self.best, self._variables)
            self.best_elbo.assign(elbo)
            self.best_epoch.assign(epoch)

    def record_epoch(self, epoch: int, values: Mapping[tuple[str, str], float]) -> None:
        """Adds the values of the CURVES in an epoch to the history.

        Args:
          epoch: number of the epoch, from 1.
          values: one value for each of the CURVES.
        """
        history = self.history.numpy()
        history[epoch - 1] = np.array([values[curve] for curve in CURVES])
        self.history.assign(history)

    def set_final_weights(self) -> None:
        """Sets the weights to the best ones or, if not kept, to their averages.

        If neither exists, the weights of the last step stay.
        """
        if kept := self.best or self.averages:
            _assign(self._variables, kept)

    def is_finite(self) -> bool:
        """Returns whether all trainable weights are finite numbers."""
        return all(
            bool(tf.reduce_all(tf.math.is_finite(variable.read_value())))
            for variable in self._variables
        )


def _copy_variables(variables) -> list[tf.Variable]:
    """Returns new variables, which are not trained, with the same values."""
    return [tf.Variable(variable, trainable=False) for variable in variables]


def _assign(variables, values) -> None:
    for variable, value in zip(variables, values):
        variable.assign(value)
