"""The packages that the image omits, compared with the users in the lock file."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(
    not (ROOT / "Dockerfile").exists(), reason="the image holds no Dockerfile"
)


# The lock names the package with the extra, not the package that asks for the extra.
_OF_EXTRAS = {"email-validator"}  # of pydantic's extra `email`: sigstore asks for it


def _needed_by() -> dict[str, set[str]]:
    """Returns package -> packages that need it, from the lock's `# via` comments."""
    needed: dict[str, set[str]] = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if package := re.match(r"([a-z0-9._-]+)(\[.*\])?==", line):
            users = needed.setdefault(package[1], set())
        elif user := re.match(r"    # (?:via |  )(\S.*)", line):
            users.add(user[1])
    return needed


def _declared() -> set[str]:
    """Returns the names in setup.py's install_requires."""
    tree = ast.parse((ROOT / "setup.py").read_text())
    (required,) = (
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg == "install_requires"
    )
    texts = [str(n.value) for n in ast.walk(required) if isinstance(n, ast.Constant)]
    names = [re.match(r"[A-Za-z0-9._-]+", text) for text in texts]
    return {name[0].lower() for name in names if name}


def test_the_image_leaves_out_what_only_developers_need():
    needed_by = _needed_by()
    needed = _declared() & set(needed_by)
    while more := {
        package
        for package, users in needed_by.items()
        if users & needed and package not in needed
    }:
        needed |= more
    listed = (ROOT / "requirements-dev.txt").read_text().split()
    assert set(listed) == set(needed_by) - needed | _OF_EXTRAS
    assert "--excludes requirements-dev.txt" in (ROOT / "Dockerfile").read_text()


def test_what_is_left_out_is_in_the_lock():
    text = (ROOT / "Dockerfile").read_text()
    (listed,) = re.findall(r"printf '%s\\n' ([^>]*?)>unused.txt", text)
    assert set(listed.split()) <= set(_needed_by())
