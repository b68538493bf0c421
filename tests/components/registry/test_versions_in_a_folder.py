"""Versions in a folder: all are complete, whenever a push is killed."""

import contextlib
import hashlib
import itertools
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from components.registry import listing
from components.registry.manifest import Manifest
from tests.support.places import FILES, write_model
from tests.support.pushes import push_next

ROOT = pathlib.Path(__file__).parents[3]


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "model")


@pytest.fixture
def destination(tmp_path):
    return str(tmp_path / "serving" / "vae")


def numbered(destination):
    """Returns the folders that a model server would take as versions, lowest first."""
    if not os.path.isdir(destination):
        return []
    names = [name for name in os.listdir(destination) if name.isdecimal()]
    return [pathlib.Path(destination, name) for name in sorted(names, key=int)]


def staged(destination):
    return list(pathlib.Path(destination).glob(".staging-*"))


def assert_complete(folder):
    """Asserts that a version has every byte of the model, and its manifest."""
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    manifest = json.loads(found.pop("MANIFEST.json"))
    assert found == FILES
    assert manifest["files"] == digests
    listing.verify_version(
        listing.Version(
            number=int(folder.name),
            path=str(folder),
            manifest=Manifest.from_content(manifest),
        )
    )


def test_others_may_open_a_version(model, destination):
    os.chmod(model, 0o700)
    version = push_next(
        model, destination=destination, manifest=Manifest.from_content({})
    )
    assert os.stat(version.path).st_mode & 0o777 == 0o755


def test_all_is_on_the_disk_before_the_rename(model, destination, monkeypatch):
    steps = []
    fsync, rename = os.fsync, os.rename

    def noted_fsync(descriptor):
        steps.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    def noted_rename(old, new):
        steps.append("rename")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "rename", noted_rename)
    push_next(model, destination=destination, manifest=Manifest.from_content({}))
    before, after = steps[: steps.index("rename")], steps[steps.index("rename") + 1 :]
    staging = os.path.commonpath(before)
    assert {os.path.relpath(path, staging) for path in before} == {
        *FILES,
        "MANIFEST.json",
        "assets",
        "variables",
        ".",
    }
    assert after == [destination]


def test_a_version_that_is_a_link_is_not_a_baseline(model, destination, tmp_path):
    elsewhere = push_next(
        model,
        destination=str(tmp_path / "elsewhere"),
        manifest=Manifest.from_content({}),
    )
    old = push_next(model, destination=destination, manifest=Manifest.from_content({}))
    pathlib.Path(destination, "20000000000").symlink_to(elsewhere.path)
    served, [damaged] = listing.find_served_and_damaged(destination)
    assert served == old
    assert damaged.why == (
        f"20000000000 below {destination} must be no symbolic link, it leads to "
        f"{elsewhere.path}"
    )


@pytest.mark.parametrize("name", ["variables/link", "saved_model.pb", "assets"])
def test_a_version_that_contains_a_link_is_not_a_baseline(
    model, destination, tmp_path, name
):
    old, new = (
        push_next(model, destination=destination, manifest=Manifest.from_content({}))
        for _ in range(2)
    )
    link = pathlib.Path(new.path, name)
    if link.exists():
        link.rename(tmp_path / "moved")
    link.symlink_to(tmp_path / "moved")
    served, [damaged] = listing.find_served_and_damaged(destination)
    assert served == old
    assert damaged.why == (
        f"{name} below {new.path} must be no symbolic link, it leads to "
        f"{tmp_path / 'moved'}"
    )
    with pytest.raises(listing.VersionError, match="must be no symbolic link"):
        listing.fetch_version(new, str(tmp_path / "copy"))
    assert not (tmp_path / "copy").exists()


def test_a_destination_that_is_a_link_is_followed(model, destination, tmp_path):
    (tmp_path / "large").mkdir()
    pathlib.Path(destination).parent.mkdir()
    pathlib.Path(destination).symlink_to(tmp_path / "large")
    version = push_next(
        model, destination=destination, manifest=Manifest.from_content({})
    )
    assert listing.find_served_and_damaged(destination) == (version, [])
    assert (tmp_path / "large" / str(version.number) / "MANIFEST.json").exists()


# Root can read every file, but not without these capabilities.
AS_ANYBODY = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
INTACT = """
import sys
from components.registry import listing, publish
from components.registry.manifest import Manifest
print(listing.find_served_and_damaged(sys.argv[1]))
"""


@pytest.mark.parametrize(
    "name", ["saved_model.pb", "variables", "assets/digits.txt", "MANIFEST.json", "."]
)
def test_a_version_that_cannot_be_read_is_not_damaged(model, destination, name):
    """The version may be the served one, so any other baseline would be wrong."""
    _, new = (
        push_next(model, destination=destination, manifest=Manifest.from_content({}))
        for _ in range(2)
    )
    path = pathlib.Path(new.path, name)
    mode = path.stat().st_mode
    path.chmod(0)
    command = [sys.executable, "-c", INTACT, destination]
    if os.geteuid() == 0:
        command = AS_ANYBODY + command
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )
    path.chmod(mode)
    assert result.stdout == ""
    last = result.stderr.splitlines()[-1]
    assert last.startswith("PermissionError: [Errno 13] Permission denied: ")
    assert new.path in last


# Kills, readers and other pushes, all in processes of their own.

# Pushes the model argv[1] to the folder argv[2], argv[3] times.
PUSH = """
import sys
from components.registry import listing
from components.registry.manifest import Manifest
from tests.support.pushes import push_next
model, destination, times = sys.argv[1:4]
for _ in range(int(times)):
    push_next(
        model, destination=destination, manifest=Manifest.from_content({})
    )
"""

# Pushes argv[1] to argv[2]/1, argv[2]/2 and so on. Push n dies at its n-th operation on
# the file system, which Python's audit hooks report. Prints how many pushes died.
DIE = """
import itertools, os, signal, sys
from components.registry.manifest import Manifest
from tests.support.pushes import push_next
fsync = os.fsync
def audited_fsync(descriptor):  # an audit hook does not see it
    sys.audit("os.fsync")
    fsync(descriptor)
os.fsync = audited_fsync
model, destinations = sys.argv[1:3]
for last_step in itertools.count(1):
    child = os.fork()
    if child == 0:
        steps = itertools.count(1)
        def hook(event, args):
            if event.split(".")[0] in ("open", "os", "shutil"):
                if next(steps) == last_step:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)
        push_next(
            model,
            destination=os.path.join(destinations, str(last_step)),
            manifest=Manifest.from_content({}),
        )
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != -signal.SIGKILL:
        print(last_step - 1)
        sys.exit(status)
"""


@contextlib.contextmanager
def started(code, *arguments):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_kill_at_any_step_leaves_complete_versions_alone(model, tmp_path):
    with started(DIE, model, tmp_path / "killed") as process:
        steps = int(process.communicate()[0])
    assert process.returncode == 0
    counts = []
    for step in range(1, steps + 1):
        destination = str(tmp_path / "killed" / str(step))
        left = numbered(destination)
        for folder in left:
            assert_complete(folder)
        counts.append((len(left), len(staged(destination))))
        version = push_next(
            model, destination=destination, manifest=Manifest.from_content({})
        )
        assert listing.find_served_version(destination) == version
        assert_complete(pathlib.Path(version.path))
        assert not staged(destination)
    # A push leaves nothing, a staging folder, or a complete version: no other state.
    assert [count for count, _ in itertools.groupby(counts)] == [(0, 0), (0, 1), (1, 0)]
    assert counts.count((0, 1)) > 30


def test_kills_at_random_moments(model, destination):
    moments = random.Random(0)
    for _ in range(8):
        before = len(numbered(destination))
        with started(PUSH, model, destination, 100_000) as process:
            while len(numbered(destination)) == before:
                assert process.poll() is None
            time.sleep(moments.uniform(0, 0.1))
        assert process.returncode == -signal.SIGKILL
        for folder in numbered(destination):
            assert_complete(folder)
        version = push_next(
            model, destination=destination, manifest=Manifest.from_content({})
        )
        assert listing.find_served_version(destination) == version
        assert not staged(destination)


def test_a_reader_sees_complete_versions_only(model, destination):
    seen, looks = set(), 0
    with started(PUSH, model, destination, 100_000) as process:
        while len(seen) < 100 or looks < 300:
            assert process.poll() is None
            for folder in numbered(destination):
                if folder not in seen:
                    assert_complete(folder)
                    seen.add(folder)
            looks += 1


def test_pushes_at_the_same_time_wait_for_each_other(model, destination):
    with (
        started(PUSH, model, destination, 40) as one,
        started(PUSH, model, destination, 40) as other,
    ):
        assert (one.wait(), other.wait()) == (0, 0)
    assert len(numbered(destination)) == 80
    for folder in numbered(destination):
        assert_complete(folder)
    assert not staged(destination)


def test_only_leftover_files_are_removed(model, destination):
    left = pathlib.Path(destination, ".staging-killed", "variables")
    left.mkdir(parents=True)
    (left / "variables.index").write_bytes(b"")
    others = pathlib.Path(destination, "staging-of-somebody")
    others.mkdir()
    version = push_next(
        model, destination=destination, manifest=Manifest.from_content({})
    )
    names = {name for name in os.listdir(destination) if not name.endswith(".lock")}
    assert names == {others.name, str(version.number)}
