"""All that training changes: what a checkpoint holds and a repeated run finds again."""

import contextlib
import math
from collections.abc import Iterator, Mapping

import numpy as np
import tensorflow as tf
import tf_keras as tfk

from model.config import TrainConfig
from model.vae import VAE

# What is remembered of each epoch: the split and the name of each curve. Nats per
# image, but for the last two.
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
    """Weights, their average, the best so far, the optimizer's memory and the step.

    The step says where in the data, the schedules and the random numbers training is:
    all of them are made from the seed and the step's number.
    """

    def __init__(
        self, vae: VAE, optimizer: tfk.optimizers.Optimizer, *, config: TrainConfig
    ):
        """Makes the variables; to be called in the strategy's scope."""
        variables = vae.trainable_variables
        optimizer.build(variables)
        super().__init__(
            weights=list(vae.weights),
            optimizer=optimizer,
            step=tf.Variable(0, dtype=tf.int64, trainable=False),
            # Of the running epoch's steps: ELBO, reconstruction and KL, nats.
            sums=tf.Variable([0.0, 0.0, 0.0], trainable=False),
            averages=_copies(variables) if config.ema else [],
            best=_copies(variables) if config.patience else [],
            best_elbo=tf.Variable(-float("inf"), trainable=False),
            best_epoch=tf.Variable(0, dtype=tf.int64, trainable=False),
            # The CURVES, a row an epoch; NaN until it has ended.
            history=tf.Variable(
                tf.fill([config.epochs, len(CURVES)], math.nan), trainable=False
            ),
        )
        self._variables, self._decay = variables, config.ema

    @property
    def steps_done(self) -> int:
        """How many steps of training there were."""
        return int(self.step.numpy())

    def variables(self) -> list[tf.Variable]:
        """Returns all that a checkpoint holds."""
        return [
            *(*self.weights, *self.averages, *self.best, *self.optimizer.variables),
            *(self.step, self.sums, self.best_elbo, self.best_epoch, self.history),
        ]

    def sum_of_weights(self) -> float:
        """Returns the sum of all weights' magnitudes: the same for the same weights."""
        sums = (np.abs(weight.numpy()).sum(dtype=np.float64) for weight in self.weights)
        return float(sum(sums))

    def update_averages(self, strategy: tf.distribute.Strategy) -> None:
        """Moves the average towards the weights; after each step, across replicas.

        Source: Polyak & Juditsky 1992, Acceleration of Stochastic Approximation by
        Averaging; exponential, and with the first steps' shorter memory, as
        tf.train.ExponentialMovingAverage has it.
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
        """Puts the average in the weights' place, for a while."""
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
        """Remembers the weights, as they are now, if their ELBO is the best so far."""
        if self.best and elbo > self.best_elbo.numpy():
            _assign(self.best, self._variables)
            self.best_elbo.assign(elbo)
            self.best_epoch.assign(epoch)

    def record_epoch(self, epoch: int, values: Mapping[tuple[str, str], float]) -> None:
        """Adds an epoch, from 1, to the history: the values of the CURVES."""
        history = self.history.numpy()
        history[epoch - 1] = np.array([values[curve] for curve in CURVES])
        self.history.assign(history)

    def set_final_weights(self) -> None:
        """Leaves the weights to keep: the best, the average or the last."""
        if kept := self.best or self.averages:
            _assign(self._variables, kept)

    def is_finite(self) -> bool:
        """Whether every weight is a number."""
        return all(
            bool(tf.reduce_all(tf.math.is_finite(variable.read_value())))
            for variable in self._variables
        )


def _copies(variables) -> list[tf.Variable]:
    return [tf.Variable(variable, trainable=False) for variable in variables]


def _assign(variables, values) -> None:
    for variable, value in zip(variables, values):
        variable.assign(value)
