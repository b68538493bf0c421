"""Functions for local and remote files, which import no TensorFlow and no TFX."""
