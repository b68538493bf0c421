"""The option `--version`: in a checkout, in a build with a record, and in neither."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from pipeline import version

ROOT = pathlib.Path(__file__).parents[2]
PACKAGES = ("pipeline", "components", "model")

SHOW = "from pipeline import version; print(version.find_commit())"


def git(folder, *words):
    identity = ("-c", "user.name=A", "-c", "user.email=a@b", "-c", "core.hooksPath=")
    return subprocess.run(
        ["git", *identity, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def find_commit(folder, **environment):
    """Returns the commit that the packages in a folder report."""
    return subprocess.run(
        [sys.executable, "-c", SHOW],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


@pytest.fixture
def copy(tmp_path):
    for name in PACKAGES:
        ignore = shutil.ignore_patterns("__pycache__", "commit.txt")
        source = pathlib.Path(sys.modules["pipeline"].__file__).parent.parent / name
        shutil.copytree(source, tmp_path / "code" / name, ignore=ignore)
    return tmp_path / "code"


def test_the_command_says_version_stack_and_commit():
    check = (
        "import sys; from pipeline.cli import main\n"
        "try: main.main(['--version'])\n"
        "finally: assert not {'tensorflow', 'tfx'} & set(sys.modules)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=True
    ).stdout
    stack = {(3, 10): ("compatible", "1.16", "2.16")}.get(
        sys.version_info[:2], ("current", "1.21", "2.21")
    )
    assert re.fullmatch(
        rf"vae-pipeline \d+\.\d+\.\d+, {stack[0]} stack \(TFX {stack[1]}\.\d+, "
        rf"TensorFlow {stack[2]}\.\d+, Python {sys.version.split()[0]}\), "
        r"(commit [0-9a-f]{12,}(-dirty)?|unknown commit)\n",
        printed,
    )


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_a_checkout_names_its_commit_and_whether_it_was_changed(copy, tmp_path):
    git(copy, "init", "-q")
    git(copy, "add", ".")
    git(copy, "commit", "-qm", "all")
    head = git(copy, "rev-parse", "HEAD")
    assert find_commit(copy) == f"commit {head[:12]}"
    # A hook of another repository sets GIT_DIR.
    assert find_commit(copy, GIT_DIR="/nowhere") == f"commit {head[:12]}"
    (copy / "pipeline" / "version.py").open("a").write("\n")
    assert find_commit(copy) == f"commit {head[:12]}-dirty"
    assert find_commit(copy, PATH="/nowhere") == "unknown commit"


def test_a_build_leaves_its_commit(copy):
    assert find_commit(copy) == "unknown commit"
    (copy / "pipeline" / "commit.txt").write_text("0123456789ab-dirty\n")
    assert find_commit(copy) == "commit 0123456789ab-dirty"


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_another_repository_around_the_packages_is_ignored(copy):
    git(copy.parent, "init", "-q")
    git(copy.parent, "commit", "-qm", "none", "--allow-empty")
    assert find_commit(copy) == "unknown commit"


def test_pip_records_the_commit_of_a_repository(monkeypatch):
    class Distribution:
        def read_text(self, name):
            assert name == "direct_url.json"
            return '{"url": "https://x/y", "vcs_info": {"commit_id": "abc"}}'

    monkeypatch.setattr(
        version.importlib.metadata, "distribution", lambda name: Distribution()
    )
    assert version._read_pip_commit() == "abc"
