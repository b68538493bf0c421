"""A timed training: `python -m tests.benchmarks.clock JSON`.

Trains until the test -ELBO is at or below the bound, in nats. The -ELBO counts the KL
once, uses the split's fixed binarization, and is computed at the end of each epoch.
Prints a line for each epoch, and a last line with the result in JSON. The clock starts
before the model is built. For the post's recipe the clock stops while the ELBO is
evaluated; for this project's training it does not.
"""

import contextlib
import dataclasses
import json
import logging
import sys
import tempfile
import time
from typing import Any

SEED = 0  # for weights, order, noise and the binarization of the test split
TRAIN, TEST, ARRAYS = "train.gz", "test.gz", "arrays.npz"  # written by `digits`
_EVALUATED = 500  # images per batch of the evaluation


@dataclasses.dataclass
class Training:
    """The settings of a training, and the -ELBO at which the training ends."""

    name: str
    folder: str  # has the files that `digits` wrote
    bound: float  # nats
    epochs: int  # maximum for the post's recipe
    model: dict[str, Any] | None = None  # ModelConfig's fields; None: the post's recipe
    # TrainConfig's fields
    train: dict[str, Any] = dataclasses.field(default_factory=dict)


class _ReachedError(Exception):
    """The bound is reached; `train` has no bound of its own, so this error ends it."""


class Log:
    """Prints a line for each epoch, and keeps the figures of the last epoch."""

    def __init__(self, training: Training):
        self._training = training
        self.last: dict[str, Any] = {"reached": False}

    def add(self, epoch: int, seconds: float, nats: float, printed: float | None):
        """Records and prints an epoch; returns whether the bound is reached."""
        reached = nats <= self._training.bound
        self.last = {
            "reached": reached,
            "epoch": epoch,
            "seconds": seconds,
            "nats": nats,
            "printed": printed,
        }
        beside = "" if printed is None else f"; its printed loss {printed:.1f}"
        print(
            f"  {self._training.name}: epoch {epoch}, {seconds:,.0f} s, "
            f"test -ELBO {nats:.1f} nats{beside}",
            flush=True,
        )
        return reached


def posts(training: Training, log: Log) -> None:
    """Trains the post's recipe until the bound is reached."""
    started = time.monotonic()
    import numpy as np
    import tf_keras as tfk

    from tests.benchmarks import blog_recipe

    arrays = np.load(f"{training.folder}/{ARRAYS}")
    tfk.utils.set_random_seed(SEED)
    vae = blog_recipe.compiled()

    class Clock(tfk.callbacks.Callback):
        stood_still = 0.0

        def on_epoch_end(self, epoch, logs):
            stopped = time.monotonic()
            seconds = stopped - started - self.stood_still
            nats = -_posts_elbo(vae, arrays["test"])
            self.model.stop_training = log.add(epoch + 1, seconds, nats, logs["loss"])
            self.stood_still += time.monotonic() - stopped

    vae.fit(
        blog_recipe.batches(arrays["train"]),
        epochs=training.epochs,
        callbacks=[Clock()],
        verbose=0,
    )


def _posts_elbo(vae, bits) -> float:
    import numpy as np
    import tensorflow as tf

    from tests.benchmarks import blog_recipe

    images = tf.data.Dataset.from_tensor_slices(bits.astype(np.float32))
    elbos = [
        np.subtract(*blog_recipe.elbo_terms(vae, batch))
        for batch in images.batch(_EVALUATED)
    ]
    return float(np.concatenate(elbos).mean())


def ours(training: Training, log: Log) -> None:
    """Trains a model of this project with `model.training.loop` until the bound."""
    started = time.monotonic()
    from model.config import ModelConfig, TrainConfig
    from model.training.loop import Files, train

    class Clock(logging.Handler):
        def emit(self, record):
            progress = getattr(record, "progress", None)
            if progress is None or record.levelno < logging.INFO:
                return  # a report within an epoch
            seconds, nats = time.monotonic() - started, -progress.eval_elbo
            if log.add(progress.epoch, seconds, nats, None):
                raise _ReachedError

    logger = logging.getLogger("model")
    logger.setLevel(logging.INFO)
    logger.propagate = False  # `log` already prints the same figures
    logger.addHandler(Clock())
    files = Files(
        train=[f"{training.folder}/{TRAIN}"],
        eval=[f"{training.folder}/{TEST}"],
        scratch=tempfile.mkdtemp(dir=training.folder),
    )
    config = TrainConfig(**training.train | {"seed": SEED})
    with contextlib.suppress(_ReachedError):
        train(ModelConfig(**training.model), config, files=files, evaluation_seed=SEED)


def main() -> None:
    """Runs the training that argv[1] describes, and prints its result."""
    training = Training(**json.loads(sys.argv[1]))
    log = Log(training)
    (posts if training.model is None else ours)(training, log)
    print(json.dumps(log.last), flush=True)


if __name__ == "__main__":
    main()
