"""The command `submit`: its closing table, and the commands in the table.

tests/pipeline/kubeflow has the command's tests with an API server.
"""

import dataclasses
import os
import shlex
import sys

import pytest

from components.evaluation.evaluation_result import Difference
from components.evaluation.gate_result import GateResult
from pipeline.cli import submit
from tests.support.command_line import parse

DIFFERENCE = Difference(
    images=10_000, mean=1.75, standard_error=0.05, lower_end=1.6678, confidence=0.95
)
BIN = os.path.dirname(sys.executable)


def test_a_run_that_is_waited_for_again(monkeypatch):
    monkeypatch.setenv("PATH", f"/usr/bin:{BIN}")
    args = parse("submit", "--host", "http://x:1", "--root", "a b", "--wait")
    assert submit.describe_waiting_again(args, "r-1") == (
        "To wait for it again: vae-pipeline submit --host http://x:1 --root 'a b' "
        "--run r-1"
    )


def test_the_command_for_the_logs_is_for_a_shell():
    words = shlex.split(submit._logs_line("r-1", "ada's"))
    assert words == [
        *("kubectl", "logs", "-n", "ada's", "-l", "pipeline/runid=r-1"),
        *("-c", "main", "--prefix", "--tail=50"),
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {},
            {
                "candidate's ELBO": "-90.50 nats per image (higher is better)",
                "  estimated by": "4 samples",
                "baseline's ELBO": "-92.25; difference +1.75",
                "verdict": "BLESSED",
                "pushed": "s3://models/vae/7",
            },
        ),
        ({"baseline_elbo": None}, {"baseline's ELBO": "none: nothing was served"}),
        ({"baseline_elbo": 0.0}, {"baseline's ELBO": "0.00; difference -90.50"}),
        (
            {"difference": DIFFERENCE},
            {
                "baseline's ELBO": "-92.25; difference +1.75 (with 95% confidence at "
                "least +1.67)"
            },
        ),
        (
            {"independent_pixels": -206.125},
            {
                "  compare with": "independent pixels: -206.12 nats per image "
                "(log-likelihood)"
            },
        ),
        ({"pushed": None}, {"pushed": "nothing"}),
        (
            {"refusals": ("too low", "no number"), "pushed": None},
            {"verdict": "REFUSED: too low; no number", "pushed": "nothing"},
        ),
    ],
)
def test_the_closing_table_has_the_gate_decision(changes, expected):
    blessed = GateResult(
        elbo=-90.5,
        estimate="4 samples",
        baseline_elbo=-92.25,
        refusals=(),
        pushed="s3://models/vae/7",
    )
    rows = dict(submit._decision_rows(dataclasses.replace(blessed, **changes)))
    assert {name: rows[name] for name in expected} == expected
