"""The exit code of each error, and the output when the program has a defect."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from components import data_gate, elbo_drift, infra_check
from components.datasets import fingerprint, idx
from components.evaluation import gate_result, measure, scores
from components.registry import (
    listing,
    manifest,
    publish,
    push_lock,
    retiring,
    rolling_back,
    served_pointer,
    signed_version,
    signing,
    signing_keys,
    version_numbers,
)
from components.reporting import measurements
from model.errors import PipelineError
from model.files import filesystems, regular_files, safe_paths, secret_values
from model.training import devices, loop, tf_config
from pipeline import exit_codes
from pipeline.cli import image_files, main, pushed_model
from pipeline.config import loading, strict_yaml
from pipeline.kubeflow import client, watch
from pipeline.local import metadata_database, run_report, steps, unused_artifacts
from pipeline.runs import lock, notify, run_record, webhook

# As in the README: 2 is for bad input, 1 for all other failures.
CODES = {
    PipelineError: 1,
    # Errors of the user's input.
    fingerprint.DamagedError: 2,
    idx.DataError: 2,
    idx.SplitError: 2,
    image_files.ImageError: 2,
    listing.NoVersionError: 2,
    loading.ConfigError: 2,
    retiring.RetirementError: 2,
    rolling_back.RollbackError: 2,
    served_pointer.UnconditionalStoreError: 2,
    run_report.ReportError: 2,
    secret_values.SecretError: 2,
    signing.NoSigningKeyError: 2,
    signing_keys.SigningKeyError: 2,
    strict_yaml.YamlError: 2,
    tf_config.TFConfigError: 2,
    # Failures of the work.
    client.ClusterError: 1,
    data_gate.DataAnomalyError: 1,
    data_gate.DriftError: 1,
    devices.DeviceError: 1,
    elbo_drift.ElboDriftError: 1,
    filesystems.StorageError: 1,
    gate_result.GateResultError: 1,
    idx.DataAccessError: 1,
    infra_check.ProbeError: 1,
    listing.VersionError: 1,
    lock.LockedError: 1,
    loop.TrainingError: 1,
    manifest.ManifestError: 1,
    measure.SignatureError: 1,
    measurements.MeasurementError: 1,
    metadata_database.MetadataError: 1,
    notify.NotifyError: 1,
    publish.OvertakenError: 1,
    push_lock.PushLockError: 1,
    pushed_model.PushedModelError: 1,
    regular_files.IrregularFileError: 1,
    rolling_back.RejectionError: 1,
    run_record.RunRecordError: 1,
    safe_paths.PathError: 1,
    served_pointer.ServedPointerError: 1,
    scores.ScoresError: 1,
    signed_version.InvalidSignatureError: 1,
    steps.BadDataError: 1,
    steps.RunError: 1,
    unused_artifacts.PruneError: 1,
    version_numbers.NoNumberError: 1,
    watch.UnreadableGateResultError: 1,
    webhook.WebhookError: 1,
}

# Commands that read the versions, each with its own error handling.
COMMANDS = {
    "evaluate": [],
    "generate": [],
    "prune": ["--keep", "1"],
    "reconstruct": ["one.png"],
    "rollback": ["--reason", "why"],
    "run": ["--preset", "smoke"],
    "score": ["one.png"],
    "versions": [],
}
MESSAGE = "operands could not be broadcast together with shapes (2,) (3,)"


def add_different_shapes(*args, **kwargs):
    """Raises a ValueError of NumPy."""
    return np.zeros(2) + np.zeros(3)


@pytest.mark.parametrize("leaf", CODES, ids=lambda leaf: leaf.__name__)
def test_each_error_has_its_exit_code(leaf):
    assert exit_codes.find_exit_code(leaf("why")) == CODES[leaf]


def leaves_of(error):
    for leaf in error.__subclasses__():
        yield from (leaf, *leaves_of(leaf))


def test_no_error_is_without_a_code():
    """Errors of the server have HTTP's codes; those within one module need none."""
    missing = [
        leaf.__name__
        for leaf in leaves_of(PipelineError)
        if leaf not in CODES
        and not leaf.__name__.startswith("_")
        and not leaf.__module__.startswith("pipeline.serving.")
    ]
    assert missing == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("why"), 1),
        (OSError(5, "Input/output error"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_another_exception_has_the_code_of_a_failure(error, code):
    assert exit_codes.find_exit_code(error) == code


def raise_from_numpy(error):
    try:
        add_different_shapes()
    except ValueError as cause:
        raise error from cause


def test_the_cause_of_an_error_for_people_is_its_own_text():
    with pytest.raises(loading.ConfigError) as error:
        raise_from_numpy(loading.ConfigError("a must be b\nand more"))
    assert exit_codes.describe_cause(error.value) == "a must be b"


def test_the_cause_of_another_exception_has_the_name_of_its_class():
    with pytest.raises(RuntimeError) as error:
        raise_from_numpy(RuntimeError("something failed"))
    assert exit_codes.describe_cause(error.value).rstrip() == f"ValueError: {MESSAGE}"


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_reports_a_fault_of_the_program_as_bad_input(
    command, tmp_path, monkeypatch, capsys
):
    for name in ("list_versions", "find_served_and_damaged"):
        monkeypatch.setattr(listing, name, add_different_shapes)
    arguments = ["--root", str(tmp_path), *COMMANDS[command]]
    with pytest.raises(ValueError, match="could not be broadcast"):
        main.main([command, *arguments])
    assert f"vae-pipeline: {MESSAGE}" not in "".join(capsys.readouterr())


def test_a_fault_of_the_program_shows_its_traceback_there_and_in_the_log(tmp_path):
    program = (
        "import numpy as np\n"
        "from components.registry import listing\n"
        "from pipeline.__main__ import main\n"
        "def add(destination, verifier): return np.zeros(2) + np.zeros(3)\n"
        "listing.find_served_and_damaged = add\n"
        "main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, "evaluate", "--root", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=pathlib.Path(__file__).parents[2],
    )
    (log,) = (tmp_path / "logs").iterdir()
    for text in (result.stderr, log.read_text(encoding="utf-8")):
        assert "Traceback (most recent call last)" in text
        assert f"ValueError: {MESSAGE}" in text
    assert "vae-pipeline: " not in result.stdout + result.stderr
    assert result.returncode == 1
