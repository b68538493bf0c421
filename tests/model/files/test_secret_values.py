"""Secrets that settings name; `tests/pipeline/runs/test_notify.py` has more."""

import pytest

from model.files import secret_values


def test_a_secret_is_the_text_without_space_at_its_ends(tmp_path, monkeypatch):
    path = tmp_path / "key"
    path.write_text("\n a b \n", encoding="utf-8")
    monkeypatch.setenv("A_SECRET", " x\ny ")
    assert secret_values.read_secret(f"file:{path}", setting="push.sign") == "a b"
    assert secret_values.read_secret("env:A_SECRET", setting="push.sign") == "x\ny"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "the file {}, which push.sign names, can't be read: No such file"),
        (b" \n", "the file {}, which push.sign names, must not be empty"),
        (b"a" * 10_001, "names, must have at most 10,000 characters, got more"),
        (b"\xff", "the file {}, which push.sign names, can't be read: not UTF-8"),
    ],
)
def test_a_file_that_is_no_secret_is_refused(tmp_path, content, message):
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(secret_values.SecretError) as error:
        secret_values.read_secret(f"file:{path}", setting="push.sign")
    assert message.format(path) in str(error.value)
    # A traceback in a log would show the bytes of a UnicodeDecodeError.
    context = error.value.__context__
    assert context is None or error.value.__suppress_context__


def test_a_folder_and_a_missing_variable_are_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("ABSENT", raising=False)
    with pytest.raises(secret_values.SecretError, match="must be a regular file"):
        secret_values.read_secret(f"file:{tmp_path}", setting="push.sign")
    with pytest.raises(
        secret_values.SecretError,
        match="the environment variable ABSENT, which push.sign names, must be set",
    ):
        secret_values.read_secret("env:ABSENT", setting="push.sign")
