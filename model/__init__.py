"""The VAE: networks, ELBO, training and export; knows no orchestration.

TensorFlow and TFP read settings when they are first imported: they have to be made
before, here, at the root of every import of this package.
"""

import os

# TFP's layers are layers of tf_keras, so Keras 2 has to be chosen. TensorFlow imports
# Keras 3 as well, and that its backend. What the environment has is for other programs.
os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ["KERAS_BACKEND"] = "tensorflow"

# oneDNN's kernels, which TensorFlow leaves alone on CPUs without AVX-512. A training
# step's images/s with them, as a ratio to without, on 2 cores with AVX2: networks
# blog 1.7 to 1.9, conv_residual 1.2 to 1.4, dense 1.2. For blog Grappler says "remapper
# failed": it drops what that one pass did to the graph, and goes on.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
