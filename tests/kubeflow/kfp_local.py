"""A program that runs a compiled pipeline by KFP's own local runner, in containers.

    python kfp_local.py PIPELINE.yaml ROOT ARGUMENTS MOUNTS

ARGUMENTS has the run's parameters by name, and MOUNTS has folders of this machine by
folder in the container, both in JSON. The tests run it in the project's image, which
has a version of KFP with this runner, whatever version the host has.
"""

import json
import os
import sys

import docker
import kfp.components
import kfp.local
from kfp.local import docker_task_handler


def run_docker_container(client, image, command, volumes, **options) -> int:
    """Runs a container until it ends; returns its exit code.

    Replaces KFP 2.16's function. That function lets the engine remove the container,
    and treats a failed step as successful if the container is removed before the
    function reads its exit code.
    """
    container = client.containers.run(
        image, command, detach=True, volumes=volumes, **options
    )
    try:
        for line in container.logs(stream=True):
            sys.stdout.buffer.write(line)
            sys.stdout.flush()
        return container.wait()["StatusCode"]
    finally:
        container.remove(force=True)


def main(path: str, root: str, arguments: str, mounts: str) -> None:
    # the steps have another user, who must write into the folders made here
    os.umask(0)
    os.makedirs(root)
    docker_task_handler.run_docker_container = run_docker_container
    kfp.local.init(
        runner=kfp.local.DockerRunner(
            # KFP rejects `volumes`.
            mounts=[
                docker.types.Mount(at, source, type="bind")
                for at, source in json.loads(mounts).items()
            ],
            network_mode="host",
        ),
        pipeline_root=root,
    )
    pipeline = kfp.components.load_component_from_file(path)
    pipeline(**json.loads(arguments))


if __name__ == "__main__":
    main(*sys.argv[1:])
