"""Which release, stack and commit this is; without TensorFlow, which takes seconds."""

import importlib.metadata
import importlib.resources
import json
import os
import pathlib
import platform
import subprocess
import sys

_DISTRIBUTION = "vae-pipeline"
_RECORD = "commit.txt"  # beside this file: the commit, where a build left it
_UNKNOWN = "unknown commit"


def describe() -> str:
    """Returns the release, the stack and the commit, in a line."""
    version = importlib.metadata.version
    stack = "compatible" if sys.version_info < (3, 11) else "current"
    return (
        f"{_DISTRIBUTION} {version(_DISTRIBUTION)}, {stack} stack (TFX "
        f"{version('tfx')}, TensorFlow {version('tensorflow')}, Python "
        f"{platform.python_version()}), {find_commit()}"
    )


def find_commit() -> str:
    """Returns `commit HASH`, with -dirty if files differ from it, if that is known."""
    commit = _checked_out() or _recorded() or _installed()
    return f"commit {commit}" if commit else _UNKNOWN


def _checked_out() -> str | None:
    """Returns the commit of the git checkout that this file belongs to."""
    root = pathlib.Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():  # of a worktree, a file
        return None
    # A hook's GIT_DIR would lead to another repository.
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
    except (OSError, subprocess.TimeoutExpired):  # there is no git
        return None
    return result.stdout.strip() or None


def _recorded() -> str | None:
    """Returns the commit that the build of a wheel or an image wrote down."""
    try:
        text = (
            importlib.resources.files("pipeline").joinpath(_RECORD).read_text("utf-8")
        )
    except OSError:
        return None
    return text.strip() or None


def _installed() -> str | None:
    """Returns the commit that pip installed from a repository's URL (PEP 610)."""
    text = importlib.metadata.distribution(_DISTRIBUTION).read_text("direct_url.json")
    return json.loads(text or "{}").get("vcs_info", {}).get("commit_id")
