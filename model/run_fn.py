"""What TFX's Trainer calls: a thin adapter over `train` and `serving`."""

import os

from tfx.components.trainer.fn_args_utils import FnArgs

from model import serving, train
from model.config import ModelConfig, TrainConfig


def run_fn(fn_args: FnArgs) -> None:
    """Trains a VAE on the transformed examples and exports it for serving.

    `fn_args.custom_config` has `model` and `train`, the fields of the two configs, and
    `evaluation`, the samples and the seed of every ELBO that the export estimates.
    """
    config = fn_args.custom_config
    evaluation = config["evaluation"]
    vae = train.train(
        ModelConfig(**config["model"]),
        TrainConfig(**config["train"]),
        fn_args.train_files,
        fn_args.eval_files,
        evaluation_seed=evaluation["seed"],
        log_dir=os.path.join(fn_args.model_run_dir, "tensorboard"),
    )
    serving.export(vae, fn_args.serving_model_dir, **evaluation)
