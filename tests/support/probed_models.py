"""A minimal SavedModel that can be served, and models with other signatures."""

import tensorflow as tf

SHAPE = [28, 28, 1]
IMAGES = tf.TensorSpec([None, *SHAPE], tf.float32)
EXAMPLES = tf.TensorSpec([None], tf.string)


def signature(**inputs):
    """Returns a decorator that makes a tf.function with the named, typed inputs."""
    specs = [
        tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in inputs.items()
    ]
    return tf.function(input_signature=specs, autograph=False)


drawing = signature(n=tf.TensorSpec([], tf.int32), seed=tf.TensorSpec([], tf.int64))
of_images = signature(images=IMAGES)
of_examples = signature(examples=EXAMPLES)


# A minimal model without a fault.


@drawing
def generate(n, seed):
    mean = tf.random.stateless_uniform([n, *SHAPE], tf.stack([seed, 0]))
    return {"mean": mean, "mode": tf.round(mean)}


@of_images
def encode(images):
    size = tf.shape(images)[0]
    return {"loc": tf.zeros([size, 2]), "scale_tril": tf.eye(2, batch_shape=[size])}


@signature(z=tf.TensorSpec([None, 2], tf.float32))
def decode(z):
    logits = tf.reduce_sum(z, axis=1)[:, tf.newaxis, tf.newaxis, tf.newaxis]
    mean = tf.sigmoid(tf.tile(logits, [1, *SHAPE]))
    return {"mean": mean, "mode": tf.round(mean)}


@of_images
def reconstruct(images):
    return decode(encode(images)["loc"])


def terms(images):
    reconstruction = -tf.reduce_sum(images, axis=[1, 2, 3])
    kl = tf.ones_like(reconstruction)
    return {"elbo": reconstruction - kl, "reconstruction": reconstruction, "kl": kl}


def parse(examples):
    spec = tf.io.FixedLenFeature([], tf.string)
    parsed = tf.io.parse_example(examples, {"pixels": spec})
    pixels = tf.io.decode_raw(parsed["pixels"], tf.uint8, fixed_length=784)
    return tf.reshape(tf.cast(pixels, tf.float32) / 255.0, [-1, *SHAPE])


@of_images
def elbo(images):
    tf.debugging.assert_positive(tf.shape(images)[0])
    return terms(images)


of_images_and_k = signature(images=IMAGES, k=tf.TensorSpec([], tf.int32))


@of_images_and_k
def iwae(images, k):
    return {"iwae": terms(images)["elbo"] + tf.math.log(tf.cast(k, tf.float32))}


@of_examples
def elbo_examples(examples):
    return terms(parse(examples))


GOOD = {
    "serving_default": reconstruct,
    "encode": encode,
    "decode": decode,
    "generate": generate,
    "elbo": elbo,
    "iwae": iwae,
    "elbo_examples": elbo_examples,
}


def save_model(folder, faults, root=None):
    """Writes the minimal model with some signatures replaced or removed.

    Args:
      folder: folder of the SavedModel.
      faults: signature name -> its new function; None removes the signature.
      root: owner of the variables that the functions use.
    """
    signatures = {**GOOD, **faults}
    given = {name: function for name, function in signatures.items() if function}
    tf.saved_model.save(root or tf.Module(), str(folder), signatures=given)
    return str(folder)
