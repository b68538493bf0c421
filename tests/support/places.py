"""Push destinations of each kind, and a model to push."""

import os

import fsspec
import pytest

FILES = {
    "assets/digits.txt": b"0123456789",
    "fingerprint.pb": b"fingerprint",
    "saved_model.pb": b"abc",
    "variables/variables.index": b"",
    "variables/variables.data-00000-of-00001": bytes(range(256)) * 200,
}


def write_model(folder, files=FILES):
    """Writes a model's files; returns the folder as a string."""
    for name, data in files.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)
    return str(folder)


class Place:
    """A push destination, read and written without the code under test."""

    def __init__(self, uri, files, path):
        self.uri = uri
        self._files = files
        self._path = path

    def read(self):
        """Returns path -> bytes of the files but locks, claims and SERVED.json."""
        found = self._files.find(self._path)
        names = {path[len(self._path) + 1 :]: path for path in found}
        return {
            name: self._files.cat_file(path)
            for name, path in names.items()
            if not name.startswith((".pushing.lock", ".claim-", "SERVED.json"))
        }

    def write(self, name, data):
        self._files.pipe_file(f"{self._path}/{name}", data)

    def remove(self, name):
        self._files.rm(f"{self._path}/{name}", recursive=True)


@pytest.fixture(params=["folder", "s3", "minio"])
def place(request, tmp_path):
    """Returns an empty destination of each kind; its folder does not exist yet."""
    if request.param == "folder":
        path = str(tmp_path / "serving" / "vae")
        return Place(path, fsspec.filesystem("file", auto_mkdir=True), path)
    bucket = request.getfixturevalue("s3")
    path = f"{bucket.name}/serving/vae"
    return Place(f"{request.param}://{path}", bucket.files, path)
