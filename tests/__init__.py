"""All tests, and the processes that they fork."""

import os

from pipeline.startup import environment

# Before a library is imported, as the programs do.
environment.import_less()

# The tests run side by side already, and their models are tiny. TensorFlow's threads
# would spend their time waiting for each other.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
