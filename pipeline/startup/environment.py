"""The repair of a process's environment, and the refusal of what cannot be repaired.

Variables, options of Python or folders of other programs would break the libraries.
Each program of this project calls `prepare` before it imports a library, so this module
imports only Python's own modules.
"""

import gc
import importlib.machinery
import importlib.util
import os
import sys
import sysconfig
import tempfile
import types
import warnings
from collections.abc import Iterator, Mapping, Sequence

from pipeline.startup import standard_streams

BAD_INPUT = 2  # the exit code

# The packages of this project; `pipeline` is imported already.
_OWN_PACKAGES = ("components", "model")

# New objects that make Python look for cycles among them, and such looks that make it
# look at older objects too. With Python's own numbers, 700 and 10 and 10, that takes a
# third of the time in which TensorFlow and TFX are imported.
_GC_THRESHOLDS = (100_000, 20, 10)

# Modules of TFX and TFMA that nothing here uses, and the names that their importers
# expect in them. They import 150 MB of clients for Google Cloud, Keras 3 with
# KerasTuner, and NLTK.
_UNUSED_MODULES: Mapping[str, Sequence[str]] = {
    "tfx.v1.extensions": (),
    "tfx.components.tuner.component": ("Tuner", "TunerFnResult"),
    "tensorflow_model_analysis.metrics.rouge": (),
}

_BOOLEANS = ("TF_DETERMINISTIC_OPS", "TF_CUDNN_DETERMINISTIC")

# Some distributions install a package of this name by mistake; nothing imports it.
_UNUSED = frozenset(["tests"])


def prepare() -> None:
    """Repairs this process's environment for the libraries, or ends it with a message.

    Raises:
      SystemExit: with code BAD_INPUT, if a setting must be changed by the user.
    """
    standard_streams.open_standard_streams()
    import_less()
    _reset_warnings()
    # Agg is the backend of Matplotlib that needs no display.
    os.environ["MPLBACKEND"] = "Agg"
    # protobuf raises at its import for a value that its release does not support.
    os.environ.pop("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", None)
    problem = (
        _find_optimization()
        or _find_shadowed_package()
        or _find_bad_tmpdir()
        or _find_bad_boolean()
    )
    if problem is not None:
        print(f"vae-pipeline: {problem}", file=sys.stderr)
        sys.exit(BAD_INPUT)


def import_less() -> None:
    """Halves the time in which TensorFlow and TFX are imported."""
    gc.set_threshold(*_GC_THRESHOLDS)
    for name, members in _UNUSED_MODULES.items():
        module = types.ModuleType(name)
        vars(module).update(dict.fromkeys(members))
        sys.modules.setdefault(name, module)
    # An optional grammar of URIs, for checks of jsonschema that nothing here makes.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]


def _reset_warnings() -> None:
    """Restores Python's default warning filters if a filter turns warnings into errors.

    Libraries cause warnings while they are imported, which would then fail.
    """
    if all(action != "error" for action, *_ in warnings.filters):
        return
    warnings.resetwarnings()
    for category in (
        DeprecationWarning,
        PendingDeprecationWarning,
        ImportWarning,
        ResourceWarning,
    ):
        warnings.simplefilter("ignore", category)
    # So that child processes do not get the filters.
    os.environ.pop("PYTHONWARNINGS", None)
    sys.warnoptions.clear()


def _find_optimization() -> str | None:
    """Returns a message if Python runs with PYTHONOPTIMIZE or -O; None otherwise."""
    level = sys.flags.optimize
    if not level:
        return None
    variable = os.environ.get("PYTHONOPTIMIZE")
    if variable:
        what, unset = f"PYTHONOPTIMIZE must not be set, got {variable!r}", "unset it"
    else:
        what, unset = f"Python must run without -{'O' * level}", "leave it out"
    return (
        f"{what}: TFX and TensorFlow need the docstrings and the assertions that it "
        f"removes; {unset}"
    )


def _find_shadowed_package() -> str | None:
    """Returns a message if a folder hides a package of this project or a library."""
    root = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
    for where, entry in _list_user_entries():
        if os.path.realpath(entry) == os.path.realpath(root):
            continue
        name = _find_shadowing(entry)
        if name is not None:
            return _describe_shadowed(name, where)
    for name in _OWN_PACKAGES:
        spec = importlib.util.find_spec(name)
        found = os.path.abspath((spec and spec.origin) or root)
        if os.path.commonpath([found, root]) != root:
            return _describe_shadowed(name, f"the folder {os.path.dirname(found)}")
    return None


def _find_bad_tmpdir() -> str | None:
    """Returns a message if the folder for temporary files cannot be used."""
    from model.files import safe_paths  # after the check for shadowed packages

    try:
        safe_paths.check_no_pattern("TMPDIR", tempfile.gettempdir())
        safe_paths.check_utf8("TMPDIR", tempfile.gettempdir())
    except (safe_paths.PathError, OSError) as error:
        return str(error)
    return None


def _find_bad_boolean() -> str | None:
    """Returns a message for a variable whose value makes TensorFlow abort."""
    for name in _BOOLEANS:
        value = os.environ.get(name, "0")
        if value.lower() not in ("0", "1", "false", "true"):
            return f"{name} must be 0 or 1, got {value!r}"
    return None


def _describe_shadowed(name: str, where: str) -> str:
    return (
        f"{where} has a package or module {name}, which Python would import in place "
        "of the one that this program needs: remove the folder from PYTHONPATH, or "
        "start the program in another folder"
    )


def _list_user_entries() -> Iterator[tuple[str, str]]:
    """Yields the entries of sys.path that a user chose: a description and the path."""
    variable = "" if sys.flags.ignore_environment else os.environ.get("PYTHONPATH", "")
    for entry in variable.split(os.pathsep) if variable else ():
        if entry:
            yield f"the entry {entry} of PYTHONPATH", entry
        else:
            yield "the current folder, an empty entry of PYTHONPATH,", "."
    # `python -m` prepends the current folder.
    if sys.path[0] in ("", os.getcwd()):
        yield "the current folder", "."


def _find_shadowing(folder: str) -> str | None:
    """Returns a module in a folder that hides an installed or standard one, or None."""
    for installed in {sysconfig.get_path(kind) for kind in ("purelib", "platlib")}:
        if os.path.realpath(installed) == os.path.realpath(folder):
            return None
        name = _find_same_name(folder, installed)
        if name is not None:
            return name
    found = _list_modules(folder)
    return min((n for n in sys.stdlib_module_names if found.get(n)), default=None)


def _find_same_name(folder: str, installed: str, *, package: str = "") -> str | None:
    """Returns the first module that is in both folders and is used from `folder`."""
    theirs, ours = _list_modules(folder), _list_modules(installed)
    for name in sorted((theirs.keys() & ours.keys()) - _UNUSED):
        their_path, our_path = (os.path.join(at, name) for at in (folder, installed))
        if os.path.realpath(their_path) == os.path.realpath(our_path):
            continue  # a link to the same package
        if theirs[name]:
            return f"{package}{name}"
        if not ours[name]:  # namespace packages such as `google` merge both folders
            found = _find_same_name(their_path, our_path, package=f"{package}{name}.")
            if found is not None:
                return found
    return None


def _list_modules(folder: str) -> Mapping[str, bool]:
    """Returns the modules in a folder; the value is False for a namespace package."""
    result: dict[str, bool] = {}
    try:
        entries = list(os.scandir(folder))
    except OSError:  # no folder, or an archive
        return result
    suffixes = importlib.machinery.all_suffixes()
    for entry in entries:
        if entry.is_dir():
            inits = (f"__init__{suffix}" for suffix in suffixes)
            result[entry.name] = any(
                os.path.exists(os.path.join(entry.path, init)) for init in inits
            )
        for suffix in suffixes:
            if entry.name.endswith(suffix):
                result[entry.name.removesuffix(suffix)] = True
    return result
