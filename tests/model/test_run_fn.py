"""The Trainer's function with real files: it trains, exports and marks the end."""

import dataclasses
import pathlib

import numpy as np
import tensorflow as tf
from tfx.components.trainer.fn_args_utils import FnArgs

from model.run_fn import run_fn
from tests.support import training
from tests.support.configs import demo_model, demo_train


def test_a_model_is_trained_and_exported_with_its_evaluations_seed(tmp_path):
    training.write_digits(tmp_path)
    pattern = [str(tmp_path / "*.gz")]
    model_config = demo_model(latent_size=2, hidden_units=8)
    train_config = demo_train(epochs=1, batch_size=50)
    checkpoints = tmp_path / "checkpoints"
    run_fn(
        FnArgs(
            train_files=pattern,
            eval_files=pattern,
            serving_model_dir=str(tmp_path / "model"),
            model_run_dir=str(tmp_path / "run"),
            custom_config={
                "model": dataclasses.asdict(model_config),
                "train": dataclasses.asdict(train_config),
                "evaluation": {"samples": 2, "seed": 5},
                "checkpoints": str(checkpoints),
            },
        )
    )
    signatures = tf.saved_model.load(str(tmp_path / "model")).signatures
    images = tf.constant(np.zeros([3, 28, 28, 1], np.float32))
    assert signatures["elbo"](images=images)["elbo"].shape == [3]
    assert (tmp_path / "run" / "tensorboard" / "eval").is_dir()
    (of_training,) = pathlib.Path(checkpoints).iterdir()
    # With this mark the next training may remove the checkpoints.
    assert (of_training / "done").exists()
    assert (of_training / "checkpoint").exists()
