"""InfraCheck: withholds its blessing from an export that can't be served."""

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
_PROCESSES = 2  # that must crash until the model is refused

# Faults of the code that runs. Not SIGBUS, which a failing disk sends through mapped
# files; not SIGILL, for an instruction that this processor lacks.
_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE)

# What a library prints before it aborts because the machine has no more of something.
_EXHAUSTED = re.compile(
    "bad_alloc|cannot allocate memory|out of memory|resource temporarily unavailable|"
    "no space left|disk quota|too many open files|input/output error",
    re.IGNORECASE,
)

BLESSED_PROPERTY = "blessed"  # 1 or 0, as TFX's Pusher reads it
REASON_PROPERTY = "reason"  # why not, in a sentence


class ProbeError(PipelineError):
    """The probe gave no answer, for a reason that is the machine's."""


class _CrashError(PipelineError):
    """The probe crashed while the model was in use."""


def probe(model_dir: str, timeout: float) -> str | None:
    """Returns why a SavedModel can't be served, in a sentence, or None if it can.

    It is loaded in a fresh process that has neither TFP nor our code, and every
    signature is called: shapes, finiteness, determinism, refusal of bad input. A crash
    is tried again: the model is refused if the second process crashes too.

    Args:
      model_dir: the SavedModel's folder.
      timeout: seconds that each process gets.

    Raises:
      OSError: the folder can't be read.
      ProbeError: the probe was ended from outside, ran out of time or memory, or could
        not start.
    """
    # TensorFlow reports a folder that can't be read as one that holds no model.
    os.listdir(model_dir)
    crashes: list[str] = []
    while len(crashes) < _PROCESSES:
        try:
            refusal = _answer(model_dir, timeout)
        except _CrashError as error:
            logger.warning("the probe crashed with %s", error)
            crashes.append(str(error))
            continue
        if crashes:
            logger.warning("it crashed with %s, and then answered", crashes[0])
        return refusal
    return f"{_PROCESSES} fresh processes crashed, with {' and '.join(crashes)}"


def _answer(model_dir: str, timeout: float) -> str | None:
    """Returns what one process of the probe answers."""
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
        raise ProbeError(
            f"the model must answer every signature within {timeout:g} s, and did not: "
            "that decides nothing about the model. Run again when the machine is less "
            "busy, or raise gate.infra_timeout"
        ) from None
    answers = [json.loads(line) for line in result.stdout.splitlines() if line]
    if result.returncode == 0 and len(answers) == 2:
        return answers[1]["refusal"]
    logger.warning("the probe printed: %s", result.stderr)
    if result.returncode < 0:
        name = _signal_name(-result.returncode)
        exhausted = _EXHAUSTED.search(result.stderr)
        # Before its first line the probe has not looked at the model.
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
        f"the process that calls every signature {why}: that decides nothing about the "
        "model. Mend the machine and run again"
    )


def _signal_name(number: int) -> str:
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
    """Blesses the model if a fresh process can serve it, else says why not.

    Args:
      model: the candidate.
      blessing: the gate decision, with the reason for a refusal.
      timeout: seconds that a process gets to answer.

    Raises:
      ProbeError: the machine kept the model from answering.
    """
    reason = probe(path_utils.serving_model_dir(model.uri), timeout)
    name = "INFRA_BLESSED" if reason is None else "INFRA_NOT_BLESSED"
    pathlib.Path(blessing.uri, name).write_text(reason or "", encoding="utf-8")
    blessing.set_int_custom_property(BLESSED_PROPERTY, int(reason is None))
    if reason is not None:
        blessing.set_string_custom_property(REASON_PROPERTY, reason)
