"""The run function of TFX's Trainer, a thin adapter over `loop.train` and `export`."""

import os

from tfx.components.trainer.fn_args_utils import FnArgs

from model import export
from model.config import ModelConfig, TrainConfig
from model.training import devices, loop
from model.training.progress import log_if_slow


def run_fn(fn_args: FnArgs) -> None:
    """Trains a VAE on the transformed examples and exports it for serving.

    Args:
      fn_args: the arguments of the Trainer. Its `custom_config` has `model` and
        `train`, the fields of ModelConfig and TrainConfig; `evaluation`, with `samples`
        and `seed` of every ELBO that the export estimates; and `checkpoints`, a folder
        or URI that remains when this process ends, or "".
    """
    config = fn_args.custom_config
    evaluation = config["evaluation"]
    trained = loop.train(
        ModelConfig(**config["model"]),
        TrainConfig(**config["train"]),
        files=loop.Files(
            train=fn_args.train_files,
            eval=fn_args.eval_files,
            scratch=os.path.join(fn_args.model_run_dir, "scratch"),
            checkpoints=config["checkpoints"],
            log_dir=os.path.join(fn_args.model_run_dir, "tensorboard"),
            base_model=fn_args.base_model or "",
        ),
        evaluation_seed=evaluation["seed"],
    )
    if devices.is_chief(trained.strategy):
        with log_if_slow("exporting the model"):
            export.export(trained.vae, fn_args.serving_model_dir, **evaluation)
        # The next training removes them: until TFX has published the model, a failure
        # of this step must not lose them.
        trained.checkpoints.mark_done()
    # TFX expects the model in each worker: they wait until the chief has written it.
    devices.check_agreement(trained.strategy, "end", value=0)
