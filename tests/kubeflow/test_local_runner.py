"""The image by itself, and the compiled pipeline in it under KFP's own local runner.

The tests share one folder and run in order: the version that the image pushes in one
container is the baseline of KFP's run. `make test-containers` runs them.
"""

import json
import os
import pathlib
import re
import subprocess
import tempfile

import pytest
import yaml

from components.registry import listing
from pipeline.config.loading import resolve
from pipeline.kubeflow import compiler
from tests.kubeflow.engine import RESTRICTED
from tests.support.bars import write_idx

STEPS = 16
SETTINGS = ("data.dataset=bars", "data.limit=null", "train.epochs=8")
SERVING = "/state/runs/serving"  # the destination of the image's own run
SCRATCH = ("/tmp", "/minio", "/s3", "/gcs")  # noqa: S108, in a container


@pytest.fixture(scope="module")
def local(engine, image):
    """Yields a Local with data, a push destination, and the engine's API."""
    if engine is None:
        pytest.skip("NO CONTAINERS WERE RUN: see the warning")
    with tempfile.TemporaryDirectory() as folder, engine.api() as socket:
        os.chmod(folder, 0o755)  # noqa: S103
        yield Local(pathlib.Path(folder), engine, socket, image)


class Local:
    """KFP's own local runner, and the folders that its steps can read and write."""

    def __init__(self, folder, engine, socket, image):
        self.folder, self.engine, self.image = folder, engine, image
        self.socket = socket
        self.runs = 0
        write_idx(folder / "bars", labels=range(10))
        for name in ("state", "outputs"):
            (folder / name).mkdir()
        self.open_to_all()

    def open_to_all(self):
        """Lets every user write to all folders, as each container has another user."""
        for path in self.folder.rglob("*"):
            path.chmod(0o777 if path.is_dir() else 0o666)

    def run(self, *settings, **parameters):
        """Returns the exit code, the output, and the steps that wrote a report."""
        self.runs += 1
        self.open_to_all()
        path = self.folder / "pipeline.yaml"
        mounts = {f"/{name}": name for name in ("state", "bars")}
        config = resolve(
            "smoke",
            None,
            settings=[
                *SETTINGS,
                "data.source=/bars",
                "kubeflow.data_dir=/state/data",
                f"push.destination={SERVING}",
                "kubeflow.volumes={/state: state, /bars: bars}",
                *settings,
            ],
        )
        compiler.compile_pipeline(config, str(path), image=self.image)
        # Without the claims, which are for Kubernetes: here, the folders are mounted.
        spec, _ = yaml.safe_load_all(path.read_text())
        path.write_text(yaml.safe_dump(spec))
        root = self.folder / "outputs" / str(self.runs)
        script = pathlib.Path(__file__).with_name("kfp_local.py")
        done = self.engine.call(
            *("run", "--rm", "--user=0", "--network=host"),
            f"--volume={self.socket}:{self.socket}",
            f"--env=DOCKER_HOST=unix://{self.socket}",
            *(f"--volume={self.folder}:{self.folder}", f"--volume={script}:/run.py:ro"),
            *(self.image, "python", "/run.py", str(path), str(root)),
            json.dumps(parameters),
            json.dumps({at: str(self.folder / name) for at, name in mounts.items()}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        # Every successful step writes a report; KFP alone may call a failed step
        # successful.
        reports = {file.parent.name for file in root.glob("*/*/executor_output.json")}
        return done.returncode, done.stdout, reports

    def served(self):
        """Returns the served version, read from outside the containers."""
        return listing.find_served_version(f"{self.folder}{SERVING}/vae")


@pytest.mark.containers
def test_the_image_runs_the_pipeline_itself(local):
    """All steps run in one container with its state in a mounted folder: set-up.md."""
    done = local.engine.call(
        *("run", "--rm", *RESTRICTED, f"--volume={local.folder / 'state'}:/state"),
        *(f"--volume={local.folder / 'bars'}:/bars:ro", local.image),
        *("vae-pipeline", "run", "--preset=smoke", "--dataset=bars", "--source=/bars"),
        *("--set=data.limit=null", "--set=train.epochs=8"),
        *("--root=/state/runs", "--data-dir=/state/data"),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "verdict          │ BLESSED" in done.stdout
    listing.verify_version(local.served())


@pytest.mark.containers
def test_kfps_local_runner_meets_the_baseline_and_pushes(local):
    first = local.served()
    # A longer training, so that the gate's ratchet blesses the model.
    code, printed, reports = local.run(epochs=10)
    assert code == 0, printed
    assert len(reports) == STEPS
    assert f"the baseline is version {first.number}" in printed
    second = local.served()
    assert second.number > first.number
    assert second.manifest.content["baseline"]["version"] == first.number
    listing.verify_version(second)


@pytest.mark.containers
def test_a_step_that_fails_fails_kfps_local_runner(local):
    served = local.served()
    code, printed, reports = local.run("data.source=/state/nowhere")
    assert code != 0
    assert "Ingest failed: " in printed
    assert "Task 'ingest' finished with status FAILURE" in plain(printed)
    assert not reports & {"ingest", "statistics-gen"}
    assert local.served() == served


@pytest.mark.containers
def test_a_step_has_no_rights_and_only_scratch_folders(local):
    probe = (
        "grep -E '^(Uid|CapEff|NoNewPrivs)' /proc/self/status; "
        f"for folder in / /home/vae /opt/venv {' '.join(SCRATCH)}; do "
        "touch $folder/probe 2>/dev/null && echo writes to $folder; done"
    )
    mounts = (f"--tmpfs=/{name}:mode=1777" for name in ("minio", "s3", "gcs"))
    done = local.engine.call(
        *("run", "--rm", *RESTRICTED, *mounts, local.image, "sh", "-c", probe),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.stdout.split("\n")[:-1] == [
        "Uid:" + "\t1000680000" * 4,
        "CapEff:\t0000000000000000",
        "NoNewPrivs:\t1",
        *(f"writes to {folder}" for folder in SCRATCH),
    ]


@pytest.mark.containers
def test_the_image_lists_what_is_in_it(local):
    done = local.engine.call(
        *("run", "--rm", local.image, "cat", "/usr/share/sbom.cdx.json"),
        stdout=subprocess.PIPE,
        check=True,
    )
    components = json.loads(done.stdout)["components"]
    listed = {f"{found['name']}@{found['version']}" for found in components}
    installed = local.engine.call(
        *("run", "--rm", local.image, "python", "-c"),
        "import importlib.metadata as m;"
        "print(*(f'{d.name}@{d.version}' for d in m.distributions()), sep='\\n')",
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.split()
    assert len(installed) > 100
    assert set(installed) <= listed
    purls = [found.get("purl", "") for found in components]
    assert any(purl.startswith("pkg:deb/debian/openssl@") for purl in purls)


def plain(text):
    """Returns the text without terminal colours."""
    return re.sub(r"\x1b\[\d+m", "", text)
