"""A short soak test: a few runs that are killed at random."""

import pytest

from tests.faults import soak

pytestmark = pytest.mark.nightly

RUNS = 5  # `make soak` does 200 runs


def test_runs_that_are_killed_at_random(place):
    lines = []
    tried = soak.Soak(place, lines.append)
    tried.go(RUNS, seed=0)
    print("\n".join([*lines, tried.summary()]))
    assert len(lines) == RUNS
    assert tried.ended + tried.killed.total() == RUNS
    assert tried.killed.total() > 0
    assert tried.prunes == 1
    place.run("train.seed=100")
    place.served()
