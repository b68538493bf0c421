"""The parser of paths and URIs, and the settings and commands that use it."""

import pytest

from model.files import filesystems, locations, safe_paths
from pipeline.cli import main
from pipeline.config.loading import ConfigError, resolve
from pipeline.local.root import Root

FORM = "a URI has the form s3://BUCKET/FOLDER"
UNSET = "a variable in it may be unset"
PARTS = f"one of its parts is empty; {UNSET}"
WINDOWS = "write a path of this system, such as /mnt/c/models"
VARIABLES = "settings expand no variables such as $NAME; write the value"

# What is no location -> the advice at the end of the message.
REFUSED = {
    "s3://": f"it has no bucket; {UNSET}; {FORM}",
    "gs://": f"it has no bucket; {UNSET}; {FORM}",
    "s3:///x": f"it has no bucket; {UNSET}; {FORM}",
    "s3:": f"{FORM}; write ./s3: for a folder of that name",
    "s3:/models": f"{FORM}; write ./s3:/models for a folder of that name",
    "s3//x": f"{FORM}; write ./s3//x for a folder of that name",
    "gs:x": f"{FORM}; write ./gs:x for a folder of that name",
    "MINIO:/x": f"{FORM}; write ./MINIO:/x for a folder of that name",
    "http:/x": f"{FORM}; write ./http:/x for a folder of that name",
    "file:relative": f"{FORM}; write ./file:relative for a folder of that name",
    "file:/x": f"{FORM}; write ./file:/x for a folder of that name",
    "file://relative": "after file:// must be a path from /",
    "file://": "after file:// must be a path from /",
    " s3://x": "remove the spaces around the URI",
    "s3://x/y ": "remove the spaces around the URI",
    "S3://bucket/x": "write s3:// in small letters",
    "File:///x": "write file:// in small letters",
    "ftp://host/x": f"ftp:// is no scheme of a URI here; {FORM}",
    "s3a://bucket/x": f"s3a:// is no scheme of a URI here; {FORM}",
    "://bucket/x": f":// is no scheme of a URI here; {FORM}",
    "C:\\models": WINDOWS,
    "C:/models": WINDOWS,
    "\\\\host\\share": WINDOWS,
    " ": f"there is no path in it; {UNSET}",
    "\t": f"there is no path in it; {UNSET}",
    "s3://bucket//x": PARTS,
    "s3://bucket/x//": PARTS,
    "s3://bu cket/x": f"'bu cket' is no name of a bucket; {FORM}",
    "s3://<bucket>/x": f"'<bucket>' is no name of a bucket; {FORM}",
    "s3://bucket/a\x1bb": "remove the control characters",
    "s3://$UNSET/x": VARIABLES,
    "s3://$UNSET": VARIABLES,
    "s3://bucket/${UNSET}": VARIABLES,
    "s3://bucket/run-$(date)": VARIABLES,
    "$HOME/models": VARIABLES,
    "/data/${USER}/models": VARIABLES,
}


@pytest.mark.parametrize(("text", "advice"), REFUSED.items())
def test_every_setting_refuses_an_invalid_location(text, advice):
    for key, expected in (
        ("push.destination", "be a folder or begin with minio://, s3://, gs://"),
        (
            "data.source",
            "be auto, tfds, wheel, a folder, or a URI of spans such as "
            "s3://bucket/digits/span-{SPAN}",
        ),
        ("kubeflow.pipeline_root", "begin with minio://, s3://, gs:// or be empty"),
        ("kubeflow.data_dir", "be a folder of the container, from /"),
        (
            "kubeflow.checkpoints",
            "begin with minio://, s3://, gs://, be in one of volumes or be empty",
        ),
    ):
        section, _, field = key.partition(".")
        with pytest.raises(ConfigError) as error:
            resolve("smoke", overrides={f"{section}.{field}": text})
        assert error.value.is_bad_input
        assert str(error.value) == f"{key} must {expected}, got {text!r}: {advice}"


@pytest.mark.parametrize("key", ["data.source", "kubeflow.data_dir"])
def test_a_setting_that_must_be_a_path_is_not_empty(key):
    with pytest.raises(ConfigError, match=f"^{key} must .*, got '': there is no path"):
        resolve("smoke", overrides={key: ""})


@pytest.mark.parametrize(
    "uri", ["s3://key:secret@bucket/x", "https://me:secret@host/x"]
)
def test_a_password_is_not_shown(uri):
    for key in ("push.destination", "kubeflow.checkpoints", "kubeflow.pipeline_root"):
        with pytest.raises(ConfigError, match=r"://\*\*\*@") as error:
            resolve("smoke", overrides={key: uri})
        assert "secret" not in str(error.value)
    with pytest.raises(safe_paths.PathError, match="give no credentials in a URI"):
        locations.parse("s3://key:$secret@bucket/x")


@pytest.mark.parametrize("text", ["a\0b", "/a\0"])
def test_no_path_has_a_null_character(text):
    with pytest.raises(safe_paths.PathError) as error:
        locations.parse(text)
    assert str(error.value) == (
        "a destination must be a folder or begin with minio://, s3://, gs://, got "
        f"{text!r}: no path has a null character"
    )


@pytest.mark.parametrize(
    "text",
    ["1:30", "a::b", "a/s3:/b", "./s3:/b", "s3", "gs/x", "a$b", "US$", "#", "x "],
)
def test_other_names_are_local_folders(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = resolve("smoke", overrides={"push.destination": text})
    expected = f"{tmp_path}/{text.removeprefix('./')}/vae"
    assert Root(tmp_path / "runs").destination(config) == expected


def test_a_root_with_the_name_of_a_scheme_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:").mkdir()
    command = ["versions", "--root", "./s3:/runs"]
    assert main.main(command) == 0
    root = Root(tmp_path / "s3:" / "runs")
    assert root.destination(resolve("smoke")) == f"{tmp_path}/s3:/runs/serving/vae"


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("s3://my-bucket.1/a b/ä/", "my-bucket.1/a b/ä"),
        ("s3://arn:aws:s3:eu-west-1:12:accesspoint/x", None),
    ],
)
def test_names_of_buckets(uri, path):
    location = locations.parse(uri)
    assert location == locations.Location("s3", uri.removeprefix("s3://"))
    if path:
        assert filesystems.find_filesystem(uri)[1] == path


@pytest.mark.parametrize("uri", ["s3://", "s3:/models", "gs:///x", " s3://x"])
@pytest.mark.parametrize(
    "words",
    [
        *(
            ["run"],
            ["versions"],
            ["serve"],
            ["evaluate"],
            ["rollback", "--reason", "a"],
        ),
        *(
            ["prune", "--keep", "1"],
            ["generate"],
            ["compile", "--image", "a"],
            ["submit", "--image", "a"],
        ),
    ],
)
def test_every_command_refuses_it_and_writes_nothing(
    tmp_path, monkeypatch, capsys, words, uri
):
    monkeypatch.chdir(tmp_path)
    assert main.main([*words, "--set", f"push.destination={uri}"]) == 2
    message = "push.destination must be a folder or begin with minio://, s3://, gs://, "
    assert f"{message}got {uri!r}: " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


ASCII = "write :// in ASCII, without invisible characters"
HIDDEN = "remove the control characters"


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("s3\uff1a//models", ASCII),  # a full-width colon
        ("s3\u2236//models", ASCII),  # the sign of a ratio
        ("s3\u200b://models", f"s3\\u200b:// is no scheme of a URI here; {FORM}"),
        ("s3://models/\u200bx", HIDDEN),
        ("s3://models/x\x7f", HIDDEN),
        ("s3://models/x\x9b2J", HIDDEN),
        ("s3://models/x\ty", HIDDEN),
        ("s3://" + "a" * 1_000, "it has more than 1,000 characters"),
        ("/" + "a" * 256, "a part of it has more than 255 bytes"),
        ("x/" + "é" * 128, "a part of it has more than 255 bytes"),
        ("file:///" + "a" * 256, "a part of it has more than 255 bytes"),
        ("a/" * 2_000, "it has more than 4,000 bytes"),
        ("file:///" + "a/" * 2_000, "it has more than 4,000 bytes"),
    ],
)
def test_what_no_store_and_no_disk_has(text, advice):
    with pytest.raises(safe_paths.PathError) as error:
        locations.parse(text)
    message = str(error.value)
    assert message.startswith("a destination must be a folder or begin with minio://")
    assert message.endswith(f": {advice}")
    assert len(message) < 500


@pytest.mark.parametrize("text", ["/" + "a" * 255, "x/" + "é" * 127, "a/" * 1_900])
def test_long_paths_that_a_disk_may_have(text):
    assert locations.parse(text).path == text
