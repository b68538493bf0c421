"""The artifacts that `prune` removes, with real metadata of recorded runs."""

import os
import pathlib
import time

import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd

from components.registry import listing, rolling_back
from components.registry.manifest import Manifest
from pipeline.local import unused_artifacts
from tests.support.metadata_root import (
    CACHED,
    COMPLETE,
    FAILED,
    NAME,
    RUNNING,
    MetadataRoot,
)
from tests.support.places import FILES, write_model
from tests.support.pushes import push_next


@pytest.fixture
def root(tmp_path):
    return MetadataRoot(tmp_path / "runs")


# Artifacts.


def test_reports_and_moved_artifacts_are_removed_with_their_runs(root):
    for number in range(1, 4):
        root.whole_run()
        page = root.path / "reports" / NAME.format(number) / "report.html"
        page.parent.mkdir(parents=True)
        page.write_text("x" * 500)
    (root.path / "artifacts-20260101-000000" / "Trainer").mkdir(parents=True)
    (root.path / "reports" / "mine").mkdir()
    kinds = {group.kind: group for group in root.prune(2).groups}
    assert kinds["reports of older runs"].bytes == 500
    assert (
        len(kinds["artifacts that were renamed because their metadata were lost"].paths)
        == 1
    )
    left = {path.name for path in (root.path / "reports").iterdir()}
    assert left == {NAME.format(2), NAME.format(3), "mine"}
    assert not list(root.path.glob("artifacts-*"))


def test_the_log_of_a_run_of_two_turns_is_kept_with_it(root):
    root.whole_run()
    made = root.whole_run(key="made")
    root.run(*[("Trainer", COMPLETE), ("Pusher", COMPLETE)], log=False)
    [again] = [c for c in root.store.get_contexts() if c.name == NAME.format(2)]
    # a second turn, as the cached outputs were damaged
    again.name = NAME.format(2) + ".2"
    again.ClearField("id")
    [again.id] = root.store.put_contexts([again])
    steps = [e.id for e in root.store.get_executions()][2:4]
    root.store.put_attributions_and_associations(
        [], [mlmd.Association(execution_id=step, context_id=again.id) for step in steps]
    )
    root.prune(1)
    names = {path.name for path in (root.path / "logs").iterdir()}
    assert names == {f"{NAME.format(2)}.log", f"{NAME.format(2)}.yaml"}
    assert [root.live(out) for out in made] == [True, True]


def test_an_artifacts_folder_that_is_a_link_is_pruned(root, tmp_path):
    (tmp_path / "disk").mkdir()
    (root.path / "artifacts").symlink_to(tmp_path / "disk")
    old, new = root.whole_run(), root.whole_run()
    root.prune(1)
    assert [root.live(out) for out in old + new] == [False, False, True, True]


def test_the_outputs_of_the_last_runs_are_kept(root):
    runs = [root.whole_run() for _ in range(4)]
    todo = root.prune(2)
    assert [[root.live(out) for out in run] for run in runs] == [
        [False, False],
        [False, False],
        [True, True],
        [True, True],
    ]
    [group, logs] = todo.groups
    assert group.kind == "outputs of Pusher, Trainer that no kept run uses"
    assert (len(group.paths), group.bytes) == (4, 4_000_000)
    assert (logs.kind, len(logs.paths)) == ("logs of older runs", 4)
    assert todo.bytes == 4_004_000
    names = {path.name for path in (root.path / "logs").iterdir()}
    assert names == {
        f"{NAME.format(run)}.{ending}" for run in (3, 4) for ending in ("log", "yaml")
    }
    assert root.prune(2).bytes == 0


def test_outputs_that_a_later_run_used_from_the_cache_are_kept(root):
    ingest, trainer, pusher = root.run(
        ("Ingest", COMPLETE), ("Trainer", COMPLETE), ("Pusher", COMPLETE)
    )
    root.run(
        ("Ingest", CACHED, ingest),
        ("Trainer", COMPLETE, ingest),
        ("Pusher", COMPLETE),
    )
    root.prune(1)
    assert [root.live(out) for out in (ingest, trainer, pusher)] == [True, False, False]


def test_outputs_that_a_later_run_read_are_kept(root):
    """This holds even if the step that read it has failed."""
    trainer, _ = root.whole_run()
    root.whole_run()
    root.run(("Evaluator", FAILED, trainer))
    root.prune(1)
    assert root.live(trainer)


def test_runs_that_did_not_end_do_not_count(root):
    """They do not count as kept runs, and their artifacts stay for a later run."""
    whole = root.whole_run()
    halves = [
        root.run(("Ingest", COMPLETE), ("Trainer", state))[0]
        for state in (FAILED, RUNNING, FAILED)
    ]
    left = sorted((root.path / "artifacts" / "Trainer" / "out").iterdir())
    assert len(left) == 4
    todo = root.prune(1)
    assert all(root.live(out) for out in (*whole, *halves))
    [group] = todo.groups
    assert group.kind == "outputs of Trainer that no kept run uses"
    assert sorted(group.paths) == left[1:]
    assert sorted((root.path / "artifacts" / "Trainer" / "out").iterdir()) == left[:1]
    assert len(list((root.path / "logs").iterdir())) == 8


def test_all_of_a_few_runs_are_kept(root):
    run = root.whole_run()
    before = root.snapshot()
    assert root.prune(2).bytes == 0
    assert root.snapshot() == before
    assert all(root.live(out) for out in run)


def test_the_run_that_made_a_kept_version_is_kept(root):
    made = root.whole_run(key="of one")
    version = root.push("one", run_key="of one")
    other = root.whole_run(key="of two")
    root.whole_run(key="of three")
    todo = root.prune(1)
    assert todo.kept == [version.number]
    assert all(root.live(out) for out in made)
    assert not any(root.live(out) for out in other)
    names = {path.stem for path in (root.path / "logs").iterdir()}
    assert names == {NAME.format(1), NAME.format(3)}


def test_a_clock_that_was_set_back_changes_nothing(root):
    """The order of runs is that of the metadata, not of the run names."""
    root._runs = 50
    old = root.whole_run()
    root._runs = 10
    new = root.whole_run()
    root.prune(1)
    assert [root.live(run[0]) for run in (old, new)] == [False, True]


def test_leftover_files_of_tfx_are_removed(root):
    root.whole_run()
    for place in ("executor_execution/1", "stateful_working_dir/a-run"):
        folder = root.path / "artifacts" / "Trainer" / ".system" / place
        folder.mkdir(parents=True)
        (folder / "executor_output.pb").write_bytes(bytes(500))
    [group] = root.prune(1).groups
    assert (group.kind, len(group.paths), group.bytes) == (
        "folders that TFX left behind",
        2,
        1000,
    )
    assert not any(path.exists() for path in group.paths)


def test_old_checkpoints_are_removed(root):
    old, new = (root.path / "checkpoints" / name for name in ("old", "new"))
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "checkpoint").write_bytes(bytes(100))
        for path in (folder / "checkpoint", folder):
            os.utime(path, (time.time() - 3600,) * 2)
    root.whole_run()
    (new / "checkpoint").touch()
    [group] = root.prune(1).groups
    assert (group.kind, group.paths) == (
        "checkpoints of trainings that ended or were abandoned",
        [old],
    )
    assert not old.exists()
    assert new.exists()


def test_old_reports_and_moved_artifacts_are_removed(root):
    made = root.whole_run(key="of one")
    root.push("one", run_key="of one")
    for _ in range(3):
        root.whole_run()
    folders = [root.path / "reports" / NAME.format(run) for run in (1, 2, 3, 4)]
    folders += [root.path / "reports" / "mine"]
    folders += [root.path / f"artifacts-{day}-120000" for day in (20251231, 20260102)]
    folders += [root.path / "artifacts-mine"]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "index.html").write_bytes(bytes(700))
    (root.path / "history").mkdir()
    (root.path / "history" / f"{NAME.format(2)}.json").write_text("{}")
    reports, aside = root.prune(2).groups[-2:]
    assert (reports.kind, reports.paths, reports.bytes) == (
        "reports of older runs",
        [folders[1]],
        700,
    )
    assert (aside.kind, aside.paths, aside.bytes) == (
        "artifacts that were renamed because their metadata were lost",
        [folders[5]],
        700,
    )
    assert [f.exists() for f in folders] == [
        *(True, False, True, True, True),
        *(False, True, True),
    ]
    assert all(root.live(out) for out in made)
    assert (root.path / "history" / f"{NAME.format(2)}.json").exists()


def test_artifacts_on_another_disk(root, tmp_path):
    """The folder is a link. Files of artifacts marked as deleted are removed too."""
    runs = [root.whole_run() for _ in range(2)]
    (root.path / "artifacts").rename(tmp_path / "disk")
    (root.path / "artifacts").symlink_to(tmp_path / "disk")
    root.prune(1)
    assert [root.live(run[0]) for run in runs] == [False, True]
    assert root.prune(1).bytes == 0


def test_nothing_outside_the_root_is_changed(root, tmp_path):
    outside = tmp_path / "outside" / "Trainer" / "out" / "1"
    outside.mkdir(parents=True)
    (outside / "data").write_bytes(b"mine")
    kind = mlmd.ArtifactType(name="Out")
    external = mlmd.Artifact(type_id=root.store.put_artifact_type(kind))
    external.uri, external.state = str(outside), mlmd.Artifact.LIVE
    [external.id] = root.store.put_artifacts([external])
    dots = mlmd.Artifact(type_id=external.type_id, state=mlmd.Artifact.LIVE)
    dots.uri = f"{root.path}/artifacts/../../outside/Trainer/out/1"
    [dots.id] = root.store.put_artifacts([dots])
    root.whole_run()
    root.whole_run()
    links = [
        root.path / "artifacts" / "Linked",
        root.path / "artifacts" / "Trainer" / "linked",
        root.path / "artifacts" / "Trainer" / "out" / "99",
        root.path / "logs" / "run-20250101-000000-000000.log",
    ]
    for link in links:
        link.symlink_to(tmp_path / "outside")
    root.prune(1)
    assert (outside / "data").read_bytes() == b"mine"
    assert root.live(external)
    assert root.live(dots)
    assert all(link.is_symlink() for link in links)


def test_a_root_that_was_moved(root, tmp_path):
    """Artifacts are found by their path in the root, as metadata have the old root."""
    runs = [root.whole_run() for _ in range(2)]
    moved = tmp_path / "moved"
    root.path.rename(moved)
    todo = unused_artifacts.plan(moved, f"{moved}/serving/vae", keep=1)
    unused_artifacts.execute_plan(moved, todo)
    found = sorted(path.name for path in (moved / "artifacts").glob("*/out/*"))
    assert found == sorted(pathlib.Path(out.uri).name for out in runs[1])


def test_metadata_that_cannot_be_read(root):
    root.push("one")
    (root.path / "metadata.sqlite").write_bytes(b"no SQLite at all" * 100)
    with pytest.raises(unused_artifacts.PruneError) as error:
        unused_artifacts.plan(root.path, root.destination, keep=1)
    assert str(error.value).startswith(f"{root.path}/metadata.sqlite can't be read (")
    assert str(error.value).endswith("): nothing was removed")


# Versions.


def test_the_newest_versions_stay(root):
    pushed = [root.push(name) for name in "abcd"]
    (pathlib.Path(root.destination) / ".staging-killed").mkdir()
    size = sum(len(data) for name, data in FILES.items() if name != "saved_model.pb")
    todo = root.prune(2)
    assert root.numbers() == [pushed[3].number, pushed[2].number]
    assert todo.versions == [pushed[0].number, pushed[1].number]
    assert size < todo.version_bytes / 2 < size + 2000  # each also has a manifest
    assert listing.find_served_and_damaged(root.destination) == (pushed[3], [])
    names = {path.name for path in pathlib.Path(root.destination).iterdir()}
    assert names == {".pushing.lock", str(pushed[2].number), str(pushed[3].number)}


def test_the_baseline_of_the_served_model_is_kept(root):
    one = root.push("one")
    two = root.push("two")
    baseline = {"version": one.number, "digest": one.digest}
    three = root.push("three", baseline=baseline)
    root.prune(1)
    assert root.numbers() == [three.number, one.number]
    assert two.number not in root.numbers()


def test_the_record_of_a_rejected_model_is_kept(root):
    root.push("one")
    two = root.push("two")
    again = rolling_back.roll_back(root.destination, None, why="blurred")
    root.prune(1)
    assert root.numbers() == [again.number]
    assert (
        rolling_back.find_rejection(root.destination, two.digest, singleprint=None).why
        == "blurred"
    )


def test_damaged_versions_older_than_the_served_one_are_removed(root):
    old, served, new = (root.push(name) for name in "abc")
    for version in (old, new):
        (pathlib.Path(version.path) / "saved_model.pb").unlink()
    foreign = pathlib.Path(root.destination, "7")
    foreign.mkdir()
    todo = root.prune(5)
    assert todo.versions == [old.number]
    assert todo.kept == [served.number]
    assert root.numbers() == [new.number, served.number, 7]


def test_a_version_that_was_not_verified_is_kept(root, tmp_path):
    """It may be intact or of another program: its manifest can't be read or used."""
    unread, foreign, linked, served = (root.push(name) for name in "abcd")
    manifest = pathlib.Path(unread.path, "MANIFEST.json")
    manifest.rename(tmp_path / "manifest")
    manifest.mkdir()  # a folder in its place, which root cannot read as a file either
    pathlib.Path(foreign.path, "MANIFEST.json").write_text(
        '{"name": "another"}', encoding="utf-8"
    )
    pathlib.Path(linked.path).rename(tmp_path / "elsewhere")
    pathlib.Path(linked.path).symlink_to(tmp_path / "elsewhere")
    damaged = list(listing.list_versions(root.destination))[1:]
    assert [each.is_certain for each in damaged] == [False] * 3
    assert damaged[2].why == "MANIFEST.json cannot be read (Is a directory)"
    before = root.numbers()
    assert root.prune(1).versions == []
    assert (
        root.numbers()
        == before
        == [v.number for v in (served, linked, foreign, unread)]
    )
    assert (tmp_path / "elsewhere" / "saved_model.pb").exists()


def test_without_an_intact_version_nothing_is_removed(root):
    version = root.push("one")
    (pathlib.Path(version.path) / "saved_model.pb").unlink()
    assert root.prune(1).versions == []
    assert root.numbers() == [version.number]


def test_an_object_store(root, s3):
    uri = f"s3://{s3.name}/serving/vae"
    path = f"{s3.name}/serving/vae"
    pushed = []
    for name in "abc":
        files = {**FILES, "saved_model.pb": name.encode()}
        model = write_model(root.path.parent / "models" / name, files)
        pushed.append(
            push_next(model, destination=uri, manifest=Manifest.from_content({}))
        )
    half, another = pushed[0].number - 1, 7
    s3.files.pipe_file(f"{path}/.claim-{half}", b"")  # left by a push that died
    for number in (half, another):
        s3.files.pipe_file(f"{path}/{number}/saved_model.pb", b"")
    claims = [name for name in s3.files.ls(path, detail=False) if ".claim-" in name]
    s3.server.requests.clear()
    todo = unused_artifacts.plan(root.path, uri, keep=1)
    unused_artifacts.execute_plan(root.path, todo)
    assert todo.versions == [half, pushed[0].number, pushed[1].number]
    assert [v.number for v in listing.list_versions(uri)] == [pushed[2].number]
    assert listing.list_unpublished(uri) == [another]  # no push has claimed it
    found = s3.files.ls(path, detail=False)
    assert [name for name in found if ".claim-" in name] == claims
    # A version that is partly deleted has no manifest.
    deleted = [
        request
        for request in s3.server.requests
        if request[0] in ("DELETE", "POST") and str(pushed[0].number) in request[1]
    ]
    assert not deleted or deleted[0][1].endswith(f"{pushed[0].number}/MANIFEST.json")
