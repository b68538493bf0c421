"""The command `versions`: its output and its exit codes."""

import dataclasses
import datetime
import json
import pathlib
import subprocess
import sys

import pytest

from components.registry import rolling_back
from components.registry.manifest import Manifest
from tests.support import records
from tests.support.places import write_model
from tests.support.pushes import push_next
from tests.support.signing_keys import to_flags, write_pair
from tests.support.version_root import VersionRoot


@pytest.fixture
def root(tmp_path, capsys):
    return VersionRoot(tmp_path, capsys)


def test_versions_are_listed_newest_first(root):
    one, two = root.push("a", -91.672), root.push("b", -90.5)
    again = rolling_back.roll_back(root.destination, None, why="blurred")
    damaged = root.push("c", -89)
    pathlib.Path(damaged.path, "saved_model.pb").unlink()
    [record] = rolling_back.read_rejected_models(root.destination)
    assert root.command("versions") == 0
    rows = [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in root.out.splitlines()
        if line.startswith("│")
    ]
    at = datetime.datetime.fromtimestamp(damaged.number, datetime.timezone.utc)
    assert rows[0] == [
        *(str(damaged.number), f"{at:%Y-%m-%d %H:%M:%S}", "", "", "", "0.1"),
        "damaged: saved_model.pb is missing",
    ]
    firsts = [row for row in rows if row[0]]
    assert [int(row[0]) for row in firsts] == [
        version.number for version in (damaged, again, two, one)
    ]
    assert [row[2:6] for row in firsts[1:]] == [
        ["-91.67", "-206.12", "01234567", "0.1"],
        ["-90.50", "-206.12", "01234567", "0.1"],
        ["-91.67", "-206.12", "01234567", "0.1"],
    ]
    states = {}
    for row in rows:
        number = (
            int(row[0]) if row[0] else min(states)
        )  # an empty cell continues the row above
        states[number] = f"{states.get(number, '')} {row[6]}".strip()
    assert states[again.number] == (
        f"served; version {one.number} again, in place of {two.number}: by "
        f"{record.by} (blurred)"
    )
    assert states[two.number] == f"older; rolled back from by {record.by} (blurred)"
    assert states[one.number] == "older"
    assert (
        "ELBO: nats per image, higher is better; the evidence lower bound, 4 samples "
        "of z per image, fixed binarization, seed 0, 10,000 images of the test split\n"
        "indep. pixels: the log-likelihood of independent pixels, nats per image; a "
        "useful model's ELBO is above it\n"
    ) in root.out


def test_figures_that_were_estimated_differently_have_different_marks(root):
    root.push("a", -91), root.push("b", -90, samples=9)
    assert root.command("versions") == 0
    assert "-90.00 (1)" in root.out
    assert "-91.00 (2)" in root.out
    assert "ELBO (1): nats per image, higher is better; " in root.out
    assert "ELBO (2): nats per image, higher is better; " in root.out
    assert root.out.index("9 samples of z") < root.out.index("4 samples of z")


def test_json_is_for_machines(root):
    one, two = root.push("a", -91.672), root.push("b", -90.5)
    again = rolling_back.roll_back(root.destination, one.number, why="blurred")
    pathlib.Path(one.path, "saved_model.pb").unlink()
    assert root.command("versions", "--json") == 0
    newest, second, oldest = json.loads(root.out)
    [record] = rolling_back.read_rejected_models(root.destination)
    at = datetime.datetime.fromtimestamp(again.number, datetime.timezone.utc)
    files = pathlib.Path(again.path).rglob("*")
    assert newest == {
        "version": again.number,
        "path": again.path,
        "pushed_at": at.isoformat(),
        "state": "served",
        "damage": None,
        "retired": None,
        "spans": [],
        "run": None,
        "elbo": -91.672,
        "estimate": "the evidence lower bound, 4 samples of z per image, fixed "
        "binarization, seed 0, 10,000 images of the test split",
        "independent_pixels": -206.125,
        "data_fingerprint": "0123456789abcdef",
        "bytes": sum(path.stat().st_size for path in files if path.is_file()),
        "rejected": None,
        "rolled_back": again.manifest.content["rolled_back"],
    }
    assert (second["version"], second["state"]) == (two.number, "older")
    assert second["rejected"] == dataclasses.asdict(record)
    assert (oldest["state"], oldest["damage"]) == (
        "damaged",
        "saved_model.pb is missing",
    )


def test_a_folder_without_versions(root):
    assert root.command("versions") == 0
    assert root.out == f"nothing was pushed to {root.destination}\n"
    assert root.command("versions", "--json") == 0
    assert json.loads(root.out) == []
    assert not (root.path / "runs").exists()


def test_a_manifest_of_another_kind_is_listed_all_the_same(root):
    model = write_model(root.path / "model")
    version = push_next(
        model, destination=root.destination, manifest=Manifest.from_content({})
    )
    assert root.command("versions") == 0
    assert f"│ {version.number} │" in root.out
    assert "ELBO:" not in root.out


def test_versions_in_an_object_store_are_listed(root, s3):
    uri = f"s3://{s3.name}/serving/vae"
    one, two = (root.push(name, -90, uri) for name in "ab")
    there = ["--set", f"push.destination=s3://{s3.name}/serving"]
    assert root.command("versions", "--json", *there) == 0
    listed = json.loads(root.out)
    assert [row["version"] for row in listed] == [two.number, one.number]
    assert [row["state"] for row in listed] == ["served", "older"]


def test_a_store_that_does_not_answer(root, s3):
    there = ["--set", "push.destination=s3://no-such-bucket/serving"]
    assert root.command("versions", *there) == 1
    assert "vae-pipeline: can't use s3://no-such-bucket/serving/vae (" in root.err


def test_what_changes_versions_imports_neither_tensorflow_nor_tfx(root):
    root.push("a", -91), root.push("b", -90)
    code = (
        "import sys; from pipeline.cli import main\n"
        "root = sys.argv[1]\n"
        "assert main.main(['rollback', '--reason', 'worse', '--root', root]) == 0\n"
        "assert main.main(['versions', '--root', root]) == 0\n"
        "assert main.main(['prune', '--keep', '1', '--root', root]) == 0\n"
        "assert not {'tfx', 'tensorflow'} & set(sys.modules)\n"
    )
    command = [sys.executable, "-c", code, str(root.path / "runs")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def write_manifest(version, **facts):
    path = pathlib.Path(version.path, "MANIFEST.json")
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, **facts}), encoding="utf-8")


def test_the_versions_that_have_seen_a_span_with_their_runs(root):
    one, two, three = (root.push(name, -90) for name in "abc")
    for version, spans in ((one, [6, 7]), (two, [17]), (three, [7])):
        content = [{"span": span, "fingerprint": "x"} for span in spans]
        write_manifest(version, spans=content)
    records.keep_record(root.path / "runs", "run-1", 1, version=one.number)
    assert root.command("versions", "--span", 7, "--json") == 0
    rows = json.loads(root.out)
    assert [(row["version"], row["spans"], row["run"]) for row in rows] == [
        (three.number, [7], None),
        (one.number, [6, 7], "run-1"),
    ]
    assert root.command("versions", "--span", 7) == 0
    assert "run-1" in root.out
    assert str(two.number) not in root.out
    assert root.command("versions", "--span", 5) == 0
    assert root.out == f"no version at {root.destination} has seen span 5\n"


def test_a_version_is_retired(root):
    one, two = root.push("a", -91), root.push("b", -90)
    assert root.command("versions", "retire", one.number, "--why", " span 7 ") == 0
    assert root.out.splitlines() == [
        f"version {one.number} is retired: nothing serves it, measures against it or "
        "rolls back to it",
        f"to bring it back, remove .retired-{one.number}.json in {root.destination}",
    ]
    assert root.command("versions", "--json") == 0
    served, retired = json.loads(root.out)
    assert (served["version"], served["state"]) == (two.number, "served")
    assert (retired["state"], retired["damage"]) == ("retired", None)
    assert retired["retired"].endswith("(span 7)")
    assert root.command("versions") == 0
    assert "retired; version" in root.out
    assert root.command("rollback", "--reason", "x") == 2
    pathlib.Path(root.destination, f".retired-{one.number}.json").unlink()
    assert root.command("rollback", "--reason", "x") == 0


def test_retiring_the_served_version_is_refused(root):
    version = root.push("a", -91)
    assert root.command("versions", "retire", version.number, "--why", "x") == 2
    assert root.err == (
        f"vae-pipeline: version {version.number} is served: roll back first, by "
        "`vae-pipeline rollback --reason WHY`, then retire it\n"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["retire"], "VERSION must be given; see vae-pipeline versions retire --help"),
        (["retire", "x", "--why", "y"], "VERSION must be an integer, got 'x'"),
        (["retire", "7", "--why", " "], "--why must be a text, which the record"),
        (["retir", "7"], "unknown command retir: did you mean retire?"),
        (["--json", "retire", "7"], "--json must be after retire, got it before"),
        (["--span", "x"], "--span must be an integer, got 'x'"),
    ],
)
def test_a_mistake_in_the_arguments_is_named(root, words, message):
    assert root.command("versions", *words) == 2
    assert root.err.startswith(f"vae-pipeline: {message}")


def test_names_that_are_ignored_are_reported(root):
    root.push("a", -91)
    pathlib.Path(root.destination, "9223372036854775807").mkdir()
    assert root.command("versions", "--json") == 0
    assert [row["state"] for row in json.loads(root.out)] == ["served"]
    assert root.err.startswith("vae-pipeline: '9223372036854775807' in ")


def test_versions_without_a_valid_signature_are_damaged(root, tmp_path):
    pair = write_pair(tmp_path, "key")
    signed, unsigned = root.push("a", -91, signing=pair), root.push("b", -90)
    assert root.command("versions", "--json", *to_flags(pair, "verify")) == 0
    rows = {row["version"]: row for row in json.loads(root.out)}
    assert rows[signed.number]["state"] == "served"
    assert rows[unsigned.number]["state"] == "damaged"
    assert rows[unsigned.number]["damage"].startswith("it has no model.sig")
    assert root.command("versions", "--json") == 0
    assert json.loads(root.out)[0]["state"] == "served"
