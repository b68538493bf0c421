"""The encoding of files: UTF-8, in every locale of the reading or writing process."""

import os
import subprocess
import sys

import pytest
import yaml

LOCALES = [
    {"LC_ALL": "C", "PYTHONUTF8": "0"},  # otherwise Python would choose UTF-8 itself
    {"LC_ALL": "C"},
    {"LC_ALL": "C.UTF-8"},
]


def run(*arguments, **locale):
    environment = {**os.environ, **locale}
    environment.pop("PYTHONIOENCODING", None)
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *map(str, arguments)],
        capture_output=True,
        env=environment,
        check=False,
    )


@pytest.mark.parametrize("locale", LOCALES, ids=str)
def test_a_config_file_is_read_as_utf_8(tmp_path, locale):
    file = tmp_path / "config.yaml"
    file.write_text("# café, 数\ntrain: {epochs: 3}", encoding="utf-8")
    result = run("run", "--config", file, "--print-config", **locale)
    assert result.returncode == 0, result.stderr.decode()
    assert yaml.safe_load(result.stdout.decode())["train"]["epochs"] == 3


@pytest.mark.parametrize("locale", LOCALES, ids=str)
def test_a_config_file_in_another_encoding_is_named(tmp_path, locale):
    file = tmp_path / "config.yaml"
    file.write_text("# café\n", encoding="latin-1")
    result = run("run", "--config", file, "--print-config", **locale)
    assert result.returncode == 2
    message = f"vae-pipeline: can't read the config file {file}: 'utf-8' codec can't"
    assert result.stderr.decode().startswith(message)


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ("push: {destination: modèles}", "push.destination"),
        ("data: {source: данные}", "data.source"),
        ("notify: {command: [echo, 数]}", "notify.command"),
    ],
)
def test_a_setting_that_the_locale_cannot_encode_is_named(tmp_path, setting, name):
    file = tmp_path / "config.yaml"
    file.write_text(setting, encoding="utf-8")
    arguments = ("run", "--config", file, "--print-config")
    result = run(*arguments, LC_ALL="C", PYTHONUTF8="0")
    assert result.returncode == 2
    start = f"vae-pipeline: {name} must have only letters of this locale's encoding, "
    assert result.stderr.decode().startswith(start)
    assert result.stderr.endswith(b": set LC_ALL=C.UTF-8 or PYTHONUTF8=1\n")
    section, field = name.split(".")
    result = run(*arguments, LC_ALL="C.UTF-8")
    assert result.returncode == 0, result.stderr.decode()
    printed, given = yaml.safe_load(result.stdout.decode()), yaml.safe_load(setting)
    assert printed[section][field] == given[section][field]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("--source", "données"), "data.source"),
        (("--dataset", "数"), "data.dataset"),
        (("--set", "push.destination=modèles"), "push.destination"),
    ],
)
def test_a_word_that_the_locale_cannot_decode_is_named(arguments, name):
    command = ("run", "--preset", "smoke", "--print-config", *arguments)
    result = run(*command, LC_ALL="C", PYTHONUTF8="0")
    assert result.returncode == 2
    assert result.stderr.decode() == (
        f"vae-pipeline: {name} must have only letters of this locale's encoding, "
        "ascii: set LC_ALL=C.UTF-8 or PYTHONUTF8=1, and write it in UTF-8\n"
    )
    result = run(*command, LC_ALL="C.UTF-8")
    assert result.returncode == 0, result.stderr.decode()


@pytest.mark.parametrize(
    ("command", "folder"),
    [
        *((command, "--root") for command in ("run", "evaluate", "schedule")),
        *((command, "--data-dir") for command in ("run", "evaluate", "schedule")),
        *((command, "--root") for command in ("report", "prune")),
    ],
)
def test_a_path_that_libraries_would_take_for_another_is_named(
    tmp_path, command, folder
):
    path = tmp_path / "läufe"
    path.mkdir()
    options = {
        "prune": ["--keep", 1],
        "schedule": ["--print", "crontab", "--cron", "0 3 * * *"],
    }
    arguments = [command, folder, path, *options.get(command, [])]
    if folder != "--root":
        arguments += ["--root", tmp_path / "runs"]
    result = run(*arguments, LC_ALL="C", PYTHONUTF8="0")
    assert result.returncode == 2, result.stderr.decode()
    shown = repr(str(tmp_path / "l\udcc3\udca4ufe"))
    assert result.stderr.decode() == (
        f"vae-pipeline: {folder} must be a path that is the same in UTF-8 and in this "
        f"locale's encoding, ascii, got {shown}: set LC_ALL=C.UTF-8 or PYTHONUTF8=1, "
        "or choose another folder\n"
    )
    assert list(tmp_path.iterdir()) == [path]
    assert list(path.iterdir()) == []


def test_a_tmpdir_that_libraries_would_take_for_another_is_named(tmp_path):
    path = tmp_path / "zwölf"
    path.mkdir()
    result = run("--version", LC_ALL="C", PYTHONUTF8="0", TMPDIR=str(path))
    assert result.returncode == 2
    assert result.stderr.startswith(b"vae-pipeline: TMPDIR must be a path that is the ")
    assert run("--version", LC_ALL="C.UTF-8", TMPDIR=str(path)).returncode == 0


def test_a_root_that_the_locale_cannot_encode_is_printed_escaped(tmp_path):
    root = tmp_path / "läufe"
    root.mkdir()
    result = run("history", "--root", root, LC_ALL="C", PYTHONUTF8="0")
    assert result.returncode == 0, result.stderr.decode()
    assert result.stdout.startswith(b"no run yet below ")
    assert b"\\udcc3\\udca4ufe" in result.stdout
