"""Names of others, and symbolic links: none leads out of its folder."""

import pathlib

import pytest

from model import paths, storage
from pipeline.config import ConfigError, KubeflowConfig, PushConfig, resolve


@pytest.mark.parametrize("name", ["a", "a/b", "a/.b", "..a/b..", "a b/ü", "a\\..\\b"])
def test_a_name_below_its_folder(tmp_path, name):
    assert paths.below(str(tmp_path), name) == f"{tmp_path}/{name}"


@pytest.mark.parametrize(
    "name",
    [
        *("", "/", "/etc/passwd", "..", "../a", "a/../../b", "a/..", ".", "a/./b"),
        *("a//b", "a/", "a\0b"),
    ],
)
def test_a_name_that_leads_elsewhere(tmp_path, name):
    message = f"a file's name must lead below {tmp_path}, got {name!r}"
    for check in (paths.below, paths.check_name):
        with pytest.raises(paths.PathError) as error:
            check(str(tmp_path), name)
        assert str(error.value) == message


def test_a_link_on_the_way(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link").symlink_to(tmp_path / "elsewhere")
    folder = str(tmp_path / "folder")
    for name in ("link", "link/a", "link/a/b"):
        with pytest.raises(paths.PathError) as error:
            paths.below(folder, name)
        assert str(error.value) == (
            f"link below {folder} must be no symbolic link, it leads to "
            f"{tmp_path}/elsewhere"
        )


def test_links_below_a_folder(tmp_path):
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    paths.refuse_links(str(folder))
    (tmp_path / "link").symlink_to(folder)
    paths.refuse_links(str(tmp_path / "link"))  # its own path is its owner's
    (folder / "sub" / "file").symlink_to("/etc/passwd")
    for path in (folder, tmp_path / "link"):
        with pytest.raises(paths.PathError) as error:
            paths.refuse_links(str(path))
        assert str(error.value) == (
            f"sub/file below {path} must be no symbolic link, it leads to /etc/passwd"
        )


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../vae", "a/b", "/vae", "a/../b", ".vae", "a\0b", "a\nb"]
)
def test_a_models_name_is_one_folders(name):
    with pytest.raises(ValueError, match="must be a plain folder name") as error:
        PushConfig(model_name=name)
    assert str(error.value) == f"model_name must be a plain folder name, got {name!r}"


@pytest.mark.parametrize("uri", ["s3://models/../other", "gs://a/./b", "minio://a/.."])
def test_an_object_stores_uri_has_no_dots(uri):
    with pytest.raises(paths.PathError) as error:
        storage.local_path(uri)
    assert str(error.value) == (
        f"an object store's URI must have no . or .. in it, got {uri!r}"
    )
    for setting in ("push.destination", "kubeflow.pipeline_root"):
        with pytest.raises(ConfigError) as error:
            resolve("smoke", None, [f"{setting}={uri}"])
        field = setting.partition(".")[2]
        assert f"{field} must have no . or .. in it, got {uri!r}" in str(error.value)


@pytest.mark.parametrize("field", ["checkpoints", "data_dir"])
def test_a_folder_in_a_volume_stays_there(field):
    settings = {"volumes": {"/data": "claim"}, field: "/data/../etc"}
    with pytest.raises(ValueError, match=r"no \. or \.\. in it, got '/data/\.\./etc'"):
        KubeflowConfig(**settings)


def test_a_folder_of_ones_own_may_be_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert storage.local_path("../models") == str(
        pathlib.Path(tmp_path.parent, "models")
    )
