"""Roots of an earlier version: this version opens them, and the next run continues.

tests/support/old_roots/README.md describes how the archives were made.
"""

import json
import pathlib
import re
import sqlite3
import sys
import tarfile

import pytest

from components.registry import listing
from pipeline.cli import main
from tests.support.bars import write_idx

pytestmark = pytest.mark.e2e

STACK = "compatible" if sys.version_info < (3, 11) else "current"
ARCHIVES = pathlib.Path(__file__).parents[1] / "support" / "old_roots"
MADE_IN = "/tmp/vae-old"  # noqa: S108, folder of the archived runs


@pytest.fixture
def old(tmp_path):
    """Returns the folder of an old root; its paths are changed to this folder."""
    (archive,) = ARCHIVES.glob(f"{STACK}-*.tar.xz")
    with tarfile.open(archive) as file:
        file.extractall(tmp_path, filter="data")
    database = sqlite3.connect(tmp_path / "runs" / "metadata.sqlite")
    with database:
        for table, column in (
            ("Artifact", "uri"),
            ("ArtifactProperty", "string_value"),
            ("ExecutionProperty", "string_value"),
        ):
            database.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)",  # noqa: S608
                (MADE_IN, str(tmp_path)),
            )
    database.close()
    write_idx(tmp_path / "bars", labels=range(10))
    return tmp_path


def test_the_next_run_measures_what_the_old_version_served_and_pushes(old, capfd):
    root = ["--root", str(old / "runs")]
    destination = str(old / "runs" / "serving" / "vae")
    before = listing.find_served_version(destination)
    listing.verify_version(before)

    assert main.main(["history", "--json", *root]) == 0
    (run,) = json.loads(capfd.readouterr().out)
    assert (run["verdict"], run["version"]) == ("pushed", before.number)

    assert main.main(["versions", "--json", *root]) == 0
    (version,) = json.loads(capfd.readouterr().out)
    assert (version["version"], version["state"]) == (before.number, "served")

    settings = (
        *("data.limit=null", "train.epochs=1", "train.seed=1"),
        *("model.hidden_units=8", "model.latent_size=2"),
        *("gate.elbo_floor=-100000", "gate.tolerance=100000"),
    )
    code = main.main(
        [
            *("run", "--preset", "smoke", "--dataset", "bars", *root),
            *("--source", str(old / "bars"), "--data-dir", str(old / "data")),
            *(part for setting in settings for part in ("--set", setting)),
        ]
    )
    printed = capfd.readouterr().out
    assert code == 0, printed

    after = listing.find_served_version(destination)
    assert after.number > before.number
    assert after.manifest.baseline.version == before.number
    # The gate measures the old model again, on the same images with the same noise, by
    # the model's own signatures.
    words = " ".join(printed.replace("│", " ").split())
    found = re.search(r"baseline's ELBO (-[\d.]+) \(version (\d+)\)", words)
    assert found, printed
    assert int(found[2]) == before.number
    assert float(found[1]) == pytest.approx(before.manifest.elbo, abs=0.01)
