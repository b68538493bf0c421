"""Races between contenders, which run in processes of their own and take turns.

Each process has its own environment, because TensorFlow reads its settings when it is
first imported. All contenders are measured in one run, so that other load on the
machine affects all of them. The result is the ratio of their speeds.
"""

import dataclasses
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, Literal

TURNS = 5


@dataclasses.dataclass(frozen=True)
class Contender:
    """A setup whose speed a race measures: the post's recipe, or this project's."""

    name: str
    model: dict[str, Any] | None = None  # ModelConfig's fields; None: the post's recipe
    # TrainConfig's fields
    train: dict[str, Any] = dataclasses.field(default_factory=dict)
    what: Literal["steps", "steps without tf.distribute", "input"] = "steps"
    # environment variables
    variables: dict[str, str] = dataclasses.field(default_factory=dict)


def environment(ours: bool) -> dict[str, str]:
    """Returns a contender's environment; the post's recipe gets TensorFlow defaults."""
    variables = dict(os.environ)
    if not ours:
        # `model` may have set this variable in this process.
        variables.pop("TF_ENABLE_ONEDNN_OPTS", None)
    return variables


def run(contenders: Sequence[Contender]) -> None:
    """Measures all contenders; prints images/s and their ratios to the first contender.

    Raises:
      RuntimeError: a contender ended before its turn.
    """
    processes = [_start(contender) for contender in contenders]
    try:
        setups = [_answer(*pair) for pair in zip(contenders, processes)]
        speeds = []
        for turn in range(TURNS):
            speeds.append([float(_turn(*pair)) for pair in zip(contenders, processes)])
            print(f"  turn {turn + 1} of {TURNS}", flush=True)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    names = [contender.name for contender in contenders]
    print("\n".join(table(names, setups, speeds)), flush=True)


def table(
    names: Sequence[str], setups: Sequence[str], speeds: Sequence[Sequence[float]]
) -> list[str]:
    """Returns a line for each contender: median speed, and median of each turn's ratio.

    Args:
      names: names of the contenders, the baseline first.
      setups: description of each contender's setup.
      speeds: images/s of each contender, a row for each turn.
    """
    lines = []
    for i, (name, setup) in enumerate(zip(names, setups)):
        median = statistics.median(turn[i] for turn in speeds)
        ratio = statistics.median(turn[i] / turn[0] for turn in speeds)
        lines.append(
            f"  {name:28} {median:8,.0f} images/s {ratio:7.2f} x {names[0]}   ({setup})"
        )
    return lines


def _start(contender: Contender) -> subprocess.Popen:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.benchmarks.contender"),
            json.dumps(dataclasses.asdict(contender)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(ours=contender.model is not None) | contender.variables,
    )


def _turn(contender: Contender, process: subprocess.Popen) -> str:
    if process.poll() is None:
        process.stdin.write("\n")
        process.stdin.flush()
    return _answer(contender, process)


def _answer(contender: Contender, process: subprocess.Popen) -> str:
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(
            f"the contender {contender.name!r} ended with exit code {process.wait()} "
            "where it had a turn to take: see its error above"
        )
    return line.rstrip("\n")
