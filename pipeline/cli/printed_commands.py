"""Command lines that are printed for users to paste, or passed to other programs."""

import csv
import dataclasses
import io
import os
import re
import shlex
import shutil
import sys

from model.files import filesystems
from pipeline.cli.options import DEFAULTS, Settings, format_setting
from pipeline.config import loading
from pipeline.config.sections import PushConfig

# Names of the options for a run's data and settings, for `options_in_force`.
SETTINGS = ("config", "dataset", "source", "span-window", "set")

_PROGRAM = "vae-pipeline"

# Preset -> next preset, which takes longer and reaches a higher ELBO; None: there is
# none. The next preset of all others is the default.
_BETTER = {"five_minutes": "ten_minutes", "ten_minutes": "one_hour", "one_hour": None}


def program(name: str = _PROGRAM) -> list[str]:
    """Returns the words of a command that starts a program of this environment.

    Uses `python -m` only if there is no script, because it also imports modules from
    the current folder.
    """
    script = os.path.join(os.path.dirname(sys.executable), name)
    if os.access(script, os.X_OK):
        return [os.path.abspath(script)]
    if os.path.basename(sys.argv[0]) == name and os.access(sys.argv[0], os.X_OK):
        return [os.path.abspath(sys.argv[0])]
    modules = {_PROGRAM: "pipeline", "tensorboard": "tensorboard.main"}
    return [sys.executable, "-m", modules[name]]


def line(*words: str, program_name: str = _PROGRAM) -> str:
    """Returns a shell command that starts a program from the current folder.

    Args:
      words: the arguments of the program.
      program_name: name of a program of this environment.
    """
    first, *rest = program(program_name)
    found = shutil.which(program_name)
    if found and os.path.realpath(found) == os.path.realpath(first):
        first = program_name
    else:
        relative = os.path.relpath(first)
        if not relative.startswith(os.pardir):
            first = relative if os.sep in relative else os.path.join(".", relative)
    return shlex.join([first, *rest, *words])


def options_in_force(args: Settings, *names: str) -> list[str]:
    """Returns the words for those of the named options that differ from the defaults.

    Args:
      args: the values of the options.
      names: names of options, without `--`. Options that `args` lacks are left out.
    """
    result = []
    for name in names:
        value = getattr(args, name.replace("-", "_"), None)
        if not value or value == DEFAULTS.get(name):
            continue
        for each in value if isinstance(value, tuple) else [value]:
            if each is True:
                result.append(f"--{name}")
            elif str(each).startswith("-"):  # else read as an option
                result.append(f"--{name}={each}")
            else:
                result += [f"--{name}", str(each)]
    return result


def push_options(args: Settings, resolved: loading.PipelineConfig) -> list[str]:
    """Returns the option words with which a command finds a run's pushed model."""
    result = options_in_force(args, "root")
    for field in dataclasses.fields(PushConfig):
        value = getattr(resolved.push, field.name)
        if value != field.default:
            result += ["--set", format_setting(f"push.{field.name}", value)]
    return result


def next_commands(
    args: Settings,
    resolved: loading.PipelineConfig,
    *,
    destination: str,
    is_served: bool,
) -> list[tuple[str, str]]:
    """Returns pairs of a purpose and a shell command, for what to do after a run.

    Args:
      args: the arguments of the run.
      resolved: the configuration of the run.
      destination: absolute path, or URI, of the folder of versions.
      is_served: whether a version is served at the destination.
    """
    result = []
    if is_served:
        push = push_options(args, resolved)
        result += [
            ("new digits, in digits.png", line("generate", *push)),
            ("over HTTP, as TensorFlow Serving does", line("serve", *push)),
        ]
        # TensorFlow Serving reads no S3 since 2.7 (tensorflow/serving#1963).
        folder = filesystems.local_path(destination)
        if folder is not None:
            docker = docker_line(folder, resolved.push.model_name)
            result.append(("TensorFlow Serving itself", docker))
    curves = os.path.join(args.root, "artifacts", "Trainer", "model_run")
    tensorboard = line("--logdir", curves, program_name="tensorboard")
    result.append(("the curves of the training", tensorboard))
    settings = options_in_force(args, "root", "data-dir", *SETTINGS)
    if better := _BETTER.get(args.preset, loading.DEFAULT):
        others = options_in_force(args, "replicas", "warm-start", "beam-arg")
        preset = [] if better == loading.DEFAULT else ["--preset", better]
        result.append(("a better model", line("run", *preset, *settings, *others)))
    preset = options_in_force(args, "preset")
    evaluate = line("evaluate", "--iwae", "1000", *preset, *settings)
    result.append(("nearer to log p(x)", evaluate))
    return result


def docker_line(folder: str, name: str) -> str:
    """Returns the docker command that serves a folder of versions.

    The container runs TensorFlow Serving.

    Args:
      folder: absolute path of the folder of versions.
      name: name of the model in the server's URL paths.
    """
    fields = ["type=bind", f"source={folder}", f"target=/models/{name}", "readonly"]
    mount = io.StringIO()
    csv.writer(mount, lineterminator="").writerow(fields)  # docker reads --mount as CSV
    words = ["docker", "run", "-p", "8501:8501", "--mount", mount.getvalue()]
    if re.fullmatch(r"[\w.-]+", name):
        words += ["-e", f"MODEL_NAME={name}", "tensorflow/serving"]
    else:  # the image's own start script splits other names into words
        words += ["--entrypoint", "tensorflow_model_server", "tensorflow/serving"]
        words += ["--rest_api_port=8501", f"--model_name={name}"]
        words += [f"--model_base_path=/models/{name}"]
    return shlex.join(words)
