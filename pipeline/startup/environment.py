"""What others leave in a process's environment, made harmless or refused in words.

Each program of this project calls `prepare` before it imports a library: this module
needs nothing but Python.
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
from collections.abc import Iterator, Mapping

from pipeline.startup import standard_streams

BAD_INPUT = 2  # the exit code

_OURS = ("components", "model")  # `pipeline` is imported already

# New objects that make Python look for cycles among them, and such looks that make it
# look at older objects too. With Python's own numbers, 700 and 10 and 10, that takes a
# third of the time in which TensorFlow and TFX are imported.
_GC_THRESHOLDS = (100_000, 20, 10)

_EXTENSIONS = "tfx.v1.extensions"

_BOOLEANS = ("TF_DETERMINISTIC_OPS", "TF_CUDNN_DETERMINISTIC")

# Some distributions install a package of this name by mistake; nothing imports it.
_UNUSED = frozenset(["tests"])


def prepare() -> None:
    """Makes this process fit for the libraries, or ends it with a message.

    Raises:
      SystemExit: with BAD_INPUT, if the environment can't be used as it is.
    """
    standard_streams.open_standard_streams()
    import_less()
    _reset_warnings()
    # The only backend that writes files and needs no display.
    os.environ["MPLBACKEND"] = "Agg"
    # protobuf ends an import for a value that its release does not know.
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
    # All that TFX has for Google Cloud, with 150 MB of its clients. An empty module, as
    # tfx.v1 must find one.
    sys.modules.setdefault(_EXTENSIONS, types.ModuleType(_EXTENSIONS))
    # An optional grammar of URIs, for checks of jsonschema that nothing here makes.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]


def _reset_warnings() -> None:
    """Restores Python's own filters if another one makes an error of a warning.

    Libraries warn about each other while they are imported.
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
    # What child processes would get.
    os.environ.pop("PYTHONWARNINGS", None)
    sys.warnoptions.clear()


def _find_optimization() -> str | None:
    """Returns what to do about PYTHONOPTIMIZE or -O, if one of them is in force."""
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
    """Returns what to do about a package that hides this project's or a library's."""
    root = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
    for where, entry in _foreign_entries():
        if os.path.realpath(entry) == os.path.realpath(root):
            continue
        name = _find_shadowing(entry)
        if name is not None:
            return _shadowed(name, where)
    for name in _OURS:
        spec = importlib.util.find_spec(name)
        found = os.path.abspath((spec and spec.origin) or root)
        if os.path.commonpath([found, root]) != root:
            return _shadowed(name, f"the folder {os.path.dirname(found)}")
    return None


def _find_bad_tmpdir() -> str | None:
    """Returns what to do about a folder for temporary files that can't be used."""
    from model.files import safe_paths  # now it is known to be ours

    try:
        safe_paths.check_no_pattern("TMPDIR", tempfile.gettempdir())
        safe_paths.check_utf8("TMPDIR", tempfile.gettempdir())
    except (safe_paths.PathError, OSError) as error:
        return str(error)
    return None


def _find_bad_boolean() -> str | None:
    """Returns what to do about a value at which TensorFlow aborts the process."""
    for name in _BOOLEANS:
        value = os.environ.get(name, "0")
        if value.lower() not in ("0", "1", "false", "true"):
            return f"{name} must be 0 or 1, got {value!r}"
    return None


def _shadowed(name: str, where: str) -> str:
    return (
        f"{where} has a package or module {name}, which Python would import in place "
        "of the one that this program needs: remove the folder from PYTHONPATH, or "
        "start the program in another folder"
    )


def _foreign_entries() -> Iterator[tuple[str, str]]:
    """Yields the entries of sys.path that others chose, in words and as paths."""
    variable = "" if sys.flags.ignore_environment else os.environ.get("PYTHONPATH", "")
    for entry in variable.split(os.pathsep) if variable else ():
        if entry:
            yield f"the entry {entry} of PYTHONPATH", entry
        else:
            yield "the current folder, an empty entry of PYTHONPATH,", "."
    # `python -m` looks into the current folder.
    if sys.path[0] in ("", os.getcwd()):
        yield "the current folder", "."


def _find_shadowing(folder: str) -> str | None:
    """Returns the name of a module in the folder that hides one of this environment."""
    for installed in {sysconfig.get_path(kind) for kind in ("purelib", "platlib")}:
        if os.path.realpath(installed) == os.path.realpath(folder):
            return None
        name = _first_shadowing(folder, installed)
        if name is not None:
            return name
    found = _modules(folder)
    return min((n for n in sys.stdlib_module_names if found.get(n)), default=None)


def _first_shadowing(folder: str, installed: str, *, package: str = "") -> str | None:
    theirs, ours = _modules(folder), _modules(installed)
    for name in sorted((theirs.keys() & ours.keys()) - _UNUSED):
        of_theirs, of_ours = (os.path.join(at, name) for at in (folder, installed))
        if os.path.realpath(of_theirs) == os.path.realpath(of_ours):
            continue  # a link to the same package
        if theirs[name]:
            return f"{package}{name}"
        if not ours[name]:  # namespace packages, as `google`: both folders count
            found = _first_shadowing(of_theirs, of_ours, package=f"{package}{name}.")
            if found is not None:
                return found
    return None


def _modules(folder: str) -> Mapping[str, bool]:
    """Returns the names that can be imported from a folder; False: of a namespace."""
    result: dict[str, bool] = {}
    try:
        entries = list(os.scandir(folder))
    except OSError:  # none, or an archive
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
