"""Digests of code, settings and data, which identify equal steps and equal runs.

TFX's cache compares the inputs and parameters of a step, but not its code. So the
runner makes the digest of the code a parameter of each step.
"""

import ast
import hashlib
import importlib.util
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence

from components import pusher
from pipeline.config.loading import PipelineConfig, decisive
from pipeline.local.root import schema_file

_PROJECT = pathlib.Path(__file__).parents[2]  # the folder of the packages
_PACKAGES = ("components", "model")  # the packages with the steps' code

# The modules that each step runs; `find_files` adds their imports. TFX's own steps have
# no modules here: the versions of the stack identify their code.
STEP_MODULES: Mapping[str, Sequence[str]] = {
    "Ingest": ["components.ingest"],
    "ImportSchemaGen": [],
    "StatisticsGen": [],
    "ExampleValidator": [],
    "ServedModel": ["components.served_model"],
    "DataGate": ["components.data_gate"],
    "Transform": ["model.transform"],
    "BaselineScores": ["components.model_scores"],
    "ElboDrift": ["components.elbo_drift"],
    "Trainer": ["model.run_fn"],
    "CandidateScores": ["components.model_scores"],
    "Evaluator": ["components.evaluator"],
    "Bounds": ["components.bounds"],
    # The probe is a separate program, so no import leads to it.
    "InfraCheck": ["components.infra_check", "components.evaluation.infra_probe"],
    "Pusher": ["components.pusher"],
    "Report": ["components.report"],
}
_SCHEMA_STEP = "ImportSchemaGen"  # has the path of the schema as parameter
_AFTER_PUSH = ("Report",)  # steps that do not change the pushed model


def digest_code(project: pathlib.Path = _PROJECT) -> dict[str, str]:
    """Returns a SHA-256 for each step, of all code that can change the step's output.

    The digest covers the step's modules, the modules of this project that they import,
    directly or not, the templates in their folders, and the versions of the stack. The
    digest of ImportSchemaGen covers the schema, too.

    Args:
      project: the folder that contains the packages `components` and `model`.
    """
    stack = json.dumps(pusher.read_stack()).encode()
    imports: dict[pathlib.Path, list[str]] = {}  # by parsed file
    digests = {}
    for step, modules in STEP_MODULES.items():
        digest = hashlib.sha256(stack)
        files = find_files(modules, project, imports=imports)
        for path in sorted(files, key=lambda path: path.as_posix()):
            digest.update(f"{path.as_posix()}\0".encode())
            digest.update(hashlib.sha256((project / path).read_bytes()).digest())
        if step == _SCHEMA_STEP:
            digest.update(schema_file().read_bytes())
        digests[step] = digest.hexdigest()
    return digests


def find_files(
    modules: Sequence[str],
    project: pathlib.Path = _PROJECT,
    *,
    imports: dict[pathlib.Path, list[str]] | None = None,
) -> set[pathlib.Path]:
    """Returns the files of modules, of their imports, and of templates beside them.

    Imports are followed to the end, within this project. Paths are relative to it.

    Args:
      modules: names of modules of this project.
      project: the folder that contains the packages.
      imports: a cache of the imports of parsed files; new ones are added.
    """
    imports = {} if imports is None else imports
    files: set[pathlib.Path] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = _find_file(name, project)
        if path is None or path in files:
            continue
        files.add(path)
        files.update(
            template.relative_to(project)
            for template in (project / path).parent.glob("*.jinja")
        )
        if path not in imports:
            package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            text = (project / path).read_text(encoding="utf-8")
            imports[path] = list(_list_imports(text, package))
        waiting += imports[path]
        waiting.append(name.rpartition(".")[0])  # Python imports the package first
    return files


def _find_file(name: str, project: pathlib.Path) -> pathlib.Path | None:
    """Returns a module's path relative to the project; None if it is not in there."""
    parts = name.split(".")
    if parts[0] not in _PACKAGES:
        return None
    path = pathlib.Path(*parts)
    for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
        if (project / file).is_file():
            return file
    return None


def _list_imports(text: str, package: str) -> Iterator[str]:
    """Yields the names that code imports: modules, and perhaps names inside them."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            relative = "." * node.level + (node.module or "")
            module = importlib.util.resolve_name(relative, package)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def run_key(
    config: PipelineConfig, data_fingerprint: str, *, code: Mapping[str, str]
) -> str:
    """Returns a SHA-256 of everything that decides what a run pushes, but the baseline.

    Runs with the same key and the same baseline make the same model.

    Args:
      config: the settings; those that do not change what a run makes are left out.
      data_fingerprint: the fingerprint of the prepared data.
      code: the digest of each step's code.
    """
    sections = decisive(config)
    # The fingerprint covers the data and their spans, wherever the data came from.
    del sections["data"]["source"], sections["data"]["span_window"]
    steps = {step: digest for step, digest in code.items() if step not in _AFTER_PUSH}
    parts = [json.dumps(part, sort_keys=True) for part in (sections, steps)]
    return hashlib.sha256("\n".join([*parts, data_fingerprint]).encode()).hexdigest()
