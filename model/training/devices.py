"""The devices of training: GPUs, logical CPU devices, or the workers of a cluster."""

import contextlib
import math
from collections.abc import Iterator

import tensorflow as tf

from model.errors import PipelineError
from model.training import tf_config


class DeviceError(PipelineError):
    """The devices or workers are not in the state that training needs."""


def configure_logical_cpus(count: int) -> None:
    """Splits the CPU into `count` logical TensorFlow devices, or more if already set.

    Must be called before TensorFlow is initialized.

    Raises:
      DeviceError: TensorFlow is already initialized with fewer logical CPU devices.
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
    """Returns the `tf.distribute` strategy over the devices to train on.

    If the environment variable TF_CONFIG is set, as in Kubeflow training jobs, the
    strategy uses all workers of the cluster that TF_CONFIG names.

    Args:
      replicas: number of logical CPU devices to use without TF_CONFIG; 0 for all GPUs,
        or for the CPU if there is no GPU.

    Raises:
      DeviceError: TensorFlow is already initialized with fewer logical CPU devices.
      TFConfigError: TF_CONFIG does not have the form that TensorFlow documents.
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
    """Returns whether this process is the chief, which writes files for all workers.

    A cluster without a chief has its first worker in this role. Without a cluster, the
    only process has it.
    """
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
    """Raises DeviceError unless all workers of the cluster pass the same value.

    Every worker must call this function. Without a cluster it does nothing.

    Args:
      strategy: the strategy over the workers.
      what: name of the value, for the message.
      value: the value of this worker, such as the step of its checkpoint.

    Raises:
      DeviceError: the values differ: workers found different checkpoints or models.
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
    """Converts TensorFlow's errors in the block to DeviceErrors if there is a cluster.

    With several workers, such an error means that another worker was lost.

    Raises:
      DeviceError: the block raised an error of TensorFlow, and TF_CONFIG names several
        workers.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if tf_config.count_workers() < 2:
            raise
        raise DeviceError(
            "another worker of TF_CONFIG's cluster has ended or can't be reached: "
            "start all workers again, and they resume from the last checkpoint"
        ) from error


def distribute_batches(
    strategy: tf.distribute.Strategy, batches: tf.data.Dataset
) -> tf.distribute.DistributedDataset:
    """Returns a distributed data set that cuts each global batch into equal parts.

    Replica i gets part i. Every worker makes every batch and takes its own parts, so
    the parts do not depend on the number of workers.

    Args:
      strategy: the strategy over the replicas.
      batches: global batches; their size must be a multiple of the number of replicas.
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
