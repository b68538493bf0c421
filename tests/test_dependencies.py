"""The declared dependencies: setup.py has every library that the code imports."""

import ast
import importlib.metadata
import pathlib
import re
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
OURS = {"pipeline", "components", "model", "tests"}

pytestmark = pytest.mark.skipif(
    not (ROOT / "setup.py").exists(), reason="the image holds no setup.py"
)


def imported_modules(*folders: str) -> set[str]:
    """Returns the modules of other projects that the folders' Python files import."""
    found: set[str] = set()
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    found |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.level == 0:
                    found.add(node.module)
    known = sys.stdlib_module_names | OURS
    return {name for name in found if name.partition(".")[0] not in known}


def distributions_by_folder() -> dict[str, set[str]]:
    """Returns folder -> installed distributions that have files in the folder."""
    found: dict[str, set[str]] = {}
    for distribution in importlib.metadata.distributions():
        name = normalized(distribution.metadata["Name"])
        for file in distribution.files or ():
            top = file.with_suffix("") if len(file.parts) == 1 else file.parent
            for folder in (top, *top.parents):
                found.setdefault(str(folder), set()).add(name)
    return found


def declared_names(*, with_dev: bool) -> set[str]:
    """Returns the distributions that setup.py requires, for any stack."""
    strings = []
    for node in ast.walk(ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.keyword) and node.arg in (
            "install_requires",
            *(["extras_require"] if with_dev else []),
        ):
            strings += [
                constant.value
                for constant in ast.walk(node.value)
                if isinstance(constant, ast.Constant)
            ]
    return {
        normalized(name[0])
        for text in strings
        if (name := re.match(r"[A-Za-z0-9._-]+", str(text)))
    }


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize(
    ("folders", "with_dev"),
    [
        (("pipeline", "components", "model"), False),
        (("pipeline", "components", "model", "tests", ".ci"), True),
    ],
    ids=["what runs", "what tests"],
)
def test_every_imported_library_is_declared(folders, with_dev):
    declared = declared_names(with_dev=with_dev)
    by_folder = distributions_by_folder()
    undeclared = {}
    for module in imported_modules(*folders):
        parts = module.split(".")
        folders_above = {"/".join(parts[:n]) for n in range(1, len(parts) + 1)}
        owners: set[str] = set()
        for folder in folders_above - {"google"}:  # many distributions share the folder
            owners |= by_folder.get(folder, set())
        if not owners & declared:
            undeclared[module] = owners
    assert undeclared == {}
