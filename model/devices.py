"""Where training runs: every GPU, or one or more logical CPU devices."""

import tensorflow as tf


def configure_logical_cpus(count: int) -> None:
    """Splits the CPU into `count` logical devices, before TensorFlow has started.

    Raises:
      RuntimeError: TensorFlow has started with fewer.
    """
    (cpu,) = tf.config.list_physical_devices("CPU")
    logical = [tf.config.LogicalDeviceConfiguration()] * count
    try:
        tf.config.set_logical_device_configuration(cpu, logical)
    except RuntimeError as error:
        running = len(tf.config.list_logical_devices("CPU"))
        if running < count:
            raise RuntimeError(
                f"expected {count} logical CPU devices, but TensorFlow has started "
                f"with {running}: set them before anything else uses TensorFlow"
            ) from error


def strategy(replicas: int) -> tf.distribute.MirroredStrategy:
    """Returns the strategy over `replicas` logical CPUs, or over every GPU if 0."""
    if replicas:
        configure_logical_cpus(replicas)
        devices = [f"CPU:{i}" for i in range(replicas)]
    else:
        gpus = tf.config.list_logical_devices("GPU")
        devices = [gpu.name for gpu in gpus] or ["CPU:0"]
    return tf.distribute.MirroredStrategy(devices)
