"""The arithmetic of the benchmarks, and their message about a process that fails."""

import shutil
import sys

import pytest

from tests.benchmarks import race, time_to_115
from tests.benchmarks.clock import Training


def test_ratios_are_medians_of_each_turns_own():
    """So a turn in which the machine was busy counts equally for all contenders."""
    speeds = [[100.0, 150.0], [10.0, 16.0], [120.0, 240.0]]
    first, second = race.table(["base", "ours"], ["float32", "bfloat16"], speeds)
    assert " ".join(first.split()) == "base 100 images/s 1.00 x base (float32)"
    assert " ".join(second.split()) == "ours 150 images/s 1.60 x base (bfloat16)"


def test_the_posts_recipe_has_tensorflows_defaults(monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    assert race.environment(ours=True)["TF_ENABLE_ONEDNN_OPTS"] == "1"
    assert "TF_ENABLE_ONEDNN_OPTS" not in race.environment(ours=False)


def test_a_contender_that_ends_is_named(monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(
        RuntimeError, match="'ours' ended with exit code 1 where it had"
    ):
        race.run([race.Contender("ours", model={})])


def result(reached, seconds, printed=None):
    of_epoch = {"epoch": 7, "seconds": seconds, "nats": 114.96, "printed": printed}
    return {"reached": reached, **of_epoch}


def test_times_are_compared_where_the_bound_was_reached():
    base, ours, never = time_to_115.table(
        115.0,
        [
            ("base", result(True, 1350.0, printed=126.8)),
            ("ours", result(True, 30.0)),
            ("never", result(False, 100.0)),
        ],
    )
    assert base.split()[:4] == ["base", "1,350", "s", "1.0"]
    assert "test -ELBO 115.0 nats, its printed loss 126.8" in base
    assert ours.split()[:5] == ["ours", "30", "s", "45.0", "x"]
    assert "did not reach 115 nats" in never


def test_nothing_is_compared_with_a_baseline_that_never_reached_it():
    results = [("base", result(False, 9.0)), ("ours", result(True, 30.0))]
    assert time_to_115.table(115.0, results)[1].split()[:3] == ["ours", "30", "s"]
    assert " x as fast" not in time_to_115.table(115.0, results)[1]


def test_a_training_that_fails_is_named(monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    training = Training("ours", folder="", bound=115.0, epochs=1, model={})
    with pytest.raises(RuntimeError, match="'ours' failed with exit code 1: see its"):
        time_to_115.train(training)
