"""What makes a step or a run another one: the code, the settings and the data.

TFX's cache compares a step's inputs and parameters, but not its code. So the digest of
the code is a parameter of each step here.
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
_PACKAGES = ("components", "model")  # of the steps' code

# The modules that each step runs; their imports follow from their code. The steps of
# TFX itself have none: the versions of the stack stand for their code.
STEP_MODULES: Mapping[str, Sequence[str]] = {
    "Ingest": ["components.ingest"],
    "ImportSchemaGen": [],
    "StatisticsGen": [],
    "ExampleValidator": [],
    "ServedModel": ["components.served_model"],
    "DataGate": ["components.data_gate"],
    "Transform": ["model.transform"],
    "Trainer": ["model.run_fn"],
    "Evaluator": ["components.evaluator"],
    "Bounds": ["components.bounds"],
    # The probe is a program of its own, which InfraCheck starts by its path.
    "InfraCheck": ["components.infra_check", "components.evaluation.infra_probe"],
    "Pusher": ["components.pusher"],
    "Report": ["components.report"],
}
_SCHEMA_STEP = "ImportSchemaGen"  # its parameter is the schema's path, not the content
_AFTER_PUSH = ("Report",)  # steps that cannot change what a run pushes


def digest_code(project: pathlib.Path = _PROJECT) -> dict[str, str]:
    """Returns for each step a digest of all code that can change its output.

    That is: the step's modules, the modules of this project that they import, directly
    or not, the templates beside these, the schema and the versions of the stack. Files
    are named by their paths relative to the project.

    Args:
      project: the folder that contains the packages `components` and `model`.
    """
    stack = json.dumps(pusher.read_stack()).encode()
    imports: dict[pathlib.Path, list[str]] = {}  # of each file that was read
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
    """Returns the relative paths of modules, of all that they import, and of templates.

    Args:
      modules: names of modules of this project.
      project: the folder that contains the packages.
      imports: the imports of files that were parsed before; new ones are added.
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
            imports[path] = list(_imported_names(text, package))
        waiting += imports[path]
        waiting.append(name.rpartition(".")[0])  # Python imports the package first
    return files


def _find_file(name: str, project: pathlib.Path) -> pathlib.Path | None:
    """Returns a module's relative path; None for a foreign module or no module."""
    parts = name.split(".")
    if parts[0] not in _PACKAGES:
        return None
    path = pathlib.Path(*parts)
    for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
        if (project / file).is_file():
            return file
    return None


def _imported_names(text: str, package: str) -> Iterator[str]:
    """Yields the names that code imports, which may be modules or what is in them."""
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
    """Returns a digest of everything that decides what a run pushes, but the baseline.

    Args:
      config: the settings.
      data_fingerprint: of the data.
      code: the digest of each step's code.
    """
    sections = decisive(config)
    # The source changes nothing about the data, and the fingerprint names their spans.
    del sections["data"]["source"], sections["data"]["span_window"]
    steps = {step: digest for step, digest in code.items() if step not in _AFTER_PUSH}
    parts = [json.dumps(part, sort_keys=True) for part in (sections, steps)]
    return hashlib.sha256("\n".join([*parts, data_fingerprint]).encode()).hexdigest()
