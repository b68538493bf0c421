"""The signatures: parameters from the third on are keyword-only, at most six in all."""

import ast
import pathlib
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ("pipeline", "components", "model")
POSITIONAL, ALL = 2, 6

# TFX passes the inputs, outputs and properties of a component by position.
FRAMEWORK_DECORATORS = {"component"}
# The first parameters of a callback of Click.
FRAMEWORK_CALLBACK = ["click.Context", "click.Parameter"]
# The methods that a library's base class prescribes.
FRAMEWORK_METHODS = {
    "click.ParamType": {"convert"},
    "click.Path": {"convert"},
    "Path": {"convert"},  # option_types.Path, a click.Path
    "tfx_executor.Executor": {"Do"},
}


def violations(source: str) -> Iterator[str]:
    """Yields what is wrong with each signature in Python code, with line numbers."""
    tree = ast.parse(source)
    methods: dict[ast.AST, ast.ClassDef] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            methods |= dict.fromkeys(node.body, node)
            yield from dataclass_violations(node)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if not is_prescribed(node, methods.get(node)):
                yield from function_violations(node, is_method=node in methods)
        elif isinstance(node, ast.Lambda):
            yield from function_violations(node, is_method=False)


def is_prescribed(
    function: ast.FunctionDef | ast.AsyncFunctionDef, cls: ast.ClassDef | None
) -> bool:
    """Returns whether a framework prescribes the signature of a function."""
    if FRAMEWORK_DECORATORS & set(decorators(function)):
        return True
    annotations = [
        ast.unparse(a.annotation) for a in function.args.args if a.annotation
    ]
    if annotations[:2] == FRAMEWORK_CALLBACK:
        return True
    bases = map(ast.unparse, cls.bases) if cls else ()
    return any(function.name in FRAMEWORK_METHODS.get(base, ()) for base in bases)


def decorators(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> list:
    """Returns the names of the decorators, without arguments."""
    return [ast.unparse(found).partition("(")[0] for found in node.decorator_list]


def function_violations(
    function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, *, is_method: bool
) -> Iterator[str]:
    """Yields what is wrong with the signature of one function."""
    name = getattr(function, "name", "lambda")
    positional = [*function.args.posonlyargs, *function.args.args]
    if is_method and "staticmethod" not in decorators(function):
        positional = positional[1:]  # self or cls
    count = len(positional) + len(function.args.kwonlyargs)
    if len(positional) > POSITIONAL:
        third = positional[POSITIONAL].arg
        yield f"{function.lineno}: {name}: {third} is not keyword-only"
    if count > ALL:
        yield f"{function.lineno}: {name}: {count} parameters"


def dataclass_violations(cls: ast.ClassDef) -> Iterator[str]:
    """Yields what is wrong with the constructor of a dataclass."""
    fields = [node for node in cls.body if isinstance(node, ast.AnnAssign)]
    is_dataclass = {"dataclass", "dataclasses.dataclass"} & set(decorators(cls))
    is_keyword_only = any(
        "kw_only=True" in ast.unparse(decorator) for decorator in cls.decorator_list
    )
    if is_dataclass and len(fields) > POSITIONAL and not is_keyword_only:
        yield f"{cls.lineno}: {cls.name}: a dataclass without kw_only=True"


@pytest.mark.parametrize("package", PACKAGES)
def test_the_third_parameter_is_keyword_only_and_there_are_six_at_most(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    assert [
        f"{path.relative_to(ROOT)}:{violation}"
        for path in files
        for violation in violations(path.read_text(encoding="utf-8"))
    ] == []


def names_any(source: str) -> bool:
    """Returns whether Python code mentions `Any`."""
    return any(
        "Any" in (getattr(node, "id", None), getattr(node, "attr", None))
        for node in ast.walk(ast.parse(source))
    )


def test_the_command_line_is_typed_without_any():
    files = sorted((ROOT / "pipeline" / "cli").glob("*.py"))
    assert files
    assert [f.name for f in files if names_any(f.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("source", ["def f(a: dict[str, Any]): ...", "a: typing.Any"])
def test_any_is_found(source):
    assert names_any(source)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f(a, b, c): ...", ["1: f: c is not keyword-only"]),
        ("def f(a, /, b, c=1): ...", ["1: f: c is not keyword-only"]),
        ("async def f(a, b, c, *, d): ...", ["1: f: c is not keyword-only"]),
        ("f = lambda a, b, c: a", ["1: lambda: c is not keyword-only"]),
        ("def f(a, b, *, c, d, e, g, h): ...", ["1: f: 7 parameters"]),
        (
            "def f(a, b, c, d, e, g, h): ...",
            ["1: f: c is not keyword-only", "1: f: 7 parameters"],
        ),
        ("def f(a):\n  def g(b, c, d): ...", ["2: g: d is not keyword-only"]),
        (
            "class C:\n  def f(self, a, b, c): ...",
            ["2: f: c is not keyword-only"],
        ),
        (
            "class C:\n  @staticmethod\n  def f(a, b, c): ...",
            ["3: f: c is not keyword-only"],
        ),
        (
            "class C(click.ParamType):\n  def f(self, a, b, c): ...",
            ["2: f: c is not keyword-only"],
        ),
        (
            "@dataclasses.dataclass(frozen=True)\nclass C:\n a: int\n b: int\n c: int",
            ["2: C: a dataclass without kw_only=True"],
        ),
    ],
)
def test_a_violation_is_found(source, expected):
    assert list(violations(source)) == expected


@pytest.mark.parametrize(
    "source",
    [
        "def f(a, b, *, c, d, e, g): ...",
        "def f(a, b, *c, **d): ...",
        "class C:\n  def f(self, a, b, *, c): ...",
        "class C:\n  @classmethod\n  def f(cls, a, b): ...",
        "@component\ndef f(a, b, c, d, e, g, h): ...",
        "@component(use_beam=True)\ndef f(a, b, c, d, e, g, h): ...",
        "class C(click.ParamType):\n  def convert(self, value, param, ctx): ...",
        "def f(a: click.Context, b: click.Parameter, c: bool): ...",
        "class C(tfx_executor.Executor):\n  def Do(self, a, b, c): ...",
        "@dataclasses.dataclass\nclass C:\n  a: int\n  b: int",
    ],
)
def test_what_is_allowed_or_prescribed_is_not_a_violation(source):
    assert list(violations(source)) == []
