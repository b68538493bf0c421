"""What the image leaves out, against the lock that says who needs what."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
OURS = "vae-pipeline (setup.py)"

pytestmark = pytest.mark.skipif(
    not (ROOT / "Dockerfile").exists(), reason="the image holds no Dockerfile"
)


def _needed_by() -> dict[str, set[str]]:
    """Returns who needs each package, from the lock's `# via` comments."""
    needed: dict[str, set[str]] = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if package := re.match(r"([a-z0-9._-]+)(\[.*\])?==", line):
            users = needed.setdefault(package[1], set())
        elif user := re.match(r"    # (?:via |  )(\S.*)", line):
            users.add(user[1])
    return needed


def _developers_tools() -> set[str]:
    """Returns the names in setup.py's extra `dev`."""
    tree = ast.parse((ROOT / "setup.py").read_text())
    (extras,) = (
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg == "extras_require"
    )
    names = ast.literal_eval(extras)["dev"]
    return {re.match(r"[A-Za-z-]+", name)[0].lower() for name in names}


def test_the_image_leaves_out_what_only_developers_need():
    needed_by = _needed_by()
    tools = _developers_tools()
    only = set(tools)
    while True:
        more = {
            package
            for package, users in needed_by.items()
            if users - {OURS} and users <= only and package not in only
        }
        if not more:
            break
        only |= more
    text = (ROOT / "Dockerfile").read_text()
    (listed,) = re.findall(r"printf '%s\\n' ([^>]*?)>dev.txt", text)
    assert set(listed.replace("\\\n", " ").split()) == only


def test_what_is_left_out_is_in_the_lock():
    text = (ROOT / "Dockerfile").read_text()
    (listed,) = re.findall(r"printf '%s\\n' ([^>]*?)>unused.txt", text)
    assert set(listed.split()) <= set(_needed_by())
