"""The graph on Kubeflow Pipelines v2: compiled, submitted and run."""
