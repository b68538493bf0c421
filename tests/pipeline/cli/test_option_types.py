"""The types of the options: the values that they return, and their messages."""

import click
import pytest

from pipeline.cli import main
from pipeline.cli.option_types import FILE, Choice, Number, Picture


def convert(kind, text):
    """Returns the value that a type makes of a text, or its error message."""
    try:
        return kind.convert(text, click.Option(["-o", "--option"]), None)
    except click.BadParameter as error:
        return error.message


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (Number(int), "-7", -7),
        (Number(int), "x", "must be an integer, got 'x'"),
        (Number(int), "1.5", "must be an integer, got '1.5'"),
        (Number(float), "1e3", 1000.0),
        (Number(float), "", "must be a number, got ''"),
        (Number(int, least=1), "1", 1),
        (Number(int, least=1), "0", "must be at least 1, got 0"),
        (Number(int, least=0, most=10), "10", 10),
        (Number(int, least=0, most=10), "11", "must be from 0 to 10, got 11"),
        (
            Number(int, most=2**40),
            str(2**40 + 1),
            "must be at most 1099511627776, got 1099511627777",
        ),
        (
            Number(float, least=0, most=9, unit=" ms"),
            "nan",
            "must be from 0 to 9 ms, got nan",
        ),
        (Number(float, is_positive=True), "0.5", 0.5),
        (Number(float, is_positive=True), "0", "must be a number above 0, got '0'"),
        (Number(float, is_positive=True), "inf", "must be a number above 0, got 'inf'"),
        (Choice(["smoke", "demo"]), "demo", "demo"),
        (
            Choice(["smoke", "demo"]),
            "smok",
            "must be one of smoke, demo, got 'smok': did you mean smoke?",
        ),
        (Choice(["smoke", "demo"]), "x", "must be one of smoke, demo, got 'x'"),
        (FILE, "~/a b", "/home/ada/a b"),
        (Picture(), "~/DIGITS.PNG", "/home/ada/DIGITS.PNG"),
        (Picture(), "digits.gif", "must be the name of a .png, got digits.gif"),
    ],
)
def test_a_value_is_converted_or_refused(kind, text, expected, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    assert convert(kind, text) == expected


def test_a_home_that_is_not_there_is_named_with_the_option():
    with pytest.raises(click.UsageError) as error:
        convert(FILE, "~nosuchuser/a")
    assert error.value.message.startswith(
        "--option: ~nosuchuser must be a home folder, got '~nosuchuser/a': "
    )


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("", "there is no path in it; a variable in it may be unset"),
        (" \t", "there is no path in it; a variable in it may be unset"),
        ("s3://", "it has no bucket; a variable"),
        ("s3://bucket/runs", "it can't be a URI"),
        ("file:///runs", "it can't be a URI"),
        ("gs:/runs", "a URI has the form s3://BUCKET/FOLDER; write ./gs:/runs for a "),
        ("C:\\runs", "write a path of this system, such as /mnt/c/models"),
    ],
)
@pytest.mark.parametrize(
    ("words", "option"),
    [
        *((name, "--root") for name in ("versions", "history", "report", "prune")),
        *((name, "--root") for name in ("rollback", "serve", "compile", "submit")),
        *((name, "--data-dir") for name in ("data", "run", "evaluate")),
        *((name, "--config") for name in ("run", "schedule")),
        ("compile", "--output"),
    ],
)
def test_every_option_for_a_path_refuses_an_invalid_one(
    tmp_path, monkeypatch, capsys, words, option, path, advice
):
    monkeypatch.chdir(tmp_path)
    assert main.main([words, option, path]) == 2
    message = f"{option} must be a path of this machine, got {path!r}: {advice}"
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_picture_and_an_image_have_a_path(capsys):
    for words in (["generate", "-o", ""], ["score", ""], ["reconstruct", "a", ""]):
        assert main.main(words) == 2
        assert "must be a path of this machine, got '': " in capsys.readouterr().err
