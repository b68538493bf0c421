"""Many real runs, killed at random: `python -m tests.faults.soak --runs 200 --seed 0`.

A killed run is started again until it ends. The next run has another seed, so that it
has a model to push. Every few runs `prune` removes old versions and runs, and is
sometimes killed too. After each run the test checks that the versions are complete,
that the served version is still there, and that the metadata can be read.
"""

import argparse
import collections
import contextlib
import pathlib
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable

from components.registry import listing
from pipeline.local import metadata_database
from tests.support import runs

KEEP = 3  # number of versions and runs that `prune` keeps
_PRUNE_EVERY = 5  # number of runs
_DATA_EVERY = 10  # number of trainings that share their splits
_KILLED = 0.6  # fraction of the runs
_PRUNE_KILLED = 0.3
_MAX_DELAY = 2.0  # seconds after the start of a step
# maximum growth of the root after a prune, relative to the first prune of a full root
_GROWTH = 2.0

STEPS = (
    *("Data", "Ingest", "ServedModel", "StatisticsGen", "DataGate", "Transform"),
    *("BaselineScores", "ElboDrift", "Trainer", "Trainer", "Trainer"),
    *("CandidateScores", "Bounds", "Evaluator", "InfraCheck", "Pusher"),
)


class Soak:
    """Runs and prunes of one root, and the results so far."""

    def __init__(self, place: runs.Place, print_line: Callable[[str], None] = print):
        self.place, self._print_line = place, print_line
        # the seed of the current training: a prepared place has used 0 and 1
        self.training = 2
        self.ended = self.pushed = self.prunes = 0
        self.killed: collections.Counter[str] = collections.Counter()
        self.megabytes: list[float] = []  # size of the root after each completed prune
        self._served = 0

    def go(self, count: int, seed: int) -> None:
        """Does `count` runs.

        Raises:
          AssertionError: a run failed without a kill, or left something incomplete.
        """
        seeds = random.Random(seed)
        for number in range(1, count + 1):
            run_seed = seeds.randrange(2**32)
            started = time.monotonic()
            what = self._run(random.Random(run_seed))
            self._check()
            self._print_line(
                f"run {number}/{count}  seed {run_seed:10}  train.seed={self.training} "
                f" {what}  version {self._served}  {time.monotonic() - started:.0f} s"
            )
            if number % _PRUNE_EVERY == 0:
                self._prune(random.Random(run_seed + 1))
            if number % 10 == 0:
                self._print_line(f"after {number} runs: {self.sizes()}")

    def summary(self) -> str:
        """Returns a text with the results of all runs and prunes."""
        killed = ", ".join(f"{n} in {step}" for step, n in sorted(self.killed.items()))
        prunes = ", ".join(f"{size:.0f}" for size in self.megabytes)
        return (
            f"{self.ended} runs ended, {self.killed.total()} were killed ({killed}); "
            f"{self.pushed} versions were pushed, none was torn, none that was served "
            f"was lost; the metadata were whole after each run; {self.prunes} prunes; "
            f"MB after each that ended, less the metadata: {prunes or 'none'}; now "
            f"{self.sizes()}"
        )

    def sizes(self) -> str:
        """Returns a text with the sizes of the root and of its metadata."""
        metadata = self.place.root / "metadata.sqlite"
        return (
            f"{_megabytes(self.place.root):.0f} MB and {_megabytes(metadata):.1f} MB "
            "of metadata"
        )

    def _run(self, rng: random.Random) -> str:
        settings = (
            f"train.seed={self.training}",
            f"data.eval_images={200 + self.training // _DATA_EVERY}",
        )
        run = self.place.start(*settings)
        if rng.random() < _KILLED:
            step, delay = rng.choice(STEPS), rng.uniform(0, _MAX_DELAY)
            run.wait_for(rf"^{step} +\.\.\.$")
            run.process.join(delay)
            if run.kill() != 0:
                step = run.last_step()
                self.killed[step] += 1
                return f"SIGKILL in {step}"
        code = run.end()
        assert code == 0, f"exit code {code}:\n{run.printed}"
        self.ended += 1
        self.training += 1
        return "ended"

    def _check(self) -> None:
        """Raises AssertionError if the metadata or a version is damaged or lost."""
        _check_metadata(self.place.root / "metadata.sqlite")
        found = list(listing.list_versions(str(self.place.destination)))
        for version in found:
            assert isinstance(version, listing.Version), version
        newest = found[0].number if found else 0
        assert newest >= self._served, f"version {self._served} is lost: {found}"
        self.pushed += newest > self._served
        self._served = newest

    def _prune(self, rng: random.Random) -> None:
        self.prunes += 1
        run = self.place.start(command="prune", options=("--keep", str(KEEP)))
        if rng.random() < _PRUNE_KILLED:
            run.process.join(rng.uniform(0, 1))
        else:
            run.process.join()
        code = run.kill()
        self._check()
        if code == 0:
            self.megabytes.append(_megabytes(self.place.root))
        else:
            assert code < 0, f"exit code {code}:\n{run.printed}"
        full = self.megabytes[KEEP:]
        assert not full or full[-1] <= _GROWTH * full[0], self.megabytes


def _check_metadata(file: pathlib.Path) -> None:
    if not file.exists():
        return
    with contextlib.closing(sqlite3.connect(file)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    metadata_database.open_store(file).get_execution_types()


def _megabytes(path: pathlib.Path) -> float:
    """Returns the MB of a file, or of a folder without its metadata."""
    if path.is_file():
        return path.stat().st_size / 1e6
    files = (each for each in path.rglob("*") if each.is_file())
    return sum(f.stat().st_size for f in files if f.name != "metadata.sqlite") / 1e6


def main() -> None:
    """Does the runs that the command line requests, and prints the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of all that is random")
    parser.add_argument("--root", help="a folder for all of it (default: a new one)")
    args = parser.parse_args()

    def print_line(line):
        print(line, flush=True)

    with contextlib.ExitStack() as stack:
        folder = args.root or stack.enter_context(tempfile.TemporaryDirectory())
        place = runs.Place(pathlib.Path(folder).absolute())
        if not place.source.exists():
            place.write_source()
        print_line(f"soak: {args.runs} runs, seed {args.seed}, in {place.path}")
        place.run(command="data", options=("--source", str(place.source)))
        soak = Soak(place, print_line)
        soak.go(args.runs, args.seed)
        print_line(soak.summary())


if __name__ == "__main__":
    main()
