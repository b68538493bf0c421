"""The program `.ci/plain_english.py`, which refuses words in texts and names."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


def check(folder):
    command = [sys.executable, ROOT / ".ci" / "plain_english.py", folder]
    return subprocess.run(command, capture_output=True, text=True, check=False)


# The underscores keep `make lint` from refusing this module; `-` becomes `_`.
@pytest.mark.parametrize(
    ("source", "line", "word"),
    [
        ('"""A helper\nof_ ours."""\n', 2, "of_ ours"),
        ("x = 1\nif x:  # Wh_om it names\n    pass\n", 2, "Wh_om"),
        ('def f():\n    """Returns it.\n\n    Le_st it fails.\n    """\n', 4, "Le_st"),
        ('name = "x"\nprint(f"{name} is to_ld")\n', 2, "to_ld"),
        ("def is-to_ld():\n    return 1\n", 1, "to_ld"),
        ("x = 1\nsa_id-now = x\n", 2, "sa_id"),
        ("SA_ID = 1\n", 1, "SA_ID"),
    ],
)
def test_a_refused_word_is_named_with_its_line(source, line, word, tmp_path):
    (tmp_path / "module.py").write_text(source.replace("_", "").replace("-", "_"))
    checked = check(tmp_path)
    assert checked.returncode == 1
    assert checked.stdout.startswith(
        f"{tmp_path / 'module.py'}:{line}: '{word.replace('_', '')}': "
    )


def test_longer_words_are_not_refused(tmp_path):
    source = 'untold, lesson_1 = "unsealed, untold; a lesson", 2\n'
    (tmp_path / "module.py").write_text(source)
    checked = check(tmp_path)
    assert (checked.returncode, checked.stdout) == (0, "")
