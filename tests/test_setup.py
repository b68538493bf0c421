"""The script `.ci/setup` on systems that lack tools: PATH has only what they have."""

import pathlib
import shutil
import subprocess

import pytest

SCRIPT = pathlib.Path(__file__).parents[1] / ".ci" / "setup"
TOOLS = ("bash", "sed", "sort", "head", "cut", "dirname", "grep", "uname")
APT = "    sudo apt-get install "

# What the script asks a Python 3.13 that has all that is needed.
PYTHON_3_13 = """
case "$2" in
  *%d.%d* | *'sys.version)'*) echo 3.13 ;;
  *sys.executable*) echo "$0" ;;
  *) exit 0 ;;
esac"""

pytestmark = pytest.mark.skipif(
    not SCRIPT.exists(), reason="the image holds no set-up script"
)


@pytest.fixture
def run_setup(tmp_path):
    """Returns a function that runs the script as on a system with a given glibc."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for tool in TOOLS:
        (programs / tool).symlink_to(shutil.which(tool))
    (tmp_path / "clone" / ".ci").mkdir(parents=True)
    script = shutil.copy(SCRIPT, tmp_path / "clone" / ".ci")

    def write_program(name, text):
        (programs / name).unlink(missing_ok=True)
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)

    def run(*, glibc, stack=None, programs_there=None, variables=None, stream="stderr"):
        write_program("getconf", f"echo glibc {glibc}")
        for name, text in (programs_there or {}).items():
            write_program(name, text)
        environment = {"PATH": str(programs), "HOME": str(tmp_path)}
        environment |= variables or {}
        if stack is not None:
            environment["STACK"] = stack
        done = subprocess.run(
            [str(programs / "bash"), script],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        return getattr(done, stream)

    return run


def test_a_new_system_gets_one_line_for_all_that_is_missing(run_setup):
    message = run_setup(glibc="2.41")
    assert message.splitlines() == [
        "set-up: the current stack needs what is not there:",
        "    a C++ compiler (pyfarmhash has no wheel)",
        "    Python 3.11, 3.12 or 3.13, its headers and its venv module",
        "On Debian or Ubuntu, type:",
        f"{APT}g++ python3 python3-dev python3-venv",
    ]


def test_an_old_system_gets_one_line_for_all_and_a_python(run_setup):
    message = run_setup(glibc="2.36")
    assert message.splitlines() == [
        "set-up: the compatible stack needs what is not there:",
        "    a C++ compiler (pyfarmhash has no wheel)",
        "    Python 3.10 (glibc is 2.36, and the stack of a newer Python takes 2.39)",
        "On Debian or Ubuntu, type:",
        f"{APT}g++ pipx && pipx run uv python install 3.10",
        "A Python 3.10 of pyenv's (https://github.com/pyenv/pyenv) will do as well.",
    ]


def test_an_old_system_that_has_uv_needs_no_pipx(run_setup):
    message = run_setup(glibc="2.36", programs_there={"c++": "exit 0", "uv": "exit 0"})
    assert message.splitlines()[1:4] == [
        "    Python 3.10 (glibc is 2.36, and the stack of a newer Python takes 2.39)",
        "On Debian or Ubuntu, type:",
        "    uv python install 3.10",
    ]


@pytest.mark.parametrize(
    ("glibc", "system"), [("2.41", "Debian 13, Ubuntu 24.04"), ("2.36", "Debian 12")]
)
@pytest.mark.parametrize("page", ["README.md", "docs/how-to/set-up.md"])
def test_the_documented_line_gets_what_the_set_up_needs(run_setup, glibc, system, page):
    text = (SCRIPT.parents[1] / page).read_text(encoding="utf-8")
    (line,) = (
        each.removesuffix(f"    # {system}")
        for each in text.splitlines()
        if each.endswith(f"    # {system}")
    )
    printed = APT.strip() + " git make "  # what the clone takes, and `make setup`
    (needed,) = (
        each.removeprefix(APT)
        for each in run_setup(glibc=glibc).splitlines()
        if each.startswith(APT)
    )
    assert line == printed + needed


def test_a_python_without_headers_and_venv_needs_its_own_packages(run_setup):
    # Answers as Debian's python3.13 does: prints its version, and lacks the imported
    # modules.
    python = """
    case "$2" in
      *version_info*3,13*) exit 0 ;;
      *sys.executable*) echo "$0" ;;
      *%d.%d*) echo 3.13 ;;
      *) exit 1 ;;
    esac"""
    message = run_setup(
        glibc="2.41", programs_there={"python3.13": python, "c++": "exit 0"}
    )
    assert "a C++ compiler" not in message
    assert message.splitlines()[-1] == f"{APT}python3.13-dev python3.13-venv"


def test_the_compatible_stack_can_be_chosen_on_a_new_system(run_setup):
    message = run_setup(glibc="2.41", stack="compatible")
    assert message.startswith("set-up: the compatible stack needs what is not there:")
    assert "Python 3.10" in message


def test_the_current_stack_is_refused_on_an_old_system(run_setup):
    assert run_setup(glibc="2.36", stack="current").splitlines() == [
        "set-up: STACK=current takes glibc 2.39 or later (Debian 13, Ubuntu 24.04);",
        "this system has 2.36. Leave STACK unset, or set it to compatible.",
    ]


def test_another_stack_is_refused(run_setup):
    message = run_setup(glibc="2.41", stack="newest")
    assert message == "set-up: STACK must be current or compatible, got newest\n"


def test_another_system_is_refused_and_gets_the_image(run_setup):
    uname = 'case "$1" in -s) echo Darwin ;; -m) echo arm64 ;; esac'
    message = run_setup(glibc="2.41", programs_there={"uname": uname})
    assert message.splitlines() == [
        "set-up: TFX's wheels exist for Linux x86_64 only; this is Darwin arm64.",
        "With docker or podman, it runs in its image: see docs/how-to/set-up.md.",
    ]


def test_uv_gets_of_its_variables_only_where_packages_are(run_setup):
    kept = {
        "UV_DEFAULT_INDEX": "https://packages.example/simple",
        "UV_HTTP_TIMEOUT": "300",
        "UV_CACHE_DIR": "/nowhere",
        "PIP_INDEX_URL": "https://packages.example/simple",
    }
    others = {
        "UV_REQUIRE_HASHES": "1",
        "UV_WORKING_DIRECTORY": "/",
        "UV_RESOLUTION": "lowest",
        "PIP_REQUIRE_VIRTUALENV": "1",
        "PYTHONHOME": "/nowhere",
        "PYTHONPATH": "/nowhere",
    }
    message = run_setup(
        glibc="2.41",
        programs_there={
            "python3.13": PYTHON_3_13,
            "c++": "exit 0",
            "uv": f"{shutil.which('env')} >&2; exit 1",  # it stops at `uv venv`
        },
        variables=kept | others,
    )
    passed = dict(line.split("=", 1) for line in message.splitlines())
    assert {name: passed.get(name) for name in kept} == kept
    assert set(passed) & set(others) == set()


def test_the_compilation_has_a_line_that_uv_does_not_print(run_setup):
    uv = """
    case "$*" in
      *" sync "*) echo "Installed 338 packages in 9.05s"; exit 1 ;;
    esac"""
    printed = run_setup(
        glibc="2.41",
        programs_there={"python3.13": PYTHON_3_13, "c++": "exit 0", "uv": uv},
        stream="stdout",
    )
    assert printed.splitlines()[-1] == (
        "set-up: Installed 338 packages in 9.05s; compiling them takes a minute, or "
        "more on a busy machine"
    )
