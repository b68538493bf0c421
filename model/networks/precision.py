"""The precision of the networks' hidden layers: bfloat16 where processors have it.

Weights, the layers that give a distribution its parameters, the distributions and the
ELBO are float32 whatever it is. Source: Micikevicius et al. 2018, Mixed Precision
Training; with bfloat16's range, losses need no scaling.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from model.config import TrainConfig

_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}  # Keras's names
_CPU_FLAGS = {"avx512_bf16", "amx_bf16"}  # either multiplies bfloat16
_GPU_CAPABILITY = (8, 0)  # NVIDIA's Ampere, the first to do so
_CPUINFO = "/proc/cpuinfo"  # of Linux


def choose_policy(config: TrainConfig) -> str:
    """Returns Keras's dtype policy of the hidden layers, for `VAE(..., dtype)`.

    `auto` is bfloat16 where every processor that trains multiplies it by itself: where
    it is emulated, it is slower than float32.
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
    """Whether all CPUs do, by the text of Linux's /proc/cpuinfo."""
    flags = [
        set(line.partition(":")[2].split())
        for line in cpuinfo.splitlines()
        if line.startswith("flags")
    ]
    return bool(flags) and all(_CPU_FLAGS & of_cpu for of_cpu in flags)


def gpu_multiplies_bfloat16(details: Mapping[str, Any]) -> bool:
    """Whether a GPU does, by what TensorFlow knows of it."""
    return details.get("compute_capability", (0, 0)) >= _GPU_CAPABILITY
