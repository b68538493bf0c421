"""Where training runs: every GPU, logical CPU devices, or the workers of a cluster."""

import contextlib
import math
from collections.abc import Iterator

import tensorflow as tf

from model.errors import PipelineError
from model.training import tf_config


class DeviceError(PipelineError):
    """The devices or workers to train on are not those that training needs."""


def configure_logical_cpus(count: int) -> None:
    """Splits the CPU into `count` logical devices, before TensorFlow has started.

    Raises:
      DeviceError: TensorFlow has started with fewer.
    """
    (cpu,) = tf.config.list_physical_devices("CPU")
    if len(tf.config.get_logical_device_configuration(cpu) or ()) >= count:
        return
    logical = [tf.config.LogicalDeviceConfiguration()] * count
    try:
        tf.config.set_logical_device_configuration(cpu, logical)
    except RuntimeError as error:
        running = len(tf.config.list_logical_devices("CPU"))
        if running < count:
            raise DeviceError(
                f"expected {count} logical CPU devices, but TensorFlow has started "
                f"with {running}: set them before anything else uses TensorFlow"
            ) from error


def create_strategy(replicas: int) -> tf.distribute.Strategy:
    """Returns the strategy over the devices that there are to train on.

    With TF_CONFIG in the environment, over all workers of the cluster that it names, as
    a Kubeflow training job sets it; else over `replicas` logical CPUs, or, if that is
    0, over every GPU.

    Raises:
      TFConfigError: TF_CONFIG is not what TensorFlow documents.
    """
    if tf_config.count_workers():
        return tf.distribute.MultiWorkerMirroredStrategy()
    if replicas:
        configure_logical_cpus(replicas)
        devices = [f"CPU:{i}" for i in range(replicas)]
    else:
        gpus = tf.config.list_logical_devices("GPU")
        devices = [gpu.name for gpu in gpus] or ["CPU:0"]
    return tf.distribute.MirroredStrategy(devices)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes: the chief, or the first worker."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type:
        return True
    kinds = resolver.cluster_spec().as_dict()
    if "chief" in kinds:
        return resolver.task_type == "chief"
    return resolver.task_type == "worker" and resolver.task_id == 0


def check_agreement(
    strategy: tf.distribute.Strategy, what: str, *, value: float
) -> None:
    """Raises an error unless all workers begin with the same value.

    Args:
      strategy: of the workers.
      what: the value's name, for the message.
      value: this worker's.

    Raises:
      DeviceError: the workers found different checkpoints or served models.
    """
    if tf_config.count_workers() < 2:
        return
    total = strategy.reduce(
        tf.distribute.ReduceOp.SUM,
        strategy.run(lambda: tf.constant(value, tf.float64)),
        axis=None,
    )
    mean = float(total) / strategy.num_replicas_in_sync
    if not math.isclose(mean, value, rel_tol=1e-12):
        raise DeviceError(
            f"this worker begins with the {what} {value}, but the mean over all is "
            f"{mean}: workers must see the same checkpoints and the same served model, "
            "in a shared folder or at a URI"
        )


@contextlib.contextmanager
def convert_lost_worker_errors() -> Iterator[None]:
    """Replaces TensorFlow's error when another worker of the cluster is lost.

    Raises:
      DeviceError: names the cause and what to do.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if tf_config.count_workers() < 2:
            raise
        raise DeviceError(
            "another worker of TF_CONFIG's cluster is gone, or can't be reached: start "
            "all of them again, and they go on from the last checkpoint"
        ) from error


def distribute_batches(
    strategy: tf.distribute.Strategy, batches: tf.data.Dataset
) -> tf.distribute.DistributedDataset:
    """Returns global batches, cut into equal parts for the replicas, in their order.

    Every worker makes every batch and takes its part: so the parts do not depend on how
    many workers there are.
    """
    replicas = strategy.num_replicas_in_sync

    def make_worker_batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        here = replicas // context.num_input_pipelines
        first = context.input_pipeline_id * here

        def cut_in_parts(*tensors):
            return tuple(
                tf.reshape(
                    tensor,
                    [replicas, tensor.shape[0] // replicas, *tensor.shape[1:]],
                )[first : first + here]
                for tensor in tensors
            )

        return batches.map(cut_in_parts, tf.data.AUTOTUNE).unbatch().prefetch(2 * here)

    return strategy.distribute_datasets_from_function(make_worker_batches)
