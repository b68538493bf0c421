"""The permissions of files that other users may read, and of those they may not."""

import pathlib
import subprocess
import sys

import pytest

from tests.support.places import write_model

# Starts a command, pushes two versions of argv[2], rolls back and writes metrics, all
# in the folder argv[1] and under the umask argv[3].
CODE = """
import os, pathlib, sys
os.umask(int(sys.argv[3], 8))
from tests.support.pushes import push_next
from components.registry import publish
from components.registry.manifest import Manifest
from pipeline.cli import main
from pipeline.runs import lifecycle
from pipeline.config.loading import resolve
place, model = sys.argv[1:3]
root = f"{place}/new/runs"
assert main.main(["generate", "--root", root]) == 1  # nothing is served yet
os.umask(int(sys.argv[3], 8))
destination = f"{root}/serving/deeper/vae"
for name in ("saved_model.pb", "variables/variables.index"):
    with open(f"{model}/{name}", "a") as file:
        file.write(name)
    manifest = Manifest.from_content({"config": {}})
    push_next(model, destination=destination, manifest=manifest)
flags = ["--root", root, "--set", f"push.destination={root}/serving/deeper"]
assert main.main(["rollback", "--reason", "worse", *flags]) == 0
config = resolve("smoke", settings=[f"metrics.textfile={place}/vae.prom"])
with lifecycle.record_run(
    config,
    pathlib.Path(root),
    run_id="run-1",
    should_wait=False,
    print_line=print,
):
    pass
"""


@pytest.mark.parametrize("umask", ["000", "002", "022", "027", "077"])
def test_other_users_can_read_versions_and_metrics_but_not_write(tmp_path, umask):
    model = write_model(tmp_path / "model")
    for path in pathlib.Path(model).rglob("*"):
        # the modes of the model's own files have no effect either
        path.chmod(0o777 if path.is_dir() else 0o666)
    place = tmp_path / "place"
    place.mkdir()
    command = [sys.executable, "-c", CODE, str(place), model, umask]
    root = pathlib.Path(__file__).parents[1]
    result = subprocess.run(
        command, cwd=root, capture_output=True, encoding="utf-8", check=False
    )
    assert result.returncode == 0, result.stderr
    runs = place / "new" / "runs"
    public = {place / "vae.prom", place / "new", runs, runs / "serving"}
    public |= set((runs / "serving").rglob("*"))
    names = {path.name for path in public}
    assert {"MANIFEST.json", "saved_model.pb", "assets", "variables.index"} <= names
    assert len([name for name in names if name.isdecimal()]) == 3
    assert len([name for name in names if name.startswith(".rejected-")]) == 1
    for path in place.rglob("*"):
        mode = path.stat().st_mode & 0o777
        if path in public:
            assert mode == (0o755 if path.is_dir() else 0o644), path
        else:
            private = (0o777 if path.is_dir() else 0o666) & ~int(umask, 8)
            assert mode & ~private == 0, path
            assert mode & 0o002 == 0, path
    private = {path.relative_to(runs).parts[0] for path in runs.iterdir()} - {"serving"}
    assert private >= {"logs", "history"}
