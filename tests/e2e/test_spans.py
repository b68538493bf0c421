"""Spans in the whole pipeline: the newest are used, and a bad one stops the run.

The tests share one root and run in order, as nightly runs do.
"""

import json
import pathlib

import pytest

from components.evaluation import drift
from components.registry import listing
from components.registry.manifest import MANIFEST
from pipeline.cli import main
from pipeline.local import up_to_date
from pipeline.runs import run_record
from tests.support.span_folders import bars, write_idx, write_records

pytestmark = pytest.mark.e2e


class Place:
    """A root, its spans, and the output of its last run."""

    def __init__(self, path, capfd):
        self.path, self.capfd = path, capfd
        self.spans = path / "src"

    def run(self):
        code = main.main(
            [
                *("run", "--preset", "smoke", "--dataset", "bars", "--if-changed"),
                *("--source", str(self.spans / "span-{SPAN}"), "--span-window", "2"),
                *("--set", "data.limit=null", "--set", "train.epochs=1"),
                *("--set", "gate.elbo_floor=-1000", "--set", "gate.tolerance=500"),
                *("--root", str(self.path / "runs")),
                *("--data-dir", str(self.path / "data")),
            ]
        )
        self.printed = self.capfd.readouterr().out
        return code

    def served(self):
        return listing.find_served_version(str(self.path / "runs" / "serving" / "vae"))

    def run_id(self):
        return up_to_date.find_last_decided(self.path / "runs").run_id


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("place")


@pytest.fixture
def place(path, capfd):
    return Place(path, capfd)


def test_the_newest_spans_are_trained_on_and_named(place):
    write_idx(place.spans / "span-2", bars(2, 10, 10))
    write_records(place.spans / "span-3", bars(3))
    write_idx(place.spans / "span-05", bars(5))
    assert place.run() == 0, place.printed
    assert "span 4 is missing: skipped" in place.printed
    assert "3,000 images of spans 3, 5 of bars at " in place.printed
    assert "1,800 train, 200 eval, 1,000 test images of spans 3, 5" in place.printed
    assert "no anomalies; no check of drift: nothing was served; skew of" in (
        place.printed
    )
    version = place.served()
    listing.verify_version(version)
    described = version.manifest.content["spans"]
    assert [span["span"] for span in described] == [3, 5]
    assert version.manifest.content["data_fingerprint"] == ",".join(
        f"{span['span']}:{span['fingerprint']}" for span in described
    )
    data = (place.path / "runs" / "serving" / "vae" / str(version.number)).joinpath(
        "assets.extra", "statistics.pb"
    )
    assert drift.count_images(drift.Statistics.FromString(data.read_bytes())) == 1800


def test_with_nothing_new_there_is_nothing_to_do(place):
    before = place.served()
    assert place.run() == 0
    assert place.printed.splitlines()[-1] == (
        "nothing to do: spans 3, 5 and the configuration are those of run "
        f"{place.run_id()}, which was pushed as version {before.number}"
    )
    assert "Ingest" not in place.printed
    assert place.served() == before


def test_a_fall_of_the_served_models_elbo_stops_the_run_before_the_training(place):
    """The fall comes from the manifest: after one epoch a model sees few changes."""
    before = place.served()
    manifest = pathlib.Path(before.path, MANIFEST)
    kept = manifest.read_text(encoding="utf-8")
    elbo = before.manifest.elbo + 100.0
    content = json.loads(kept)
    content["elbo"]["elbo"] = elbo
    manifest.write_text(json.dumps(content), encoding="utf-8")
    write_records(place.spans / "span-6", bars(6))
    assert place.run() == 1
    manifest.write_text(kept, encoding="utf-8")
    assert (
        f"ElboDrift failed: the served version {before.number} had ELBO {elbo:.2f} on "
        "its test split (1,000 images); on this run's test split it has -"
    ) in place.printed
    assert "above the threshold of 8; if that is wanted, accept it once with" in (
        place.printed
    )
    assert "Trainer" not in place.printed
    (last, *_), _ = run_record.read_all(place.path / "runs")
    assert (last.status, last.step) == ("bad_data", "ElboDrift")
    assert place.served() == before


def test_a_span_of_inverted_images_stops_the_run(place):
    before, arrays = place.served(), bars(7)
    for split in ("train", "test"):
        arrays[f"{split}_images"] = 255 - arrays[f"{split}_images"]
    write_records(place.spans / "span-7", arrays)
    assert place.run() == 1
    assert (
        "DataGate failed: the train split is not like what version "
        f"{before.number} was trained on: feature 'pixel' by 0."
    ) in place.printed
    assert "Transform" not in place.printed
    (last, *_), _ = run_record.read_all(place.path / "runs")
    assert (last.status, last.step) == ("bad_data", "DataGate")
    assert last.error in place.printed
    assert place.served() == before
