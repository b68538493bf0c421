"""`serve`: an HTTP server over what was pushed, in TensorFlow Serving's protocol."""
