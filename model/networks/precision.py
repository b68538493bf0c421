"""The choice of the hidden layers' precision: bfloat16 if the processors support it.

Weights, the layers that compute a distribution's parameters, the distributions and the
ELBO are always float32. bfloat16 has the range of float32, so losses need no scaling.
Source: Micikevicius et al. 2018, Mixed Precision Training.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from model.config import TrainConfig

_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}  # Keras's names
_CPU_FLAGS = {"avx512_bf16", "amx_bf16"}  # CPUs with either can multiply bfloat16
_GPU_CAPABILITY = (8, 0)  # NVIDIA's Ampere, the first that can multiply bfloat16
_CPUINFO = "/proc/cpuinfo"  # on Linux


def choose_policy(config: TrainConfig) -> str:
    """Returns the name of Keras's dtype policy for the hidden layers.

    With the setting `auto`, the choice is bfloat16 if all processors that train can
    multiply it, because emulated bfloat16 is slower than float32. Those are the GPUs,
    or the CPUs if there is no GPU or logical CPU devices are set.

    Returns:
      `float32` or `mixed_bfloat16`, for `VAE(config, dtype)`.
    """
    if config.precision != "auto":
        return _POLICIES[config.precision]
    gpus = [] if config.replicas else tf.config.list_physical_devices("GPU")
    if gpus:
        details = map(tf.config.experimental.get_device_details, gpus)
        is_supported = all(gpu_multiplies_bfloat16(gpu) for gpu in details)
    else:
        cpuinfo = pathlib.Path(_CPUINFO)
        is_supported = cpuinfo.exists() and cpu_multiplies_bfloat16(
            cpuinfo.read_text(encoding="utf-8")
        )
    return _POLICIES["bfloat16" if is_supported else "float32"]


def cpu_multiplies_bfloat16(cpuinfo: str) -> bool:
    """Returns whether all CPUs can multiply bfloat16.

    Args:
      cpuinfo: the text of Linux's /proc/cpuinfo.
    """
    flags = [
        set(line.partition(":")[2].split())
        for line in cpuinfo.splitlines()
        if line.startswith("flags")
    ]
    return bool(flags) and all(_CPU_FLAGS & of_cpu for of_cpu in flags)


def gpu_multiplies_bfloat16(details: Mapping[str, Any]) -> bool:
    """Returns whether a GPU can multiply bfloat16.

    Args:
      details: the result of `tf.config.experimental.get_device_details`.
    """
    return details.get("compute_capability", (0, 0)) >= _GPU_CAPABILITY
