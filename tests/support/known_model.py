"""A model with known bounds and latents: they are pixels of its images."""

import tensorflow as tf

IMAGES = tf.TensorSpec([None, 28, 28, 1], tf.float32, name="images")


class KnownModel(tf.Module):
    """A model whose bounds and latents are pixels of the image, latents scaled."""

    def __init__(self, scales, shift=0.0):
        super().__init__()
        self.scales = tf.Variable(scales, dtype=tf.float32)
        self.shift = tf.Variable(shift, dtype=tf.float32)

    @tf.function(input_signature=[IMAGES])
    def elbo(self, images):
        reconstruction, kl = -images[:, 0, 0, 0], images[:, 0, 1, 0]
        return {"elbo": reconstruction - kl, "reconstruction": reconstruction, "kl": kl}

    @tf.function(input_signature=[IMAGES, tf.TensorSpec([], tf.int32, name="k")])
    def iwae(self, images, k):
        return {
            "iwae": self.shift - 100 * images[:, 20, 20, 0] / tf.cast(k, tf.float32)
        }

    @tf.function(input_signature=[IMAGES])
    def encode(self, images):
        return {"loc": 5.0 + images[:, 1, :4, 0] * self.scales}
