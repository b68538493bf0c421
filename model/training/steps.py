"""The TensorFlow functions that train and evaluate the VAE on all replicas."""

from collections.abc import Callable

import tensorflow as tf

from model.config import TrainConfig
from model.training.state import State
from model.vae import VAE, ElboTerms

MEANS = ("elbo", *ElboTerms._fields)  # the values that are averaged over images; nats


def build_training(
    vae: VAE, state: State, *, strategy: tf.distribute.Strategy, config: TrainConfig
) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
    """Returns a function (iterator, n) that takes n training steps and updates `state`.

    The function stops after a step whose loss is not finite. It returns the number of
    completed steps and the loss of the last step, nats per image.

    Args:
      vae: the model to train.
      state: the variables of the training, those of the VAE included.
      strategy: the strategy over the replicas.
      config: gives the KL's warm-up.
    """

    def train_replica(images, noise):
        with tf.GradientTape() as tape:
            terms = vae.elbo_terms(images, noise)
            loss = vae.compute_loss(
                terms, _kl_weight(state.step, config.kl_warmup_steps)
            )
            # Each replica's share of the mean over the global batch; the sum over the
            # replicas is that mean.
            loss = tf.nn.compute_average_loss(loss)
        variables = vae.trainable_variables
        state.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
        return tf.stack([loss, *map(tf.nn.compute_average_loss, _list_terms(terms))])

    # AutoGraph would take half a minute to rewrite Keras's own code, so the loop is a
    # tf.while_loop.
    @tf.function(autograph=False)
    def take_steps(iterator, n):
        def step(count, _):
            shares = strategy.run(train_replica, args=next(iterator))
            means = strategy.reduce(tf.distribute.ReduceOp.SUM, shares, axis=None)
            state.step.assign_add(1)
            state.sums.assign_add(means[1:])
            state.update_averages(strategy)
            return count + 1, means[0]

        return tf.while_loop(
            lambda count, loss: (count < n) & tf.math.is_finite(loss),
            step,
            [tf.constant(0), tf.constant(0.0)],
            parallel_iterations=1,
        )

    return take_steps


def build_evaluation(
    vae: VAE, strategy: tf.distribute.Strategy
) -> Callable[[tf.distribute.DistributedDataset], dict[str, float]]:
    """Returns a function that computes the MEANS over an evaluation data set.

    The function takes distributed batches (images, noise, weights), and returns the
    weighted mean of ELBO, reconstruction and KL by name, in nats per image.
    """

    def evaluate_replica(batch):
        images, noise, weights = batch
        terms = vae.elbo_terms(images, noise)
        sums = [tf.reduce_sum(weights * value) for value in _list_terms(terms)]
        return tf.stack([tf.reduce_sum(weights), *sums])

    @tf.function(autograph=False)
    def evaluate_batch(batch):
        shares = strategy.run(evaluate_replica, args=(batch,))
        return strategy.reduce(tf.distribute.ReduceOp.SUM, shares, axis=None)

    def evaluate(batches):
        count, *sums = tf.add_n([evaluate_batch(batch) for batch in batches]).numpy()
        return {name: float(total / count) for name, total in zip(MEANS, sums)}

    return evaluate


def _list_terms(terms: ElboTerms) -> tuple[tf.Tensor, ...]:
    """Returns ELBO, reconstruction and KL, [B] each, in the order of MEANS."""
    return terms.elbo(), *terms


def _kl_weight(step: tf.Tensor, warmup_steps: int) -> tf.Tensor | float:
    """Returns the KL's weight in a step, which rises to 1 over the warm-up."""
    if not warmup_steps:
        return 1.0
    return tf.minimum(1.0, (tf.cast(step, tf.float32) + 1.0) / warmup_steps)
