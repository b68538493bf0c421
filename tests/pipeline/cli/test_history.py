"""The command `history`, with run records in every state."""

import json
import re
import subprocess
import sys

import pytest

from pipeline.cli import main
from tests.support.records import keep_record

ESTIMATE = "the evidence lower bound, 4 samples of z per image, 500 images"


@pytest.fixture
def root(tmp_path):
    first = {"elbo": -271.25, "estimate": ESTIMATE, "version": 1795457098}
    keep_record(tmp_path, "run-1", 1, status="pushed", **first)
    keep_record(
        tmp_path,
        "run-2",
        2,
        status="refused",
        elbo=-290.0,
        difference=-18.75,
        estimate=ESTIMATE,
        refusals=["ELBO -290.00 must be at least the floor, -100.00"],
    )
    keep_record(tmp_path, "run-3", 3, status="bad_data", error="no images")
    error = "DataGate failed: the data are not what they should be"
    keep_record(tmp_path, "run-4", 4, status="bad_data", step="DataGate", error=error)
    keep_record(
        tmp_path, "run-5", 5, status="interrupted", step="Trainer", error="SIGINT"
    )
    return tmp_path


def test_the_newest_is_first_with_its_numbers(root, capsys):
    assert main.main(["history", "--root", str(root)]) == 0
    out = capsys.readouterr().out
    cells = [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in out.splitlines()
        if "2026-" in line
    ]
    assert [row[0] for row in cells] == [
        f"2026-11-23 18:00:0{second}" for second in (5, 4, 3, 2, 1)
    ]
    assert cells[4] == [
        *("2026-11-23 18:00:01", "mnist", "-271.25", ""),
        *("pushed", "1795457098", "12.3 s"),
    ]
    assert cells[3][2:4] == ["-290.00", "-18.75"]
    assert cells[3][4].startswith("refused: ELBO -290.00 must be at")
    assert cells[2][4] == "bad data: no images"
    assert cells[1][4].startswith("bad data in DataGate: the data are")
    assert cells[0][4] == "interrupted in Trainer"
    assert f"ELBO: nats per image, higher is better; {ESTIMATE}\n" in out


def test_the_log_likelihood_of_independent_pixels_is_beside_the_elbo(root, capsys):
    elbo = {"elbo": -98.5, "independent_pixels": -206.126, "estimate": ESTIMATE}
    keep_record(root, "run-6", 6, status="unchanged", **elbo)
    assert main.main(["history", "--root", str(root)]) == 0
    out = capsys.readouterr().out
    header, *cells = [
        [cell.strip() for cell in re.split("[│┃]", line)[1:-1]]
        for line in out.splitlines()
        if "2026-" in line or "when" in line
    ]
    assert header[2:4] == ["ELBO", "indep. pixels"]
    assert cells[0][2:4] == ["-98.50", "-206.13"]
    assert cells[5][2:4] == ["-271.25", ""]  # an older release made this record
    assert "indep. pixels: the log-likelihood of independent pixels, nats per" in out


@pytest.mark.parametrize(
    ("fingerprint", "expected"),
    [
        (None, "mnist"),
        ("0a1b2c", "mnist"),
        ("7:0a1b2c", "mnist, span 7"),
        ("5:0a,7:1b", "mnist, spans 5, 7"),
    ],
)
def test_the_spans_are_named(tmp_path, capsys, fingerprint, expected):
    keep_record(tmp_path, "run-1", 1, status="unchanged", fingerprint=fingerprint)
    assert main.main(["history", "--root", str(tmp_path)]) == 0
    (line,) = (s for s in capsys.readouterr().out.splitlines() if "2026-" in s)
    assert line.split("│")[2].strip() == expected


def test_elbos_that_were_estimated_differently_have_different_marks(root, capsys):
    keep_record(root, "run-6", 6, status="unchanged", elbo=-93.0, estimate="another")
    main.main(["history", "--root", str(root)])
    out = capsys.readouterr().out
    assert "-93.00 (1)" in out
    assert "-271.25 (2)" in out
    assert "ELBO (1): nats per image, higher is better; another\n" in out
    assert f"ELBO (2): nats per image, higher is better; {ESTIMATE}\n" in out


@pytest.mark.parametrize(("n", "expected"), [("2", 2), ("0", 5), ("9", 5)])
def test_the_newest_n(root, capsys, n, expected):
    assert main.main(["history", "--root", str(root), "-n", n]) == 0
    out = capsys.readouterr().out
    assert out.count("2026-") == expected
    assert ("3 older: -n 0 lists all\n" in out) == (n == "2")


def test_json_has_the_records_keys(root, capsys):
    assert main.main(["history", "--root", str(root), "--json", "-n", "4"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["run_id"] for each in found] == ["run-5", "run-4", "run-3", "run-2"]
    # Other programs read these names, so none may change or disappear.
    assert set(found[3]) >= {
        *("run_id", "started", "ended", "seconds", "verdict", "step", "error"),
        *("dataset", "fingerprint", "model", "config_digest", "run_key", "process"),
        *("elbo", "reconstruction", "kl", "estimate", "difference", "refusals"),
        "independent_pixels",
        *("baseline_elbo", "baseline_version", "version", "served_version"),
        *("versions", "steps", "elbo_fall", "elbo_fall_standard_errors"),
    }
    assert found[3]["refusals"] == ["ELBO -290.00 must be at least the floor, -100.00"]
    assert found[3]["difference"] == -18.75
    assert found[3]["version"] is None


def test_a_file_that_is_not_a_record_is_named_on_stderr(root, capsys):
    (root / "history" / "notes.txt").write_text("of mine")
    assert main.main(["history", "--root", str(root), "--json"]) == 0
    out, err = capsys.readouterr()
    assert len(json.loads(out)) == 5
    assert err.startswith(f"vae-pipeline: {root}/history/notes.txt is not a run record")


def test_no_run_yet(tmp_path, capsys):
    assert main.main(["history", "--root", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"no run yet below {tmp_path}\n"


def test_a_root_that_is_not_there_is_named(tmp_path, capsys):
    assert main.main(["history", "--root", str(tmp_path / "absent")]) == 2
    assert capsys.readouterr().err == (
        "vae-pipeline: --root must be the folder of earlier runs, got "
        f"{tmp_path / 'absent'}\n"
    )


@pytest.mark.parametrize(
    ("n", "message"),
    [("-1", "must be at least 0, got -1"), ("x", "must be an integer, got 'x'")],
)
def test_n_must_be_a_number(capsys, n, message):
    assert main.main(["history", "-n", n]) == 2
    assert capsys.readouterr().err == f"vae-pipeline: -n {message}\n"


def test_it_imports_nothing_that_is_slow(root):
    check = (
        "import sys; from pipeline.cli import main\n"
        "assert main.main(['history', '--root', sys.argv[1]]) == 0\n"
        "assert not {'tensorflow', 'tfx', 'kfp', 'requests'} & set(sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", check, str(root)], check=True, capture_output=True
    )
