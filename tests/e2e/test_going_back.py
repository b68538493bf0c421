"""Two runs, a rollback and a prune, and the decisions of the runs that follow.

The tests share one root and run in order, as a user would run the commands.
"""

import json
import pathlib

import pytest

from components.registry import listing, rolling_back
from pipeline.cli import main
from tests.support.bars import write_idx

pytestmark = pytest.mark.e2e

ONE, TWO = "train.seed=0", "train.seed=1"


class Place:
    """A root, its data, and the output of the last command."""

    def __init__(self, path, capfd):
        self.path, self.capfd = path, capfd
        self.root = ["--root", str(path / "runs")]
        self.destination = str(path / "runs" / "serving" / "vae")
        self.printed = ""

    def command(self, *arguments):
        code = main.main([*map(str, arguments), *self.root])
        self.printed = self.capfd.readouterr().out
        return code

    def data(self, *options):
        return self.command("data", *self._options("data.limit=null"), *options)

    def run(self, setting):
        return self.command(
            "run",
            *self._options(
                *("data.limit=null", "train.epochs=1", "gate.iwae_samples=1"),
                *("gate.elbo_floor=-1000", "gate.tolerance=500", setting),
            ),
        )

    def _options(self, *settings):
        return [
            *("--preset", "smoke", "--dataset", "bars"),
            *(part for each in settings for part in ("--set", each)),
            *("--data-dir", self.path / "data"),
        ]

    def numbers(self):
        found = (path.name for path in pathlib.Path(self.destination).iterdir())
        return sorted(int(name) for name in found if name.isdecimal())

    def folders(self, step):
        folders = (self.path / "runs" / "artifacts" / step).glob("[!.]*/*")
        return {folder.name for folder in folders}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("place")
    write_idx(path / "bars", labels=range(10))
    return path


@pytest.fixture
def place(path, capfd):
    return Place(path, capfd)


def test_two_models_and_a_rollback(place):
    assert place.data("--source", place.path / "bars") == 0, place.printed
    assert place.run(ONE) == 0, place.printed
    assert place.run(TWO) == 0, place.printed
    one, two = place.numbers()
    assert place.command("rollback", "--reason", "blurred") == 0
    three = place.numbers()[-1]
    assert f"version {three} is version {one} again, in place of {two}" in place.printed
    served = listing.find_served_version(place.destination)
    assert served.number == three
    assert served.manifest.content["config"]["train"]["seed"] == 0


def test_the_rejected_model_is_not_pushed_again(place):
    one, two, three = place.numbers()
    assert place.run(TWO) == 3
    [record] = rolling_back.read_rejected_models(place.destination)
    table = " ".join(place.printed.replace("│", " ").split())
    assert (
        "verdict REFUSED: this model must not be served again: version "
        f"{two} was rolled back from by {record.by} at {record.at} (blurred)"
    ) in table
    assert f"pushed nothing; version {three} is served from" in table
    assert f"(version {three}); difference" in table  # the baseline of the comparison
    assert place.numbers() == [one, two, three]


def test_the_restored_model_comes_from_the_cache(place):
    before = place.numbers()
    assert place.run(ONE) == 0
    assert "seconds per step │ every step came from the cache" in place.printed
    assert place.numbers() == before


def test_prune_leaves_what_the_last_run_used(place):
    *_, three = place.numbers()
    trainers, ingests = place.folders("Trainer"), place.folders("Ingest")
    assert len(trainers) == 2
    assert place.command("prune", "--keep", "1", "--dry-run") == 0
    assert place.folders("Trainer") == trainers
    assert len(place.numbers()) == 3
    assert place.command("prune", "--keep", "1") == 0
    assert place.numbers() == [three]
    assert f"versions that are kept: {three}" in place.printed
    assert " that no kept run uses" in place.printed
    assert place.folders("Trainer") == {min(trainers, key=int)}
    assert place.folders("Ingest") == ingests
    assert place.command("prune", "--keep", "1") == 0
    assert "nothing to remove\n" in place.printed


def test_later_runs_still_refuse_the_rejected_model(place):
    [three] = place.numbers()
    assert place.run(ONE) == 0
    assert "seconds per step │ every step came from the cache" in place.printed
    # The removed step outputs are made again; the model is still the one that was
    # rolled back.
    assert place.run(TWO) == 3, place.printed
    assert "\nTrainer    " in place.printed
    assert "Trainer          from the cache" not in place.printed
    assert "Ingest           from the cache" in place.printed
    assert "this model must not be served again" in place.printed
    assert place.numbers() == [three]


def test_a_damaged_version_is_named_and_does_not_stop_the_run(place):
    [three] = place.numbers()
    newer = three + 10
    folder = pathlib.Path(place.destination, str(newer))
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"half")
    assert place.run(ONE) == 0
    assert (
        f"version {newer} of {place.destination} is damaged: it has no MANIFEST.json "
        f"yet; the baseline is version {three}\n"
    ) in place.printed
    assert "seconds per step │ every step came from the cache" in place.printed
    assert place.command("versions", "--json") == 0
    listed = json.loads(place.printed)
    assert [(row["version"], row["state"]) for row in listed] == [
        (newer, "damaged"),
        (three, "served"),
    ]
