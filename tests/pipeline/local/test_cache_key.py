"""The cache keys of steps: which files and settings change them."""

import importlib
import pathlib
import shutil
import sys
import types

import pytest

from components import pusher
from pipeline import graph
from pipeline.config.loading import resolve
from pipeline.local import cache_key

REPOSITORY = pathlib.Path(__file__).parents[3]

ALL = set(cache_key.STEP_MODULES)
OWN_CODE = ALL - {"ImportSchemaGen", "StatisticsGen", "ExampleValidator"}


@pytest.fixture
def project(tmp_path):
    """Returns a folder with a copy of the packages of the steps."""
    for package in ("components", "model"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / package, tmp_path / package, ignore=ignored)
    return tmp_path


def steps_that_change(project, change):
    before = cache_key.digest_code(project)
    change()
    after = cache_key.digest_code(project)
    return {step for step in ALL if before[step] != after[step]}


@pytest.mark.parametrize(
    ("file", "steps"),
    [
        ("components/reporting/report.html.jinja", {"Report"}),
        ("components/reporting/page.py", {"Report"}),
        ("components/reporting/figures.py", {"Report"}),
        ("components/report.py", {"Report"}),
        ("components/evaluation/infra_probe.py", {"InfraCheck"}),
        ("model/run_fn.py", {"Trainer"}),
        ("model/__init__.py", OWN_CODE),
    ],
)
def test_a_changed_file_changes_the_steps_that_use_it(project, file, steps):
    def change():
        with (project / file).open("a", encoding="utf-8") as text:
            text.write("\n# changed\n")

    assert steps_that_change(project, change) == steps


def test_the_report_and_the_gate_do_not_train_again(project):
    def change():
        for folder in ("components", "components/evaluation", "components/reporting"):
            for file in (project / folder).glob("*.py"):
                file.write_text(f"{file.read_text()}\n# changed\n")

    changed = steps_that_change(project, change)
    assert "Trainer" not in changed
    assert "Transform" not in changed
    assert {"Evaluator", "Pusher", "Report"} <= changed


def test_a_file_that_no_step_imports_changes_none(project):
    def change():
        (project / "components" / "evaluation" / "unused.py").write_text("x = 1\n")

    assert steps_that_change(project, change) == set()


def test_a_new_import_counts_with_all_that_it_imports(project):
    """The module that changes is the last one in a chain of imports."""
    (project / "model" / "first.py").write_text("def f():\n    from . import second\n")
    (project / "model" / "second.py").write_text("import model.third\n")
    (project / "model" / "third.py").write_text("x = 1\n")
    run_fn = project / "model" / "run_fn.py"
    run_fn.write_text(f"{run_fn.read_text()}\nfrom model.first import f\n")

    def change():
        (project / "model" / "third.py").write_text("x = 2\n")

    assert steps_that_change(project, change) == {"Trainer"}


def test_a_file_counts_by_its_place_too(project):
    """The cache key changes if two modules exchange their contents."""
    one, two = project / "model" / "one.py", project / "model" / "two.py"
    one.write_text("x = 1\n")
    two.write_text("x = 2\n")
    run_fn = project / "model" / "run_fn.py"
    run_fn.write_text(f"{run_fn.read_text()}\nfrom model import one, two\n")

    def change():
        one.write_text("x = 2\n")
        two.write_text("x = 1\n")

    assert steps_that_change(project, change) == {"Trainer"}


def test_the_place_of_the_project_does_not_count(project):
    assert cache_key.digest_code(project) == cache_key.digest_code()


def test_the_schema_is_of_the_step_that_brings_it_in(project, tmp_path, monkeypatch):
    schema = tmp_path / "schema.pbtxt"
    schema.write_text("one")
    monkeypatch.setattr(cache_key, "schema_file", lambda: schema)
    changed = steps_that_change(project, lambda: schema.write_text("two"))
    assert changed == {"ImportSchemaGen"}


def test_another_stack_changes_all_steps(project, monkeypatch):
    def change():
        monkeypatch.setattr(pusher, "read_stack", lambda: {"tensorflow": "1.0"})

    assert steps_that_change(project, change) == ALL


def test_the_table_has_the_modules_of_the_graphs_steps():
    paths = graph.Paths(
        pipeline_root="/root",
        data_dir="/data",
        schema_file="/schema.pbtxt",
        destination="/serving",
    )
    modules = {}
    for component in graph.create_pipeline(resolve("demo"), paths).components:
        functions = [
            component.exec_properties[key]
            for key in ("run_fn", "preprocessing_fn")
            if component.exec_properties.get(key)
        ]
        own = component.executor_spec.executor_class.__module__
        found = [name.rpartition(".")[0] for name in functions]
        modules[component.id] = found + [own] * own.startswith("components.")
    modules["InfraCheck"].append("components.evaluation.infra_probe")
    assert modules == cache_key.STEP_MODULES


def modules_used_by(module):
    """Yields the names of the project's modules that a module's objects are from."""
    for value in vars(module).values():
        name = value.__name__ if isinstance(value, types.ModuleType) else None
        name = name or getattr(value, "__module__", None) or ""
        if name.partition(".")[0] in ("components", "model"):
            yield name


@pytest.mark.parametrize("step", sorted(OWN_CODE))
def test_all_that_python_imported_is_found(step):
    found = cache_key.find_files(cache_key.STEP_MODULES[step])
    files = {REPOSITORY / path for path in found if path.suffix == ".py"}
    # A package has all modules that anything imported. The probe is a program of its
    # own.
    skipped = ("__init__", "infra_probe")
    for path in sorted(found):
        if path.suffix != ".py" or path.stem in skipped:
            continue
        name = ".".join(path.with_suffix("").parts)
        for used in modules_used_by(importlib.import_module(name)):
            assert pathlib.Path(sys.modules[used].__file__) in files


def key_of(*settings, fingerprint="f", **code):
    return cache_key.run_key(
        resolve("smoke", settings=settings),
        fingerprint,
        code={"Trainer": "t", "Report": "r", **code},
    )


def test_the_run_key_depends_on_settings_data_and_code_before_the_push():
    assert key_of() == key_of()
    assert key_of() != key_of("train.seed=7")
    assert key_of() != key_of("gate.elbo_floor=-7")
    assert key_of() != key_of(fingerprint="g")
    assert key_of() != key_of(Trainer="u")


def test_the_run_key_does_not_depend_on_settings_after_the_push():
    assert key_of() == key_of(Report="s")


@pytest.mark.parametrize(
    "setting",
    ["data.source=/elsewhere", "notify.timeout=3", "metrics.textfile=/a.prom"],
)
def test_the_run_key_does_not_depend_on_settings_without_effect(setting):
    assert key_of() == key_of(setting)
