"""Packages for Kubeflow Pipelines, compiled by the tests."""

from pipeline.config.loading import resolve
from pipeline.kubeflow import compiler

IMAGE = "registry.example/vae-pipeline@sha256:0123"
# the smallest settings that compile
DESTINATION = "push.destination=s3://models/serving/"
SETTINGS = [
    DESTINATION,
    "kubeflow.pipeline_root=minio://mlpipeline/vae",
    "kubeflow.data_dir=/data/tfds",
    "kubeflow.volumes={/data: datasets}",
    "kubeflow.secrets={AWS_ACCESS_KEY_ID: s3/key, AWS_SECRET_ACCESS_KEY: s3/secret}",
    "kubeflow.steps={default: {cpu: 0.5, memory: 3}, Trainer: {cpu: 8, memory: 16.5, "
    "gpus: 2, gpu_type: amd.com/gpu, node_selector: {pool: gpu}}}",
]


def compile_package(folder, *settings, preset="demo", image=IMAGE):
    """Compiles a preset with settings into a folder; returns the package's path."""
    path = folder / "pipeline.yaml"
    config = resolve(preset, settings=settings)
    compiler.compile_pipeline(config, str(path), image=image)
    return path
