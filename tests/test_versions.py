"""The push destination: what is numbered, what is served, and what a kill leaves."""

import contextlib
import hashlib
import itertools
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from components import versions

ROOT = pathlib.Path(__file__).parent.parent
FILES = {
    "saved_model.pb": b"abc",
    "variables/variables.index": b"",
    "variables/variables.data-00000-of-00001": bytes(range(256)) * 200,
}


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return str(folder)


@pytest.fixture
def destination(tmp_path):
    return str(tmp_path / "serving" / "vae")


def numbered(destination):
    """Returns the folders that a server may take for versions, lowest first."""
    if not os.path.isdir(destination):
        return []
    names = [name for name in os.listdir(destination) if name.isdecimal()]
    return [pathlib.Path(destination, name) for name in sorted(names, key=int)]


def staged(destination):
    return list(pathlib.Path(destination).glob(".staging-*"))


def assert_complete(folder):
    """Asserts that a version holds every byte of the model, and its manifest."""
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    manifest = json.loads(found.pop("MANIFEST.json"))
    assert found == FILES
    assert manifest["files"] == digests
    versions.verify(versions.Version(int(folder.name), str(folder), manifest))


# Digests.


def test_digests_of_files(model):
    pathlib.Path(model, "MANIFEST.json").write_text("not of the model")
    pathlib.Path(model, "variables", "MANIFEST.json").write_bytes(b"abc")
    of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    of_nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    data = FILES["variables/variables.data-00000-of-00001"]
    digests = versions.file_digests(model)
    assert digests == {
        "saved_model.pb": of_abc,
        "variables/MANIFEST.json": of_abc,
        "variables/variables.data-00000-of-00001": hashlib.sha256(data).hexdigest(),
        "variables/variables.index": of_nothing,
    }
    assert list(digests) == sorted(digests)


def test_one_digest_is_that_of_the_lines_of_sha256sum(model):
    names = sorted(FILES)
    command = ["sha256sum", *names]
    lines = subprocess.run(command, cwd=model, check=True, capture_output=True).stdout
    digests = versions.file_digests(model)
    assert versions.digest_of(digests) == hashlib.sha256(lines).hexdigest()
    reverse = dict(reversed(digests.items()))
    assert versions.digest_of(reverse) == versions.digest_of(digests)


def test_one_digest_sees_names_and_contents():
    digests = {
        versions.digest_of(files)
        for files in ({"a": "0"}, {"b": "0"}, {"a": "1"}, {"a": "0", "b": "0"}, {})
    }
    assert len(digests) == 5


# Pushing.


def test_a_version_is_the_model_and_a_manifest(model, destination):
    version = versions.push(model, destination, {"elbo": -90.5, "config": {"a": [1]}})
    folder = pathlib.Path(destination, str(version.number))
    assert version.path == str(folder)
    assert_complete(folder)
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    lines = [
        f"{hashlib.sha256(data).hexdigest()}  {name}\n"
        for name, data in sorted(FILES.items())
    ]
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert {key: manifest[key] for key in manifest if key != "files"} == {
        "digest": digest,
        "elbo": -90.5,
        "config": {"a": [1]},
    }
    assert version.manifest == manifest
    assert version.digest == digest
    assert not staged(destination)


def test_others_may_open_a_version(model, destination):
    os.chmod(model, 0o700)
    version = versions.push(model, destination, {})
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
    versions.push(model, destination, {})
    before, after = steps[: steps.index("rename")], steps[steps.index("rename") + 1 :]
    staging = os.path.commonpath(before)
    assert {os.path.relpath(path, staging) for path in before} == {
        *FILES,
        "MANIFEST.json",
        "variables",
        ".",
    }
    assert after == [destination]


def test_the_number_is_the_unix_time(model, destination):
    before = int(time.time())
    number = versions.push(model, destination, {}).number
    assert before <= number <= int(time.time())


def test_a_clock_that_went_back_gives_the_next_number(model, destination):
    ahead = int(time.time()) + 10_000
    pathlib.Path(destination, str(ahead)).mkdir(parents=True)  # not even ours
    assert versions.push(model, destination, {}).number == ahead + 1
    assert versions.push(model, destination, {}).number == ahead + 2


def test_low_numbers_do_not_matter(model, destination):
    pathlib.Path(destination, "7").mkdir(parents=True)
    before = int(time.time())
    assert versions.push(model, destination, {}).number >= before


def test_a_model_that_is_not_there_leaves_nothing(model, destination):
    version = versions.push(model, destination, {})
    with pytest.raises(FileNotFoundError, match="no_model"):
        versions.push(model + "/no_model", destination, {})
    assert numbered(destination) == [pathlib.Path(version.path)]
    assert not staged(destination)


def test_a_model_with_a_file_that_cannot_be_read_leaves_nothing(model, destination):
    pathlib.Path(model, "variables", "gone").symlink_to("nowhere")
    with pytest.raises(shutil.Error, match="gone"):
        versions.push(model, destination, {})
    assert numbered(destination) == staged(destination) == []


def test_a_manifest_that_is_no_json_leaves_nothing(model, destination):
    with pytest.raises(TypeError, match="not JSON serializable"):
        versions.push(model, destination, {"elbo": object()})
    assert numbered(destination) == staged(destination) == []


# Serving.


def test_the_highest_version_is_served(model, destination):
    old, new = (versions.push(model, destination, {"of": name}) for name in "ab")
    assert versions.served(destination) == new
    shutil.rmtree(new.path)  # rolled back
    assert versions.served(destination) == old


def test_numbers_are_compared_as_numbers(model, destination):
    version = versions.push(model, destination, {})
    for number in ("9", "10"):
        shutil.copytree(version.path, os.path.join(destination, number))
    shutil.rmtree(version.path)
    assert versions.served(destination).number == 10


def test_nothing_is_served_from_no_folder(destination):
    assert versions.served(destination) is None
    assert not os.path.exists(destination)


def test_nothing_is_served_from_an_empty_folder(destination):
    os.makedirs(destination)
    assert versions.served(destination) is None


def test_a_damaged_manifest_is_named(model, destination):
    version = versions.push(str(model), str(destination), {})
    manifest = pathlib.Path(version.path, "MANIFEST.json")
    manifest.write_text(manifest.read_text()[:-10])
    with pytest.raises(
        ValueError, match=rf"{manifest} must be the JSON that was pushed"
    ):
        versions.served(str(destination))


def test_only_versions_with_a_manifest_count(model, destination):
    folder = pathlib.Path(destination)
    shutil.copytree(model, folder / "20000000000")
    (folder / "20000000001").write_text("a file")
    for name in (".staging-x", "best", "1.5", "-3"):
        shutil.copytree(model, folder / name)
        (folder / name / "MANIFEST.json").write_text('{"digest": "", "files": {}}')
    assert versions.served(destination) is None
    version = versions.push(model, destination, {})
    assert version.number == 20000000002
    assert versions.served(destination) == version


# Verifying.


@pytest.fixture
def version(model, destination):
    return versions.push(model, destination, {})


def error_of(version):
    with pytest.raises(ValueError, match="must be") as error:
        versions.verify(version)
    return str(error.value)


def test_what_was_pushed_is_verified(version, destination):
    versions.verify(version)
    versions.verify(versions.served(destination))


def test_a_changed_file(version):
    with open(os.path.join(version.path, "saved_model.pb"), "r+b") as file:
        file.write(b"A")
    assert error_of(version) == (
        f"the files of {version.path} must be those of its MANIFEST.json: "
        "saved_model.pb is not what was pushed"
    )


def test_missing_and_extra_files(version):
    os.remove(os.path.join(version.path, "variables", "variables.index"))
    pathlib.Path(version.path, "assets").mkdir()
    pathlib.Path(version.path, "assets", "extra").write_bytes(b"")
    assert error_of(version) == (
        f"the files of {version.path} must be those of its MANIFEST.json: "
        "variables/variables.index is missing, assets/extra was not pushed"
    )


# Kills, readers and other pushes: all in processes of their own.

# Pushes argv[1] to argv[2] argv[3] times.
PUSH = """
import sys
from components import versions
model, destination, times = sys.argv[1:4]
for _ in range(int(times)):
    versions.push(model, destination, {})
"""

# Pushes argv[1] to argv[2]/1, /2 and so on. The nth push dies at its nth step on the
# file system, of which Python tells its audit hooks; prints how many died.
DIE = """
import itertools, os, signal, sys
from components import versions
fsync = os.fsync
def audited_fsync(descriptor):  # Python does not tell of this one
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
        versions.push(model, os.path.join(destinations, str(last_step)), {})
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
        version = versions.push(model, destination, {})
        assert versions.served(destination) == version
        assert_complete(pathlib.Path(version.path))
        assert not staged(destination)
    # Before the staging, within it, and after the rename: nothing in between.
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
        version = versions.push(model, destination, {})
        assert versions.served(destination) == version
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


def test_leftovers_go_and_the_rest_stays(model, destination):
    left = pathlib.Path(destination, ".staging-killed", "variables")
    left.mkdir(parents=True)
    (left / "variables.index").write_bytes(b"")
    others = pathlib.Path(destination, "staging-of-somebody")
    others.mkdir()
    version = versions.push(model, destination, {})
    names = {name for name in os.listdir(destination) if not name.endswith(".lock")}
    assert names == {others.name, str(version.number)}
