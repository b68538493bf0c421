"""Names from other sources and symbolic links: none leads out of its folder."""

import os
import pathlib
import pwd

import pytest

from components import ingest
from components.datasets import prepare_spans
from model.files import filesystems, safe_paths
from pipeline.cli import main, options
from pipeline.config.loading import ConfigError, from_dict, resolve
from pipeline.config.notifications import NotifyConfig
from pipeline.config.sections import KubeflowConfig
from pipeline.local import runner
from pipeline.runs import lifecycle, notify
from tests.support import bars
from tests.support.command_line import parse
from tests.support.records import make_record


@pytest.mark.parametrize("name", ["a", "a/b", "a/.b", "..a/b..", "a b/ü", "a\\..\\b"])
def test_a_name_below_its_folder(tmp_path, name):
    assert safe_paths.join_below(str(tmp_path), name) == f"{tmp_path}/{name}"


@pytest.mark.parametrize(
    "name",
    [
        *("", "/", "/etc/passwd", "..", "../a", "a/../../b", "a/..", ".", "a/./b"),
        *("a//b", "a/", "a\0b"),
    ],
)
def test_a_name_outside_the_folder_is_refused(tmp_path, name):
    message = f"a file's name must lead below {tmp_path}, got {name!r}"
    for check in (safe_paths.join_below, safe_paths.check_name):
        with pytest.raises(safe_paths.PathError) as error:
            check(str(tmp_path), name)
        assert str(error.value) == message


def test_a_link_in_the_path_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link").symlink_to(tmp_path / "elsewhere")
    folder = str(tmp_path / "folder")
    for name in ("link", "link/a", "link/a/b"):
        with pytest.raises(safe_paths.PathError) as error:
            safe_paths.join_below(folder, name)
        assert str(error.value) == (
            f"link below {folder} must be no symbolic link, it leads to "
            f"{tmp_path}/elsewhere"
        )


def test_links_below_a_folder(tmp_path):
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    safe_paths.refuse_links(str(folder))
    (tmp_path / "link").symlink_to(folder)
    # the user chose the folder's own path, which may be a link
    safe_paths.refuse_links(str(tmp_path / "link"))
    (folder / "sub" / "file").symlink_to("/etc/passwd")
    for path in (folder, tmp_path / "link"):
        with pytest.raises(safe_paths.PathError) as error:
            safe_paths.refuse_links(str(path))
        assert str(error.value) == (
            f"sub/file below {path} must be no symbolic link, it leads to /etc/passwd"
        )


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../vae", "a/b", "/vae", "a/../b", ".vae", "a\0b", "a\nb"]
)
def test_a_models_name_is_one_folders(name):
    with pytest.raises(ConfigError) as error:
        from_dict({"push": {"model_name": name}})
    assert str(error.value) == (
        f"push.model_name must be a plain folder name, got {name!r}"
    )


@pytest.mark.parametrize("uri", ["s3://models/../other", "gs://a/./b", "minio://a/.."])
def test_an_object_stores_uri_has_no_dots(uri):
    with pytest.raises(safe_paths.PathError) as error:
        filesystems.local_path(uri)
    assert str(error.value) == (
        f"a destination must have no . or .. in it, got {uri!r}"
    )
    for setting in ("push.destination", "kubeflow.pipeline_root"):
        with pytest.raises(ConfigError) as error:
            resolve("smoke", settings=[f"{setting}={uri}"])
        field = setting.partition(".")[2]
        assert f"{field} must have no . or .. in it, got {uri!r}" in str(error.value)


@pytest.mark.parametrize("field", ["checkpoints", "data_dir"])
def test_a_folder_in_a_volume_stays_there(field):
    settings = {"volumes": {"/data": "claim"}, field: "/data/../etc"}
    with pytest.raises(ValueError, match=r"no \. or \.\. in it, got '/data/\.\./etc'"):
        KubeflowConfig(**settings)


def test_the_users_own_folder_may_be_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert filesystems.local_path("../models") == str(
        pathlib.Path(tmp_path.parent, "models")
    )


@pytest.fixture
def home(tmp_path, monkeypatch):
    folder = tmp_path / "my home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


def test_a_home_is_expanded_at_the_beginning_alone(home):
    assert safe_paths.expand_home("~") == str(home)
    assert safe_paths.expand_home("~/a/~b") == f"{home}/a/~b"
    root = pwd.getpwuid(0)
    assert safe_paths.expand_home(f"~{root.pw_name}/a") == os.path.join(
        root.pw_dir, "a"
    )
    for path in ("a/~/b", "./~", "/~", "a~", "", "s3://bucket/~/a"):
        assert safe_paths.expand_home(path) == path


def test_an_invalid_home_is_named(monkeypatch):
    with pytest.raises(safe_paths.PathError) as error:
        safe_paths.expand_home("~nosuchuser/a")
    assert str(error.value) == (
        "~nosuchuser must be a home folder, got '~nosuchuser/a': there is no such "
        "user, or HOME is not set; write the whole path, or ./~nosuchuser for a folder "
        "of that name"
    )


def test_the_home_is_expanded_in_every_path_of_the_command_line_and_the_settings(
    home, tmp_path, monkeypatch, capsys
):
    """`~` means the home folder in every path, as if the path were written in full."""
    bars.write_idx(home / "bars", labels=range(10))
    (home / "config.yaml").write_text("metrics: {textfile: ~/vae.prom}\n")
    (home / "hook").write_text(f"#!/bin/sh\ncat >{tmp_path}/notified\n")
    (home / "hook").chmod(0o755)
    (home / "token").write_text("secret\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    words = ["--dataset", "bars", "--source=~/bars", "--config=~/config.yaml"]
    words += ["--root", "~/runs", "--set", "push.destination=~/serving"]
    args = parse("run", *words, "--data-dir", "~/data")
    assert (args.root, args.data_dir) == (f"{home}/runs", f"{home}/data")
    resolved = options.resolve(args)
    assert options.destination(args, resolved) == f"{home}/serving/vae"
    assert runner.Root(pathlib.Path(args.root)).destination(resolved) == (
        f"{home}/serving/vae"
    )
    assert main.main(["data", *words, "--data-dir", "~/data"]) == 0
    assert (home / "data/bars/1.0.0").is_dir()
    (home / "bars").rename(home / "span-7")
    spans = prepare_spans.prepare_data(
        "bars", "~/span-{SPAN}", window=1, data_dir=str(home / "data")
    )
    assert [span.number for span in spans.spans] == [7]
    with lifecycle.record_run(
        resolved,
        pathlib.Path(args.root),
        run_id="run",
        should_wait=False,
        print_line=print,
    ):
        pass
    assert (home / "vae.prom").read_text().startswith("# HELP vae_pipeline")
    config = NotifyConfig(command=["~/hook", "~"], token="file:~/token")
    assert notify.find_problems(config) == []
    notify.send(config, make_record(status="failed"), text="text", print_line=print)
    assert '"verdict": "failed"' in (tmp_path / "notified").read_text()
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(
    "setting",
    [
        *("data.source=~nosuch/x", "push.destination=~nosuch/x"),
        "metrics.textfile=~nosuch/x.prom",
    ],
)
def test_a_setting_with_an_unknown_home_is_named(setting):
    key = setting.partition("=")[0]
    with pytest.raises(ConfigError, match=f"^{key}: ~nosuch must be a home folder"):
        resolve("smoke", settings=[setting])


def test_an_unknown_home_in_a_notification_is_named(capsys):
    (problem,) = notify.find_problems(NotifyConfig(token="file:~nosuch/x"))
    assert "~nosuch must be a home folder" in problem
    config = NotifyConfig(command=["~nosuch/x"])
    notify.send(config, make_record(status="failed"), text="text", print_line=print)
    assert "can't be started: ~nosuch must be a home folder" in capsys.readouterr().out


@pytest.mark.parametrize("character", "*?[\\")
def test_a_path_that_a_library_takes_as_a_pattern_is_refused_at_once(
    tmp_path, monkeypatch, capsys, character
):
    name = f"a{character}b"
    message = (
        "must be a path without *, ?, [ and \\, which Beam and TensorFlow take as "
        "patterns of names, got "
    )
    for arguments in (
        ["run", "--root", str(tmp_path / name)],
        ["schedule", "--local", "--cron", "0 3 * * *", "--root", str(tmp_path / name)],
    ):
        assert main.main(arguments) == 2
        assert f"--root {message}" in capsys.readouterr().err
    settings = ["push.destination", "kubeflow.pipeline_root", "kubeflow.data_dir"]
    for key, value in (
        *zip(settings, (f"x/{name}", f"s3://b/{name}", f"/{name}")),
        ("kubeflow.checkpoints", f"s3://b/{name}"),
    ):
        with pytest.raises(ConfigError, match=f"^{key} ") as error:
            resolve("smoke", settings=[options.format_setting(key, value)])
        assert f"{message}{value!r}" in str(error.value)
    # A relative path is relative to the current folder.
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    assert main.main(["run"]) == 2
    assert f"--root {message}" in capsys.readouterr().err
    absolute = ["run", "--root", str(tmp_path), "--set", "push.destination=s"]
    assert main.main(absolute) == 2
    assert f"push.destination {message}" in capsys.readouterr().err
    assert list((tmp_path / name).iterdir()) == []


def test_other_paths_may_contain_pattern_characters(tmp_path):
    folder = tmp_path / "a[b]*?{c}\\"
    bars.write_idx(folder / "span-1", labels=range(10))
    (folder / "my.yaml").write_text("data: {eval_images: 7}\n")
    for source in ("span-1", "span-{SPAN}"):
        arguments = [
            *("data", "--dataset", "bars", "--source", f"{folder}/{source}"),
            *("--data-dir", f"{folder}/data", "--root", f"{folder}/runs"),
            *("--config", f"{folder}/my.yaml"),
        ]
        assert main.main(arguments) == 0
        args = parse(*arguments)
        data = prepare_spans.prepare_data(
            "bars", args.source, window=1, data_dir=args.data_dir
        )
        chunk = ingest.Chunk("train", 0, 3)
        assert len(list(ingest.read_chunk(chunk, data.parts[0].path))) == 3
    assert main.main(["history", "--root", f"{folder}/runs"]) == 0


def test_a_name_with_characters_of_patterns_is_no_models():
    with pytest.raises(ConfigError, match="push.model_name must be a path without"):
        resolve("smoke", settings=["push.model_name='a[b]'"])
