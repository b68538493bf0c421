"""The two ways in which tests start a step: in a container, or as a process."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

from tests.kubeflow.cluster import Container

ROOT = pathlib.Path(__file__).parents[2]

# A user id that the image does not contain, as OpenShift assigns one.
ANY_USER = "1000680000:0"

# The privileges of Kubernetes' "restricted" standard, and a read-only root: a step can
# write only to /tmp and to the folders of Kubeflow's launcher.
RESTRICTED = (
    f"--user={ANY_USER}",
    "--read-only",
    "--tmpfs=/tmp",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
)


# In bytes: the space for the image's stages and layers during the build, and a reserve.
ROOM = 25e9


class Unavailable(RuntimeError):
    """No container engine is available here; the message gives the reason."""


class Engine:
    """Podman or docker, whichever works; podman.sh may install podman as root."""

    def __init__(self, folder: pathlib.Path):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < ROOM:
            raise Unavailable(
                f"{folder} has {free / 1e9:.0f} GB free, and to build the image takes "
                f"up to {ROOM / 1e9:.0f} GB"
            )
        self._folder = folder
        self.environment = _environment_of_podman(folder)
        configured = "CONTAINERS_CONF" in self.environment
        self.name = "docker" if not configured and shutil.which("docker") else "podman"

    @contextlib.contextmanager
    def api(self):
        """Yields the path of a socket with the API that Docker's clients use."""
        environment = _environment_of_podman(self._folder, "socket")
        host = environment.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        yield host.removeprefix("unix://")
        service = self._folder / "service.pid"
        if service.exists():  # docker's own service keeps running
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(service.read_text()), signal.SIGTERM)
            service.unlink()

    def call(self, *args: str, **options) -> subprocess.CompletedProcess:
        return subprocess.run([self.name, *args], env=self.environment, **options)

    def build(self) -> str:
        """Builds the image and returns its full name."""
        name = "vae-pipeline:test"
        build = ("build", "--tag", name, str(ROOT))
        done = self.call(*build, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert done.returncode == 0, done.stdout.decode(errors="replace")
        return name if self.name == "docker" else f"localhost/{name}"

    def start(self, container: Container, log: pathlib.Path) -> int:
        """Starts a container with the restrictions that Kubernetes may set.

        Implements `cluster.Start`.
        """
        mounts = [
            f"--volume={at_host}:{at}" for at, at_host in container.mounts.items()
        ]
        # The values come from the environment, as a process list shows the command
        # line.
        variables = [f"--env={name}" for name in container.environment]
        with log.open("w", encoding="utf-8") as file:
            return subprocess.run(
                [
                    *(self.name, "run", "--rm", f"--name={container.name}"),
                    *("--network=host", *RESTRICTED),
                    *(*mounts, *variables, container.image, *container.command),
                ],
                env={**self.environment, **container.environment},
                stdout=file,
                stderr=subprocess.STDOUT,
            ).returncode


def _environment_of_podman(folder: pathlib.Path, *options: str) -> dict[str, str]:
    """Returns the environment that podman.sh prints for the engine."""
    script = [str(ROOT / "tests/kubeflow/podman.sh"), str(folder), *options]
    done = subprocess.run(script, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise Unavailable("tests/kubeflow/podman.sh could not get podman: see above")
    # The lines are `export NAME=VALUE`, quoted for a shell.
    shell = f"{done.stdout}\nexec env -0"
    found = subprocess.run(["bash", "-c", shell], stdout=subprocess.PIPE, check=True)
    pairs = (pair.partition(b"=") for pair in found.stdout.split(b"\0") if pair)
    return {os.fsdecode(key): os.fsdecode(value) for key, _, value in pairs}


def start_process(container: Container, log: pathlib.Path) -> int:
    """Starts a step's command as a process, without a container.

    Implements `cluster.Start`. The launcher's folders are not at /minio, which needs
    root and would remain.
    """
    minio = container.mounts["/minio"]
    python, *module = container.command[:3]
    assert [python, *module] == ["python", "-m", "pipeline.kubeflow.entrypoint"]
    code = (
        "import json, sys; from pipeline.kubeflow import entrypoint;"
        "sys.exit(entrypoint.main(sys.argv[2:], json.loads(sys.argv[1])))"
    )
    folders = json.dumps({"minio": str(minio), "s3": f"{minio}-s3"})
    with log.open("w", encoding="utf-8") as file:
        return subprocess.run(
            [sys.executable, "-c", code, folders, *container.command[3:]],
            env={**os.environ, **container.environment, "TMPDIR": str(log.parent)},
            cwd=ROOT,
            stdout=file,
            stderr=subprocess.STDOUT,
        ).returncode
