"""The errors of all packages: their base class, and where others may be caught."""

import ast
import importlib
import inspect
import pathlib
import pickle
import pkgutil

import pytest

from model.errors import PipelineError, escape_controls

_PACKAGES = ("model", "components", "pipeline")
_ROOT = pathlib.Path(__file__).parents[1]
# Importing the probe makes these packages unavailable: it is a program of its own.
_PROGRAMS = ("components.evaluation.infra_probe", "pipeline.__main__")

# Functions of this project that may raise a library's ValueError about the input: file
# -> function.
_FOREIGN = {
    # A file that is read as text may have any bytes; json and pydantic parse the text.
    "components/datasets/fingerprint.py": "regular_files",
    "components/datasets/span_files.py": "regular_files",
    "components/registry/retirement.py": "regular_files",
    "pipeline/runs/lock.py": "regular_files",
    # A signature may be any text; the library or pydantic raises it.
    "components/registry/signatures.py": "_Bundle",
    # A setting may have a character that no path can have.
    "components/registry/signing_keys.py": "safe_paths",
    # The images and labels of a file are any values that were pickled.
    "components/datasets/mnist_wheel.py": "_convert_pair",
    # A damaged pickle has any instructions, with any values.
    "components/datasets/pickled_arrays.py": "_interpret",
    # TFDS reads a damaged folder; a different fingerprint is a DataError.
    "components/datasets/prepare_spans.py": "fingerprint",
    # The results of a model that can't be served may have any shape.
    "components/report.py": "measurements",
}


def our_modules():
    for package in map(importlib.import_module, _PACKAGES):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name not in _PROGRAMS:
                yield importlib.import_module(module.name)


def our_exceptions():
    found = {
        each
        for module in our_modules()
        for _, each in inspect.getmembers(module, inspect.isclass)
        if issubclass(each, BaseException) and each.__module__ == module.__name__
    }
    return sorted(found - {PipelineError}, key=lambda each: each.__name__)


def test_every_exception_derives_from_the_one_root():
    exceptions = our_exceptions()
    assert len(exceptions) > 30
    assert [e.__name__ for e in exceptions if not issubclass(e, PipelineError)] == []


def test_every_error_survives_a_border_between_processes():
    """Pickle carries it, and Beam makes it again with a longer message."""
    for each in our_exceptions():
        error = each(400, "why") if each.__name__ == "RequestError" else each("why")
        for copy in (pickle.loads(pickle.dumps(error)), each(*error.args)):
            assert (type(copy), str(copy), vars(copy)) == (each, "why", vars(error))


def own_names(tree):
    """Returns the names that a module defines or imports from these packages."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        if isinstance(node, ast.ImportFrom) and node.module.startswith(_PACKAGES):
            names |= {alias.asname or alias.name for alias in node.names}
    return names


def called_name(function):
    """Returns `a` of the calls a(), a.b() and a().b()."""
    while isinstance(function, (ast.Attribute, ast.Call)):
        is_call = isinstance(function, ast.Call)
        function = function.func if is_call else function.value
    return getattr(function, "id", None)


def names_in(node):
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def calls_under_value_error(text):
    """Returns the project's functions that are called where ValueError is caught."""
    tree = ast.parse(text)
    result = set()
    for node in ast.walk(tree):
        handlers = node.handlers if isinstance(node, ast.Try) else ()
        if any("ValueError" in names_in(each.type) for each in handlers):
            calls = {
                called_name(each.func)
                for statement in node.body
                for each in ast.walk(statement)
                if isinstance(each, ast.Call)
            }
            result |= calls & own_names(tree)
    return result


@pytest.mark.parametrize(
    ("call", "found"),
    [
        ("idx.read_folder(path)", {"idx"}),
        ("note(int(text))", {"note"}),
        ("json.loads(text)", set()),
    ],
)
def test_a_handler_around_a_function_of_a_package_is_found(call, found):
    text = (
        "import json\nfrom components.datasets import idx\ndef note(text): ...\n"
        f"try:\n    {call}\nexcept (TypeError, ValueError):\n    pass\n"
    )
    assert calls_under_value_error(text) == found


def test_a_value_error_of_the_packages_own_functions_is_never_caught():
    found = {
        str(path.relative_to(_ROOT)): ", ".join(sorted(calls))
        for package in _PACKAGES
        for path in sorted((_ROOT / package).rglob("*.py"))
        if (calls := calls_under_value_error(path.read_text(encoding="utf-8")))
    }
    assert found == _FOREIGN


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb\nc é\U0001f600", "a\tb\nc é\U0001f600"),
        ("\x1b[2J\x07\0\r", "\\x1b[2J\\x07\\x00\\r"),
        ("\x7f\x9b\u202e\u200b\ufeff", "\\x7f\\x9b\\u202e\\u200b\\ufeff"),
    ],
)
def test_a_terminal_gets_no_control_characters(text, shown):
    assert escape_controls(text) == shown
    assert str(PipelineError(text)) == shown
