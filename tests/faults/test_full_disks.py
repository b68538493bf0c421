"""Full disks: in the preparation of data, at a checkpoint, and in a push."""

import pytest

from tests.support import disks, runs

pytestmark = pytest.mark.faults


def test_in_data(tmp_path, outcome):
    place = runs.Place(tmp_path)
    place.write_source()
    options = ("--source", str(place.source))
    with disks.small(place.data, megabytes=4) as disk:
        filling = disks.fill(disk, leave=20_000)
        printed = place.run(command="data", options=options, code=1)
        assert f"{disk}: " in printed
        assert "bytes are free; free some space or choose another data fo" in printed
        assert [path.name for path in disk.iterdir() if path.is_dir()] == []

        filling.unlink()
        printed = place.run(command="data", options=options)
        assert "bars is prepared in " in printed
    outcome(
        "a full disk in `data`",
        "`FOLDER: the disk is full, N bytes are free; free some space or choose "
        "another data folder`, exit code 1; nothing half-written is left",
        "prepares the data",
    )


def test_at_a_checkpoint(prepared, place, outcome):
    settings = ("data.eval_images=100", "train.epochs=40")
    with disks.small(place.root, megabytes=100) as disk:
        runs.copy(prepared.template / "runs", disk)
        before = place.served()

        run = place.start(*settings)
        run.wait_for(r"^Trainer +epoch 2/40 ")  # the first epoch has left a checkpoint
        filling = disks.fill(disk)
        assert run.end() == 1, run.printed
        assert "Trainer failed: No space left on device: " in run.printed
        assert place.served() == before
        filling.unlink()

        printed = place.run(*settings)
        assert "Trainer          resuming from step " in printed
        assert place.served().number > before.number
    outcome(
        "a full disk at a checkpoint",
        "`Trainer failed: No space left on device: FOLDER (N MB free of M MB); free "
        "some space, then run the same command to continue`, exit code 1",
        "continues from the last checkpoint that is whole",
    )


def test_in_push(prepared, place, outcome):
    with disks.small(place.root / "serving", megabytes=8) as disk:
        runs.copy(prepared.template / "runs" / "serving", disk)
        before = place.served()
        filling = disks.fill(disk, leave=100_000)
        printed = place.push(code=1)
        assert f"Pusher failed: No space left on device: {disk}/vae (" in printed
        assert place.served() == before
        folders = [path.name for path in place.destination.iterdir() if path.is_dir()]
        assert folders == [str(before.number)]

        filling.unlink()
        place.push()
        assert place.served().number > before.number
    outcome(
        "a full disk in the push",
        "`Pusher failed: No space left on device: FOLDER ...`, exit code 1; what is "
        "served stays",
        "pushes",
    )
