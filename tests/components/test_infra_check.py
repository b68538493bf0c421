"""InfraCheck, with exports that can be served and exports that cannot."""

import os
import pathlib
import signal
import threading
import time

import pytest
import tensorflow as tf
from tfx.components.util import model_utils
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from components import infra_check
from components.infra_check import InfraCheck, ProbeError, find_refusal
from model import export
from model.vae import VAE
from tests.support.configs import demo_model
from tests.support.probed_models import of_images, save_model


@of_images
def refusing(images):
    check = tf.debugging.Assert(False, ["these images are not to my taste"])
    with tf.control_dependencies([check]):
        return {"mean": tf.identity(images), "mode": images}


# The whole step, each time with a probe in a process of its own.

TIMEOUT = 1_800  # seconds


@pytest.fixture
def model(tmp_path):
    model = standard_artifacts.Model()
    model.uri = str(tmp_path / "model")
    return model


@pytest.fixture
def blessing(tmp_path):
    blessing = standard_artifacts.InfraBlessing()
    blessing.uri = str(tmp_path / "blessing")
    os.mkdir(blessing.uri)
    return blessing


def test_a_real_export_is_blessed(model, blessing):
    vae = VAE(demo_model(hidden_units=8, latent_size=2))
    export.export(vae, path_utils.serving_model_dir(model.uri), samples=2, seed=0)
    InfraCheck.test_call(model=model, blessing=blessing, timeout=TIMEOUT)
    assert model_utils.is_infra_validated(blessing)
    assert not blessing.has_custom_property("reason")
    assert os.listdir(blessing.uri) == ["INFRA_BLESSED"]


def test_why_an_export_is_not_blessed_stands_in_one_line(model, blessing):
    save_model(path_utils.serving_model_dir(model.uri), {"serving_default": refusing})
    InfraCheck.test_call(model=model, blessing=blessing, timeout=TIMEOUT)
    assert not model_utils.is_infra_validated(blessing)
    reason = blessing.get_string_custom_property("reason")
    assert reason.startswith("InvalidArgumentError: ")
    assert "\n" not in reason
    assert "these images are not to my taste" in reason
    [path] = pathlib.Path(blessing.uri).iterdir()
    assert path.name == "INFRA_NOT_BLESSED"
    assert path.read_text() == reason


def test_no_answer_in_time_decides_nothing(model, blessing):
    save_model(path_utils.serving_model_dir(model.uri), {})
    with pytest.raises(ProbeError) as error:
        InfraCheck.test_call(model=model, blessing=blessing, timeout=1)
    assert str(error.value) == (
        "the model must answer every signature within 1 s, and did not: the model is "
        "neither blessed nor refused. Run again when the machine is less busy, or "
        "raise gate.infra_timeout"
    )
    assert not blessing.has_custom_property("blessed")
    assert os.listdir(blessing.uri) == []


def test_a_folder_that_is_not_there_decides_nothing(tmp_path):
    with pytest.raises(FileNotFoundError):
        find_refusal(str(tmp_path / "absent"), TIMEOUT)


def endless(started):
    """Returns a signature that writes the file `started` and never answers."""

    @of_images
    def answer(images):
        with tf.control_dependencies([tf.io.write_file(str(started), "")]):
            i = tf.while_loop(lambda i: i >= 0, lambda i: 1 - i, [tf.constant(0)])[0]
        return {"mean": images, "mode": images + tf.cast(i, tf.float32)}

    return answer


def send_to_probes(folder, started, signals):
    """Sends signals to the probes of a folder: one signal to each started probe."""
    for signum in signals:
        while not started.exists():
            time.sleep(0.05)
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes().split(b"\0")
            except FileNotFoundError:  # the process has ended
                continue
            if folder.encode() in command:
                started.unlink()
                os.kill(int(process.name), signum)


def probed(tmp_path, signals):
    started = tmp_path / "started"
    folder = save_model(tmp_path / "model", {"serving_default": endless(started)})
    threading.Thread(
        target=send_to_probes, args=(folder, started, signals), daemon=True
    ).start()
    return find_refusal(folder, TIMEOUT)


def test_sigkill_in_the_midst_of_an_answer_decides_nothing(tmp_path):
    """The kernel sends SIGKILL when the memory is used up."""
    with pytest.raises(ProbeError) as error:
        probed(tmp_path, [signal.SIGKILL])
    assert str(error.value) == (
        "the process that calls every signature was ended by SIGKILL, as the kernel "
        "does when memory runs out: the model is neither blessed nor refused. Fix the "
        "machine and run again"
    )


def test_a_model_in_which_two_processes_crash_is_refused(tmp_path):
    reason = probed(tmp_path, [signal.SIGSEGV, signal.SIGABRT])
    assert reason == "2 fresh processes crashed, with SIGSEGV and SIGABRT"


# Other ends of the process, with a script in place of the probe.


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Returns a function that probes with a script: one statement for each process."""

    def run(*statements):
        count = tmp_path / "count"
        count.write_text("0")
        path = tmp_path / "script.py"
        path.write_text(
            "import json, os, pathlib, signal, sys\n"
            f"count = pathlib.Path({str(count)!r})\n"
            "turn = int(count.read_text())\n"
            "count.write_text(str(turn + 1))\n"
            "def begin(): print('{}', flush=True)\n"
            "def answer(text): begin(); print(json.dumps({'refusal': text}))\n"
            f"exec({list(statements)!r}[turn])\n"
        )
        monkeypatch.setattr(infra_check, "_PROBE", path)
        reason = find_refusal(str(tmp_path), TIMEOUT)
        assert count.read_text() == str(len(statements))
        return reason

    return run


def crash(signum, words=""):
    # The process that started the tests may have ignored the signal.
    return (
        f"begin(); print({words!r}, file=sys.stderr); "
        f"signal.signal({signum}, signal.SIG_DFL); os.kill(os.getpid(), {signum})"
    )


def test_a_crash_and_then_a_good_answer_is_blessed(script, caplog):
    assert script(crash(signal.SIGSEGV), "answer(None)") is None
    assert "a probe crashed with SIGSEGV, the next one answered" in caplog.text


def test_a_crash_and_then_a_fault_is_refused_for_the_fault(script):
    assert script(crash(signal.SIGFPE), "answer('no elbo')") == "no elbo"


@pytest.mark.parametrize(
    ("statements", "why"),
    [
        ([crash(signal.SIGTERM)], "was ended by SIGTERM"),
        ([crash(signal.SIGINT)], "was ended by SIGINT"),
        ([crash(signal.SIGBUS)], "was ended by SIGBUS"),
        ([crash(signal.SIGILL)], "was ended by SIGILL"),
        ([crash(40)], "was ended by signal 40"),
        ([crash(signal.SIGSEGV), crash(signal.SIGTERM)], "was ended by SIGTERM"),
        (
            [crash(signal.SIGABRT, "what():  std::bad_alloc")],
            "was ended by SIGABRT (bad_alloc)",
        ),
        # before the probe calls the model
        (["os.kill(os.getpid(), 11)"], "was ended by SIGSEGV"),
        (["begin(); sys.exit('no space')"], "ended with exit code 1 (no space)"),
        (["begin()"], "ended with exit code 0 (it printed nothing)"),
        (["raise MemoryError"], "ended with exit code 1 (MemoryError)"),
    ],
)
def test_another_end_of_the_process_decides_nothing(script, statements, why):
    with pytest.raises(ProbeError) as error:
        script(*statements)
    assert str(error.value) == (
        f"the process that calls every signature {why}: the model is neither blessed "
        "nor refused. Fix the machine and run again"
    )
