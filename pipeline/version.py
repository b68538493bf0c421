"""The release, stack and commit of this program.

TensorFlow is not imported, because that takes seconds.
"""

import importlib.metadata
import importlib.resources
import json
import os
import pathlib
import platform
import subprocess
import sys

_DISTRIBUTION = "vae-pipeline"
_RECORD = "commit.txt"  # written beside this file by the build of an image or a wheel
_UNKNOWN = "unknown commit"


def describe() -> str:
    """Returns one line with the release, the stack, its versions and the commit."""
    version = importlib.metadata.version
    stack = "compatible" if sys.version_info < (3, 11) else "current"
    return (
        f"{_DISTRIBUTION} {version(_DISTRIBUTION)}, {stack} stack (TFX "
        f"{version('tfx')}, TensorFlow {version('tensorflow')}, Python "
        f"{platform.python_version()}), {find_commit()}"
    )


def find_commit() -> str:
    """Returns `commit HASH`, or `unknown commit`.

    The hash ends in -dirty if files of the checkout differ from the commit.
    """
    commit = _read_git_commit() or _read_build_commit() or _read_pip_commit()
    return f"commit {commit}" if commit else _UNKNOWN


def _read_git_commit() -> str | None:
    """Returns the commit of the git checkout that has this file; None without one."""
    root = pathlib.Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():  # in a worktree, .git is a file
        return None
    # Inside a git hook, GIT_DIR names another repository.
    environment = {
        name: value for name, value in os.environ.items() if name[:4] != "GIT_"
    }
    try:
        result = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],  # noqa: S607
            capture_output=True,
            text=True,
            cwd=root,
            env=environment,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):  # git is missing or too slow
        return None
    return result.stdout.strip() or None


def _read_build_commit() -> str | None:
    """Returns the commit from the file that a build wrote; None without that file."""
    try:
        text = (
            importlib.resources.files("pipeline").joinpath(_RECORD).read_text("utf-8")
        )
    except OSError:
        return None
    return text.strip() or None


def _read_pip_commit() -> str | None:
    """Returns the commit that pip installed from a git URL (PEP 610), or None."""
    text = importlib.metadata.distribution(_DISTRIBUTION).read_text("direct_url.json")
    return json.loads(text or "{}").get("vcs_info", {}).get("commit_id")
