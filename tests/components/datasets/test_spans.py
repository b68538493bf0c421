"""The search for the newest spans."""

import pytest

from components.datasets import spans
from components.datasets.idx import DataError
from pipeline.config.loading import ConfigError, resolve
from tests.support.span_folders import bars, write_idx


def find(pattern, window=1):
    """Returns the numbers of the spans that are found, and the lines of the console."""
    printed = []
    found = spans.find_newest(str(pattern), window, print_line=printed.append)
    return [span.number for span in found], printed


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "src"
    folder.mkdir()
    return folder


def make(folder, *names):
    for name in names:
        (folder / name).mkdir()


# The search for the newest spans.


def test_the_newest_is_the_highest_number_padded_or_not(folder):
    make(folder, "span-9", "span-0010", "span-2")
    assert find(folder / "span-{SPAN}") == ([10], [])
    assert find(folder / "span-{SPAN}", 2) == ([9, 10], [])
    assert spans.find_newest(f"{folder}/span-{{SPAN}}", 1, print_line=print)[0].uri == (
        f"{folder}/span-0010"
    )


def test_a_number_may_stand_alone_or_in_the_middle(folder):
    make(folder, "3", "4", "d5.idx", "d.idx")
    assert find(f"{folder}/{{SPAN}}/") == (
        [4],
        [
            f"{folder}/d.idx is skipped: 'd.idx' is no span's number",
            f"{folder}/d5.idx is skipped: 'd5.idx' is no span's number",
        ],
    )
    assert find(folder / "d{SPAN}.idx") == ([5], [])


def test_gaps_and_names_without_a_number_are_skipped_with_a_message(folder):
    make(folder, "span-1", "span-5", "span-7", "span-tmp", "span-٣", "other")
    (folder / "span-8").write_text("a file")
    assert find(folder / "span-{SPAN}", 9) == (
        [1, 5, 7],
        [
            f"{folder}/span-tmp is skipped: 'tmp' is no span's number",
            f"{folder}/span-٣ is skipped: '٣' is no span's number",
            "spans 2 to 4 are missing: skipped",
            "span 6 is missing: skipped",
        ],
    )


def test_a_relative_pattern_is_of_this_folder(folder, monkeypatch):
    make(folder, "span-1")
    monkeypatch.chdir(folder)
    assert find("span-{SPAN}") == ([1], [])
    assert find("../src/span-{SPAN}") == ([1], [])


@pytest.mark.parametrize(
    ("names", "there"), [((), "nothing"), (("b", "span-x"), "b, span-x")]
)
def test_without_a_match_the_pattern_and_the_existing_names_are_in_the_message(
    folder, names, there
):
    make(folder, *names)
    with pytest.raises(DataError) as error:
        find(folder / "span-{SPAN}")
    assert str(error.value) == (
        f"no span matches {folder}/span-{{SPAN}}: looked in {folder} for folders named "
        f"span-<digits>, and found {there}; put a span there or correct --source"
    )


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError) as error:
        find(tmp_path / "nowhere" / "{SPAN}")
    assert str(error.value) == (
        f"{tmp_path}/nowhere is not a folder: expected one with a folder for each "
        "span; correct --source"
    )


def test_the_same_number_twice_is_refused(folder):
    make(folder, "span-7", "span-07")
    with pytest.raises(DataError) as error:
        find(folder / "span-{SPAN}")
    assert str(error.value) == (
        f"{folder} has span 7 twice, as span-07 and span-7: remove one of them"
    )


def test_a_link_out_of_the_folder_is_refused(folder, tmp_path):
    make(folder, "span-1")
    (tmp_path / "src-2").mkdir()
    (folder / "span-2").symlink_to(tmp_path / "src-2")
    with pytest.raises(DataError) as error:
        find(folder / "span-{SPAN}")
    assert str(error.value) == (
        f"{folder}/span-2 is a link to {tmp_path}/src-2: expected one that stays in "
        f"{folder}; copy the files there"
    )
    (folder / "span-2").unlink()
    (folder / "span-3").symlink_to("span-1")
    assert find(folder / "span-{SPAN}")[0] == [3]


def test_a_file_that_is_a_link_out_of_its_span_is_refused(folder, tmp_path):
    write_idx(folder / "span-1", bars(0, 10, 10))
    secret = tmp_path / "secret"
    secret.write_text("x")
    (folder / "span-1" / "train-images-idx3-ubyte").unlink()
    (folder / "span-1" / "train-images-idx3-ubyte").symlink_to(secret)
    with pytest.raises(DataError, match=f"is a link to {secret}: expected one that"):
        spans.fetch_files(
            spans.find_newest(f"{folder}/span-{{SPAN}}", 1, print_line=print)[0],
            "nowhere",
        )


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "a-{SPAN}/b",
            "source must have {SPAN} once, in its last part, such as "
            "digits/span-{SPAN}, got 'a-{SPAN}/b'",
        ),
        ("{SPAN}-{SPAN}", "source must have {SPAN} once, in its last part"),
        (
            "s3://bucket/digits",
            "source must be a folder, or a URI of spans such as "
            "s3://bucket/digits/span-{SPAN}, got 's3://bucket/digits'",
        ),
        (
            "s3://bucket/../other/{SPAN}",
            "source must have no . or .. in it, got 's3://bucket/../other/{SPAN}'",
        ),
        (
            "s3://b/./span-{SPAN}",
            "source must have no . or .. in it, got 's3://b/./span-{SPAN}'",
        ),
        *(
            (
                source,
                "source must be auto, tfds, wheel, a folder, or a URI of spans such as "
                f"s3://bucket/digits/span-{{SPAN}}, got '{source}': ",
            )
            for source in (
                "http://x/y/span-{SPAN}",
                "s3://span-{SPAN}",
                "s3:///span-{SPAN}",
            )
        ),
    ],
)
def test_bad_sources_are_named_before_anything_runs(source, message):
    with pytest.raises(ConfigError) as error:
        resolve("smoke", settings=[f"data.source='{source}'"])
    assert message in str(error.value)


def test_a_window_is_for_spans():
    with pytest.raises(ConfigError, match="span_window must be 1 without {SPAN} in"):
        resolve("smoke", settings=["data.span_window=2"])
    with pytest.raises(ConfigError, match="span_window must be at least 1, got 0"):
        resolve("smoke", settings=["data.span_window=0"])
