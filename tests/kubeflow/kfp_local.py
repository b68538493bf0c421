"""Runs a compiled pipeline by KFP's own local runner, each step in a container.

    python kfp_local.py PIPELINE.yaml ROOT ARGUMENTS MOUNTS

ARGUMENTS are the run's parameters and MOUNTS folders here by folders in the container,
both in JSON. It is run in the project's image, for that has a KFP that can do this,
whatever the host has.
"""

import json
import os
import sys

import docker
import kfp.components
import kfp.local
from kfp.local import docker_task_handler


def run_docker_container(client, image, command, volumes, **options) -> int:
    """Runs a container to its end; returns its exit code.

    In place of KFP 2.16's: that lets the engine remove the container, and where it is
    gone before it was asked for its exit code, takes a failed step for a success.
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
    os.umask(0)  # the steps, of another user, write into the folders made here
    os.makedirs(root)
    docker_task_handler.run_docker_container = run_docker_container
    kfp.local.init(
        runner=kfp.local.DockerRunner(
            # KFP refuses `volumes`.
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
