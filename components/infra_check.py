"""InfraCheck: withholds its blessing from an export that can't be served."""

import os
import pathlib
import subprocess
import sys

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts
from tfx.utils import path_utils

_PROBE = pathlib.Path(__file__).with_name("infra_probe.py")
_TIMEOUT = 300  # seconds

BLESSED_PROPERTY = "blessed"  # 1 or 0, as TFX's Pusher reads it
REASON_PROPERTY = "reason"  # why not, in a sentence


def probe(model_dir: str, timeout: float = _TIMEOUT) -> str | None:
    """Returns why a SavedModel can't be served, in a sentence, or None if it can.

    It is loaded in a fresh process that has neither TFP nor our code, and every
    signature is called: shapes, finiteness, determinism, refusal of bad input.

    Args:
      model_dir: the SavedModel's folder.
      timeout: seconds until the probe counts as failed.
    """
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    # TensorFlow itself would import tf_keras.
    environment.pop("TF_USE_LEGACY_KERAS", None)
    try:
        result = subprocess.run(
            # -I: neither the current folder nor PYTHONPATH is looked into.
            [sys.executable, "-I", str(_PROBE), model_dir],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer to every signature within {timeout:g} s"
    if result.returncode == 0:
        return None
    lines = result.stderr.strip().splitlines()
    if result.returncode != 1 or not lines:  # no Python error: a crash, or a kill
        return f"the probe ended with {result.returncode}"
    return lines[-1]


@component
def InfraCheck(  # noqa: N802, a component
    model: InputArtifact[standard_artifacts.Model],
    blessing: OutputArtifact[standard_artifacts.InfraBlessing],
) -> None:
    """Blesses the model if a fresh process can serve it, else says why not."""
    reason = probe(path_utils.serving_model_dir(model.uri))
    name = "INFRA_BLESSED" if reason is None else "INFRA_NOT_BLESSED"
    pathlib.Path(blessing.uri, name).write_text(reason or "", encoding="utf-8")
    blessing.set_int_custom_property(BLESSED_PROPERTY, int(reason is None))
    if reason is not None:
        blessing.set_string_custom_property(REASON_PROPERTY, reason)
