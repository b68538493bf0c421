"""The VAE: its networks, ELBO, training and export, without any orchestration.

An import of this package sets environment variables that TensorFlow and TFP read when
they are first imported. Python runs this file before every other module of the package.
"""

import os

# TFP's layers are layers of tf_keras, so Keras 2 has to be chosen. TensorFlow imports
# Keras 3 as well, and Keras 3 imports its backend. Values that the environment already
# has are meant for other programs, so they are replaced.
os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ["KERAS_BACKEND"] = "tensorflow"

# TensorFlow does not use oneDNN's kernels by default on CPUs without AVX-512. With
# them, training makes more images/s, by this factor on 2 cores with AVX2: network blog
# 1.7 to 1.9, conv_residual 1.2 to 1.4, dense 1.2. For blog Grappler logs "remapper
# failed": it drops the changes of that one pass to the graph and continues.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
