"""The server of `serve`: pushed models over HTTP, in TensorFlow Serving's protocol."""
