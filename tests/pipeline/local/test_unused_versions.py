"""The versions that stay at a push destination."""

import pathlib

import pytest

from components.registry.manifest import Manifest
from pipeline.local import unused_versions
from pipeline.runs import run_record
from tests.support.places import FILES, write_model
from tests.support.pushes import push_next
from tests.support.records import make_record

END = "2026-11-23T19:00:00+01:00"


@pytest.fixture
def push(tmp_path):
    """Returns a function that pushes another model and returns its version number."""
    pushed = []

    def push(**manifest):
        files = {**FILES, "saved_model.pb": str(len(pushed)).encode()}
        model = write_model(tmp_path / "models" / str(len(pushed)), files)
        pushed.append(
            push_next(
                model,
                destination=str(tmp_path / "serving"),
                manifest=Manifest.from_content(manifest),
            )
        )
        return pushed[-1].number

    return push


def unused(tmp_path, keep):
    numbers, kept = unused_versions.find_unused(
        tmp_path / "runs", str(tmp_path / "serving"), keep=keep
    )
    return numbers, [version.number for version in kept]


def test_without_versions_there_is_nothing_to_remove(tmp_path):
    assert unused(tmp_path, 1) == ([], [])


def test_the_newest_versions_stay(tmp_path, push):
    first, second, third = push(), push(), push()
    assert unused(tmp_path, 2) == ([first], [third, second])
    assert unused(tmp_path, 3) == ([], [third, second, first])


def test_the_baseline_of_the_served_version_is_kept(tmp_path, push):
    first, second = push(), push()
    third = push(baseline={"version": first, "digest": "x"})
    assert unused(tmp_path, 1) == ([second], [third, first])


def test_the_baseline_of_the_last_run_is_kept(tmp_path, push):
    first, second, third = push(), push(), push()
    run_record.write(tmp_path / "runs", make_record(ended=END, baseline_version=second))
    assert unused(tmp_path, 1) == ([first], [third, second])


def test_a_damaged_version_is_removed_if_an_intact_one_is_newer(tmp_path, push):
    damaged, intact, newest = push(), push(), push()
    for number in (damaged, newest):
        pathlib.Path(tmp_path, "serving", str(number), "saved_model.pb").unlink()
    # The newest version may be one that another process is writing.
    assert unused(tmp_path, 1) == ([damaged], [intact])


def test_a_folder_without_a_manifest_is_not_this_projects(tmp_path, push):
    push()
    pathlib.Path(tmp_path, "serving", "7").mkdir()
    assert unused(tmp_path, 1)[0] == []


@pytest.mark.parametrize(("is_claimed", "removed"), [(True, [7]), (False, [])])
def test_an_unfinished_push_to_a_store_is_removed_if_it_has_a_claim(
    tmp_path, s3, is_claimed, removed
):
    path = f"{s3.name}/serving/vae"
    model = write_model(tmp_path / "model")
    push_next(model, destination=f"s3://{path}", manifest=Manifest.from_content({}))
    s3.files.pipe_file(f"{path}/7/saved_model.pb", b"half")
    if is_claimed:
        s3.files.pipe_file(f"{path}/.claim-7", b"")
    numbers, kept = unused_versions.find_unused(
        tmp_path / "runs", f"s3://{path}", keep=1
    )
    assert (numbers, len(kept)) == (removed, 1)
