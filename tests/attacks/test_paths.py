"""Attacks with paths and URIs: of settings, of options, of run ids."""

import json
import os
import pathlib

import pytest

from tests.support import attacked, records

pytestmark = pytest.mark.attacks

IMAGE = "registry.example/vae@sha256:0123"

# Each command that reads push.destination, with its other arguments.
COMMANDS = {
    "run": (),
    "versions": (),
    "serve": ("--port", "0"),
    "compile": ("--image", IMAGE),
    "rollback": ("1", "--reason", "x"),
    "prune": ("--keep", "1"),
    "evaluate": (),
    "generate": (),
}
# A variable that is not set leaves `s3://` of `s3://$BUCKET`.
INSTANCES = ["s3://", "s3:/models", "gs://", "s3:///x"]
URIS = {
    "minio://": "it has no bucket",
    "gs:/models": "s3://BUCKET/FOLDER",
    "s3:models": "s3://BUCKET/FOLDER",
    "s3//models": "s3://BUCKET/FOLDER",
    "S3://models": "in small letters",
    "s3a://models/x": "no scheme",
    "http://127.0.0.1/x": "no scheme",
    "memory://x": "no scheme",
    "simplecache::s3://models/x": "no scheme",
    "filecache::file:///etc": "no scheme",
    "s3://models//x": "empty",
    "s3://models/../x": "no . or ..",
    "s3://../x": "no . or ..",
    "s3://./x": "no . or ..",
    "s3://$BUCKET/x": "expand no variables",
    "s3://${BUCKET}/x": "expand no variables",
    "/data/$MODELS": "expand no variables",
    "s3://key:canary-4711@models/x": "no credentials",
    "s3://mo dels/x": "no name of a bucket",
    "s3://mödels/x": "no name of a bucket",
    "s3://models\x1b[2J/x": "no name of a bucket",
    "s3://models/x\ny": "control characters",
    "s3://models/x\u200b": "control characters",
    "s3://models/x\x7f": "control characters",
    "s3://models/x\x9b2J": "control characters",
    " s3://models": "spaces",
    "s3\uff1a//models": "in ASCII",  # a full-width colon
    "s3:\u200b//models": "s3://BUCKET/FOLDER",  # a space of no width
    "\u202es3://models": "no scheme",  # text from right to left
    "s3\u2236//models": "in ASCII",  # the sign of a ratio
    "file://etc": "a path from /",
    "file:/etc": "s3://BUCKET/FOLDER",
    "FILE:///etc": "in small letters",
    "  ": "no path in it",
    "C:\\models": "a path of this system",
    "models/*": "patterns",
    "~nobody-4711/x": "no such user",
    "s3://" + "a" * 5_000: "characters",
    "s3://models/" + "a" * 5_000: "characters",
    "/" + "a/" * 5_000: "bytes",
    "é" * 200: "bytes",
}


@pytest.mark.line("URI without a bucket")
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("uri", INSTANCES)
def test_a_destination_without_a_bucket(refuse, command, uri):
    words = [command, *COMMANDS[command], "--set", f"push.destination={uri}"]
    refuse(words, "push.destination", repr(uri), "s3://BUCKET/FOLDER")


@pytest.mark.line("URI without a bucket")
@pytest.mark.parametrize("uri", URIS)
def test_a_destination_that_is_almost_a_uri(refuse, uri):
    outcome = refuse(["versions", f"--set=push.destination={uri}"], URIS[uri])
    assert "canary" not in outcome.printed


@pytest.mark.line("URI without a bucket")
@pytest.mark.parametrize("setting", ["data.source", "kubeflow.pipeline_root"])
@pytest.mark.parametrize("uri", [*INSTANCES, "s3://b/../span-{SPAN}", "hdfs://b/x"])
def test_the_uri_of_another_setting(refuse, setting, uri):
    refuse(["run", "--set", f"{setting}={uri}"], setting)


@pytest.mark.line("URI without a bucket")
@pytest.mark.parametrize("setting", ["kubeflow.checkpoints", "metrics.textfile"])
@pytest.mark.parametrize(
    "uri", ["s3:/a.prom", "s3:///a.prom", "gs://", "hdfs://b/a.prom"]
)
def test_the_uri_of_a_folder_or_a_file(refuse, setting, uri):
    refuse(["run", "--set", f"{setting}={uri}"], setting)


@pytest.mark.line("empty path")
@pytest.mark.parametrize(
    "words",
    [
        ("versions", "--root", ""),
        ("versions", "--root", " "),
        ("run", "--root", ""),
        ("history", "--root", ""),
        ("report", "--root", ""),
        ("prune", "--root", ""),
        ("serve", "--root", ""),
        ("data", "--data-dir", ""),
        ("run", "--config", ""),
        ("compile", "--image", IMAGE, "--output", ""),
        ("score", ""),
        ("generate", "--output", ""),
        ("versions", "--root", "s3://models/runs"),
        ("versions", "--root", "file:///tmp/runs"),
        ("data", "--data-dir", "gs://models/data"),
        ("versions", "--root", "~nobody-4711"),
        ("run", "--set", "data.source="),
        ("data", "--source", ""),
        ("data", "--source", "~nobody-4711/x"),
        ("run", "--set", "push.model_name="),
    ],
    ids=" ".join,
)
def test_an_empty_path_or_a_uri_where_a_path_must_be(refuse, words):
    refuse(words, "must")


@pytest.mark.line("empty path")
@pytest.mark.parametrize("name", ["..", ".", "../x", "a/b", ".x", "a\\b", "a\tb", "a "])
def test_a_model_name_that_is_no_folders_name(refuse, name):
    refuse(["versions", f"--set=push.model_name={name}"], "model_name")


@pytest.mark.line("path that no file can have")
@pytest.mark.parametrize(
    "words",
    [
        ("versions", "--root", "LONG"),
        ("run", "--root", "LONG"),
        ("history", "--root", "LONG"),
        ("report", "--root", "LONG"),
        ("prune", "--root", "LONG"),
        ("data", "--data-dir", "LONG"),
        ("data", "--source", "LONG"),
        ("data", "--source", "LONG/span-{SPAN}"),
        ("run", "--config", "LONG"),
        ("versions", "--set", "push.model_name=LONG"),
        ("versions", "--set", "push.destination=LONG"),
        ("score", "LONG.png"),
        ("score", "LONG.npy"),
    ],
    ids=" ".join,
)
def test_a_name_that_is_too_long(attack, words):
    long = "a" * 300
    outcome = attack(*(word.replace("LONG", long) for word in words))
    assert outcome.code in (1, 2), outcome.printed
    assert "Traceback" not in outcome.printed
    assert len(outcome.printed) < attacked.PRINTED


@pytest.mark.line("path that no file can have")
@pytest.mark.parametrize("command", ["versions", "run", "history", "report", "prune"])
@pytest.mark.parametrize("kind", ["file", "loop", "broken", "below a file"])
def test_a_root_that_is_no_folder(attack, tmp_path, command, kind):
    root = tmp_path / "root"
    if kind == "loop":
        root.symlink_to(root)
    elif kind == "broken":
        root.symlink_to(tmp_path / "nothing")
    else:
        root.write_bytes(b"")
        root = root / "x" if kind == "below a file" else root
    outcome = attack(command, "--root", root)
    # Nothing was pushed there: for `versions` that is no error.
    assert outcome.code == 2 or (command, outcome.code) == ("versions", 0), outcome
    assert "Traceback" not in outcome.printed


@pytest.mark.line("path that no file can have")
@pytest.mark.parametrize("option", ["--data-dir", "--source"])
@pytest.mark.parametrize("kind", ["file", "loop", "broken"])
def test_a_data_folder_that_is_no_folder(attack, tmp_path, option, kind):
    path = tmp_path / "data"
    if kind == "file":
        path.write_bytes(b"")
    else:
        path.symlink_to(path if kind == "loop" else tmp_path / "nothing")
    outcome = attack("data", "--dataset", "bars", option, path)
    attacked.check_refused(outcome, str(path))


LOST = "none of kubeflow.volumes"


@pytest.mark.line("folder that dies with the pod")
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["push.destination=/models"], ["push.destination", "kubeflow.volumes"]),
        (["push.destination=models"], ["push.destination"]),
        (["push.destination=~/models"], ["push.destination"]),
        (["push.destination=file:///models"], ["push.destination"]),
        (["push.destination="], ["push.destination"]),
        (
            ["push.destination=/models-2", "kubeflow.volumes={/models: claim}"],
            ["push.destination"],
        ),
        (
            ["push.destination=/models/../x", "kubeflow.volumes={/models: claim}"],
            ["push.destination"],
        ),
        (
            ["push.destination=/models", "kubeflow.volumes={/models/x: claim}"],
            ["push.destination"],
        ),
        (["data.source=/digits/span-{SPAN}"], ["data.source"]),
        (["data.source=digits/span-{SPAN}"], ["data.source"]),
        (["data.source=file:///digits/span-{SPAN}"], ["data.source"]),
        (["data.source=/digits"], ["data.source"]),
        (["kubeflow.checkpoints=/checkpoints"], ["kubeflow.checkpoints"]),
        (["kubeflow.volumes={models: claim}"], ["volumes"]),
        (["kubeflow.volumes={/../models: claim}"], ["volumes"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_compile_with_a_local_folder(attack, settings, words):
    if not settings[0].startswith("push."):
        settings = ["push.destination=s3://models/x", *settings]
    flags = [part for each in settings for part in ("--set", each)]
    outcome = attack("compile", "--image", IMAGE, *flags)
    attacked.check_refused(outcome, *words)
    assert not (attack.folder / "pipeline.yaml").exists()


RUN_IDS = [
    "../../../escaped",
    "..",
    ".",
    "/etc/passwd",
    "a/b",
    "",
    " ",
    "-x",
    "a\nb",
    "a\x1b[2J",
    "a" * 5_000,
    "%2e%2e%2fescaped",
    "run*",
    "run-1 ",
    "rün",
]


@pytest.mark.line("run id that leads out of the root")
@pytest.mark.parametrize("run_id", RUN_IDS, ids=ascii)
def test_the_id_of_a_report(attack, run_id):
    outcome = attack("report", f"--run={run_id}")
    attacked.check_refused(outcome)
    assert sorted(attack.folder.iterdir()) == []


@pytest.mark.line("run id that leads out of the root")
@pytest.mark.parametrize("run_id", RUN_IDS, ids=ascii)
def test_the_id_of_a_record_of_a_run_that_died(attack, tmp_path, run_id):
    root = tmp_path / "a" / "b" / "runs"
    _write_record(root, "run-1", run_id=run_id)
    outcome = attack("history", "--root", root)
    assert outcome.code == 0
    assert "run_id must be 'run-1', as the file's name" in outcome.printed
    assert "no run yet" in outcome.printed
    assert len(outcome.printed) < attacked.PRINTED
    # The next run marks those that died.
    empty = tmp_path / "empty"
    empty.mkdir()
    words = ("run", "--root", root, "--data-dir", tmp_path / "d", "--source", empty)
    attacked.check_refused(attack(*words), "lacks train-images-idx3-ubyte")
    assert sorted(path.name for path in tmp_path.rglob("*escaped*")) == []
    assert sorted(attack.folder.iterdir()) == []


FACTS = {
    "a terminal's escape": {"error": "\x1b]0;title\x07\x1b[2J", "status": "failed"},
    "a number without an end": {"elbo": 1e999, "seconds": float("nan")},
    "a step's infinite time": {
        "steps": [{"name": "Ingest", "seconds": float("inf"), "cached": False}]
    },
    "a year that no zone has": {"started": "9999-12-31T23:59:59.999-23:59"},
    "the first year": {"started": "0001-01-01T00:00:00.000+23:59"},
    "a time that is no time": {"ended": "yesterday", "status": "failed"},
    "a time without a zone": {"ended": "2026-01-01T00:00:00", "status": "failed"},
    "a large process id": {"process": {"pid": 10**30, "host": "", "born": ""}},
    "a list in place of a text": {"error": ["x"]},
    "half a character": {"error": "\ud800", "status": "failed"},
    "a null character": {"model": "a\0b", "error": "a\0b", "status": "failed"},
    "a long text": {"error": "x" * 2_000_000, "status": "failed"},
    "an unknown verdict": {"status": "fine"},
    "an unknown field": {"more": 1},
}


@pytest.mark.line("run record that is wrong")
@pytest.mark.parametrize("facts", FACTS)
def test_the_facts_of_a_record(attack, tmp_path, facts):
    root = tmp_path / "runs"
    _write_record(root, "run-1", **FACTS[facts])
    for words in (("history",), ("history", "--json")):
        outcome = attack(*words, "--root", root)
        _check_listed(outcome)
        if "--json" in words:
            assert isinstance(json.loads(outcome.out), list)


FILES = {
    "an empty file": lambda path: path.write_bytes(b""),
    "a folder": lambda path: path.mkdir(),
    "a link to a file": lambda path: path.symlink_to("/etc/passwd"),
    "a link to itself": lambda path: path.symlink_to(path),
    "a named pipe": os.mkfifo,
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "deep lists": lambda path: path.write_bytes(b"[" * 100_000),
    "deep objects": lambda path: path.write_bytes(b'{"a":' * 100_000),
    "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe"),
    "many digits": lambda path: path.write_bytes(
        b'{"versions": ' + b"9" * 5_000 + b"}"
    ),
    "a file of 1 TB": lambda path: _make_sparse(path, 2**40),
}


@pytest.mark.line("run record that is wrong")
@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_no_record(attack, tmp_path, kind):
    root = tmp_path / "runs"
    (root / "history").mkdir(parents=True)
    FILES[kind](root / "history" / "run-1.json")
    outcome = attack("history", "--root", root)
    _check_listed(outcome)
    assert "is not a run record and was skipped" in outcome.printed


def _check_listed(outcome):
    assert outcome.code == 0, outcome.printed[-3000:]
    assert "Traceback" not in outcome.printed
    assert "\x1b" not in outcome.out + outcome.err
    assert outcome.megabytes < 200


def _make_sparse(path: pathlib.Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


def _write_record(root: pathlib.Path, name: str, **facts) -> None:
    """Writes the record of a run that died, with wrong facts."""
    path = root / "history" / f"{name}.json"
    records.keep_record(root, name, 1, status="running", ended=None)
    fields = json.loads(path.read_text(encoding="utf-8"))
    fields["process"]["born"] = "before"  # so the process has ended
    fields["verdict"] = facts.pop("status", "running")
    path.write_text(json.dumps({**fields, **facts}), encoding="utf-8")
