"""The warm start: a training that begins with the weights of the served model."""

import os

import tensorflow as tf

from model.vae import VAE


def load_weights(vae: VAE, folder: str) -> str:
    """Copies the weights of a SavedModel into a VAE if the variables' shapes match.

    A missing model or one with other shapes is no error: the VAE then keeps its own
    weights.

    Args:
      vae: the model to change.
      folder: the SavedModel.

    Returns:
      A text for the log: `warm start: ...`, or `cold start: ...` with the reason.

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
            raise  # a fault of the disk, not of the model: a later run may succeed
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
