"""The InfraCheck step: refuses an export that can't be served."""

import json
import logging
import os
import pathlib
import re
import signal
import subprocess
import sys

from tfx.dsl.component.experimental.annotations import (
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from model.errors import PipelineError

logger = logging.getLogger(__name__)

_PROBE = pathlib.Path(__file__).parent / "evaluation" / "infra_probe.py"
_PROCESSES = 2  # the model is refused if so many crash

# Signals that the model's own code causes. SIGBUS is not one: a failing disk causes it
# in memory-mapped files. SIGILL is not one: a processor that lacks an instruction
# causes it.
_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE)

# What libraries print before they abort because memory, disk space or files run out.
_EXHAUSTED = re.compile(
    "bad_alloc|cannot allocate memory|out of memory|resource temporarily unavailable|"
    "no space left|disk quota|too many open files|input/output error",
    re.IGNORECASE,
)

BLESSED_PROPERTY = "blessed"  # 1 or 0, as TFX's Pusher reads it
REASON_PROPERTY = "reason"  # why the model is refused, in a sentence


class ProbeError(PipelineError):
    """The probe gave no answer, and the machine is the cause, not the model."""


class _CrashError(PipelineError):
    """The probe crashed while the model was in use."""


def find_refusal(model_dir: str, timeout: float) -> str | None:
    """Returns why a SavedModel can't be served, in a sentence; None if it can.

    A fresh process, without TFP and this project's code, loads the model, calls every
    signature and checks that outputs have the right shapes, are finite and repeatable,
    and that bad input is refused. After a crash a second process tries again. The model
    is refused if that one crashes too.

    Args:
      model_dir: the SavedModel's folder.
      timeout: the time limit of each process, in seconds.

    Raises:
      OSError: the folder can't be read.
      ProbeError: a process could not start, ran out of time or memory, or was killed by
        another program.
    """
    # TensorFlow reports a folder that can't be read as one that holds no model.
    os.listdir(model_dir)
    crashes: list[str] = []
    while len(crashes) < _PROCESSES:
        try:
            refusal = _run_probe(model_dir, timeout)
        except _CrashError as error:
            logger.warning("the probe crashed with %s", error)
            crashes.append(str(error))
            continue
        if crashes:
            logger.warning("a probe crashed with %s, the next one answered", crashes[0])
        return refusal
    return f"{_PROCESSES} fresh processes crashed, with {' and '.join(crashes)}"


def _run_probe(model_dir: str, timeout: float) -> str | None:
    """Runs the probe in one process; returns why it refuses the model, or None.

    Raises:
      ProbeError: as `find_refusal` raises it.
      _CrashError: the process crashed after it had started on the model.
    """
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    # TensorFlow itself would import tf_keras.
    environment.pop("TF_USE_LEGACY_KERAS", None)
    try:
        result = subprocess.run(
            # -I: Python imports from neither the current folder nor PYTHONPATH.
            [sys.executable, "-I", str(_PROBE), model_dir],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ProbeError(
            f"the model must answer every signature within {timeout:g} s, and did not: "
            "the model is neither blessed nor refused. Run again when the machine is "
            "less busy, or raise gate.infra_timeout"
        ) from None
    answers = [json.loads(line) for line in result.stdout.splitlines() if line]
    if result.returncode == 0 and len(answers) == 2:
        return answers[1]["refusal"]
    logger.warning("the probe printed: %s", result.stderr)
    if result.returncode < 0:
        name = _find_signal_name(-result.returncode)
        exhausted = _EXHAUSTED.search(result.stderr)
        # Before it prints its first line, the probe has not used the model.
        if -result.returncode in _CRASHES and answers and not exhausted:
            raise _CrashError(name)
        why = f"was ended by {name}"
        if -result.returncode == signal.SIGKILL:
            why += ", as the kernel does when memory runs out"
        elif exhausted:
            why += f" ({exhausted[0]})"
    else:
        lines = result.stderr.strip().splitlines() or ["it printed nothing"]
        why = f"ended with exit code {result.returncode} ({lines[-1]})"
    raise ProbeError(
        f"the process that calls every signature {why}: the model is neither blessed "
        "nor refused. Fix the machine and run again"
    )


def _find_signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


@component
def InfraCheck(  # noqa: N802, a component
    model: InputArtifact[standard_artifacts.Model],
    blessing: OutputArtifact[standard_artifacts.InfraBlessing],
    timeout: Parameter[int],
) -> None:
    """Blesses the model if a fresh process can load it and call every signature.

    Args:
      model: the candidate.
      blessing: the artifact that gets the gate decision and the reason for a refusal.
      timeout: the time limit of a process, in seconds.

    Raises:
      ProbeError: the machine is the cause that the model did not answer.
    """
    reason = find_refusal(path_utils.serving_model_dir(model.uri), timeout)
    name = "INFRA_BLESSED" if reason is None else "INFRA_NOT_BLESSED"
    pathlib.Path(blessing.uri, name).write_text(reason or "", encoding="utf-8")
    blessing.set_int_custom_property(BLESSED_PROPERTY, int(reason is None))
    if reason is not None:
        blessing.set_string_custom_property(REASON_PROPERTY, reason)
