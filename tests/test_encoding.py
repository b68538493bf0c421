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


def test_a_root_that_the_locale_cannot_encode_is_printed_escaped(tmp_path):
    root = tmp_path / "läufe"
    root.mkdir()
    result = run("history", "--root", root, LC_ALL="C", PYTHONUTF8="0")
    assert result.returncode == 0, result.stderr.decode()
    assert result.stdout.startswith(b"no run yet below ")
    assert b"\\udcc3\\udca4ufe" in result.stdout
