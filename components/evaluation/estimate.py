"""How a bound is estimated, in words: what every figure of it is told with."""

SPLIT = "test"  # what every model is measured on
ELBO, IWAE = "the evidence lower bound", "the importance-weighted bound"


def estimate(bound: str, samples: int, seed: int, images: int, binary: bool) -> str:
    """Returns in words how a bound is estimated.

    Args:
      bound: its name.
      samples: of z per image.
      seed: of those samples and of the binarization.
      images: how many.
      binary: whether the model is of binary pixels.
    """
    of_image = estimate_of_image(bound, samples, seed, binary)
    return f"{of_image}, {images:,} images of the {SPLIT} split"


def estimate_of_image(bound: str, samples: int, seed: int, binary: bool) -> str:
    """Returns the same of single images."""
    pixels = "fixed binarization" if binary else "grey pixels"
    return f"{bound}, {samples:,} samples of z per image, {pixels}, seed {seed}"
