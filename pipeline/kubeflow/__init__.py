"""Kubeflow Pipelines v2: the compiler, the container entrypoint and the API client."""
