"""Latency and throughput of `serve`, as ratios to no batching: `make bench-serve`.

The model is the default preset's with its initial weights. A request asks for the
`elbo` of one image, or of 32 images. Each client sends its next request when it has
its answer. Server and clients are two processes that share the machine's cores. The
baseline is the same server with `--max-batch 1`; the two servers take turns.
"""

import asyncio
import itertools
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

import aiohttp
import numpy as np

from components.registry.manifest import Manifest
from pipeline.config import loading
from tests.support.pushes import push_next

CLIENTS, IMAGES = (1, 4, 16, 64), (1, 32)
SERVERS = {"batching": [], "no batching": ["--max-batch", "1"]}
# rounds of each measurement; servers take turns as the machine's speed changes
ROUNDS = 3
SECONDS = 3.0  # measured part of a round, after a warm-up of a third of it
BODIES = 8


class Measured(NamedTuple):
    """Latency and throughput over all requests of one measurement."""

    p50: float  # milliseconds
    p99: float
    images: float  # images/s


def main() -> None:
    """Starts both servers, measures them, and prints a table."""
    with tempfile.TemporaryDirectory() as root:
        _push(f"{root}/serving/vae")
        servers = {name: _start(root, flags) for name, flags in SERVERS.items()}
        try:
            _measure_all({name: url for name, (_, url) in servers.items()})
        finally:
            for process, _ in servers.values():
                process.terminate()
                process.wait()


def _push(destination: str) -> None:
    from model import export
    from model.vae import VAE

    resolved = loading.resolve(loading.DEFAULT)
    with tempfile.TemporaryDirectory() as folder:
        gate = resolved.gate
        export.export(VAE(resolved.model), folder, samples=gate.samples, seed=gate.seed)
        push_next(folder, destination=destination, manifest=Manifest.from_content({}))


def _start(root: str, flags: list[str]) -> tuple[subprocess.Popen, str]:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "pipeline", "serve"),
            *("--root", root, "--port", "0", *flags),
        ],
        stderr=subprocess.PIPE,
        text=True,
        cwd=pathlib.Path(__file__).parents[2],
    )
    url = ""
    for line in process.stderr:
        if found := re.search(r"listening on (\S+)", line):
            url = found[1]
        if "serving version" in line:
            break
    return process, url


def _measure_all(urls: dict[str, str]) -> None:
    print(
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; times in ms; in "
        "brackets the ratio to no batching"
    )
    print("| Images a request | Clients | p50 | p99 | Images/s | without: p50 | p99 |")
    print("|---|---|---|---|---|---|---|")
    for images, clients in itertools.product(IMAGES, CLIENTS):
        times: dict[str, list[float]] = {name: [] for name in urls}
        for _ in range(ROUNDS):
            for name, url in urls.items():
                times[name] += asyncio.run(_round(url, images, clients))
        ours, base = (_measured(times[name], images) for name in SERVERS)
        print(
            f"| {images} | {clients} | {ours.p50:.1f} | {ours.p99:.1f} | "
            f"{ours.images:,.0f} ({ours.images / base.images:.2f}) | "
            f"{base.p50:.1f} | {base.p99:.1f} |",
            flush=True,
        )


def _measured(times: list[float], images: int) -> Measured:
    p50, p99 = np.percentile(np.array(times) * 1e3, [50, 99])
    return Measured(p50, p99, len(times) * images / (ROUNDS * SECONDS))


async def _round(url: str, images: int, clients: int) -> list[float]:
    """Returns the seconds that each request of one round took."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 2, [BODIES, images, 28, 28, 1])
    contents = ({"signature_name": "elbo", "instances": p.tolist()} for p in pixels)
    bodies = itertools.cycle([json.dumps(content) for content in contents])
    times: list[tuple[float, float]] = []  # (end, duration) of each request, in seconds
    end = time.monotonic() + SECONDS * 4 / 3

    async def client(session: aiohttp.ClientSession) -> None:
        while (started := time.monotonic()) < end:
            async with session.post(f"{url}:predict", data=next(bodies)) as answer:
                await answer.read()
                assert answer.status == 200
            times.append((time.monotonic(), time.monotonic() - started))

    connector = aiohttp.TCPConnector(limit=clients)
    async with aiohttp.ClientSession(connector=connector) as session:
        await asyncio.gather(*(client(session) for _ in range(clients)))
    return [took for ended, took in times if end - SECONDS <= ended <= end]


if __name__ == "__main__":
    main()
