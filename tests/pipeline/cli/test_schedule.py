"""The command `schedule`: its errors, and how its runs find their root.

tests/pipeline/kubeflow has its tests with an API server. tests/pipeline/scheduling has
the tests of the scheduler on this machine.
"""

import pytest

from pipeline.cli import main

NIGHTLY = ("--cron", "0 3 * * *")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--print", "crontab"],
            "--cron must be given, such as --cron '0 3 * * *' for three o'clock every "
            "night, got nothing",
        ),
        (
            ["--print", "crontab", *NIGHTLY, "--metrics-port", "9000"],
            "--metrics-port must come with --local, got 9000 without: nothing else "
            "stays to serve them; see metrics.textfile",
        ),
        (
            ["--print", "systemd", *NIGHTLY, "--root", "runs[1]"],
            "--root must ",
        ),
        (
            ["--print", "crontab", "--cron", "0 3"],
            "the cron expression must be five fields",
        ),
    ],
)
def test_an_unusable_schedule_is_refused_at_once(
    arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main.main(["schedule", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"vae-pipeline: {message}")


def test_the_printed_line_writes_its_log_below_the_root(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["schedule", "--print", "crontab", *NIGHTLY, "--root", "here"]
    assert main.main(arguments) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("0 3 * * * cd ")
    assert f">>{tmp_path}/here/logs/cron.log 2>&1" in printed
    assert " run --if-changed --root here " in printed
