"""The VAE: networks, ELBO, training and export; knows no orchestration.

TFP's layers are layers of tf_keras, so Keras 2 has to be chosen before TensorFlow is
imported for the first time: here, at the root of every import of this package.
"""

import os

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
