"""Begins a training with the weights of a model that was served."""

import os

import tensorflow as tf

from model.vae import VAE


def load_weights(vae: VAE, folder: str) -> str:
    """Gives the VAE the weights of a SavedModel if the networks match.

    Returns:
      In words, what was done, or why not: a model that does not fit is no error, and
      training then starts cold.

    Raises:
      OSError: the folder can't be read.
    """
    try:
        os.stat(folder)
    except FileNotFoundError:
        return "cold start: nothing is served"
    try:
        served = tf.saved_model.load(folder).variables_
    except (OSError, AttributeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's fault, not the model's: another run is a warm start
        why = " ".join(str(error).split())
        return f"cold start: {folder} is no model of this pipeline ({why})"
    new_shapes, served_shapes = (
        [v.shape.as_list() for v in of] for of in (vae.variables, served)
    )
    if len(new_shapes) != len(served_shapes):
        return (
            "cold start: the networks differ: the served model has "
            f"{len(served_shapes)} variables, this one {len(new_shapes)}"
        )
    for index, (shape, served_shape) in enumerate(zip(new_shapes, served_shapes)):
        if shape != served_shape:
            return (
                f"cold start: the networks differ: variable {index} of the served one "
                f"has shape {served_shape}, this one's {shape}"
            )
    for variable, value in zip(vae.variables, served):
        variable.assign(value)
    return f"warm start: with the weights of {folder}"
