"""The program `.ci/plain_english.py`, which refuses words in comments and strings."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


def check(folder):
    command = [sys.executable, ROOT / ".ci" / "plain_english.py", folder]
    return subprocess.run(command, capture_output=True, text=True, check=False)


# The underscores keep `make lint` from refusing this module.
@pytest.mark.parametrize(
    ("source", "line", "word"),
    [
        ('"""A helper\nof_ ours."""\n', 2, "of_ ours"),
        ("x = 1\nif x:  # Wh_om it names\n    pass\n", 2, "Wh_om"),
        ('def f():\n    """Returns it.\n\n    Le_st it fails.\n    """\n', 4, "Le_st"),
        ('name = "x"\nprint(f"{name} is to_ld")\n', 2, "to_ld"),
    ],
)
def test_a_refused_word_is_named_with_its_line(source, line, word, tmp_path):
    (tmp_path / "module.py").write_text(source.replace("_", ""))
    checked = check(tmp_path)
    assert checked.returncode == 1
    assert checked.stdout.startswith(
        f"{tmp_path / 'module.py'}:{line}: '{word.replace('_', '')}': "
    )


def test_names_and_longer_words_are_left_alone(tmp_path):
    (tmp_path / "module.py").write_text('is_told = "unsealed, untold; a lesson"\n')
    checked = check(tmp_path)
    assert (checked.returncode, checked.stdout) == (0, "")
