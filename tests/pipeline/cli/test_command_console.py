"""The console of a command: its log, its errors, and lines about slow work."""

import logging
import os

import pytest

from model.training import progress
from pipeline.cli import command_console
from pipeline.cli.command_console import log_slow_work_to_stderr, open_console
from pipeline.config.loading import ConfigError


def test_output_of_libraries_is_in_the_log_and_not_on_the_console(tmp_path, capfd):
    with open_console(str(tmp_path / "runs"), "data") as console:
        os.write(1, b"a library's line\n")
        console.line("a line for people")
        assert command_console.get_result_code(console) == 0
    assert capfd.readouterr().out == "a line for people\n"
    (log,) = (tmp_path / "runs" / "logs").iterdir()
    assert log.name.startswith("data-")
    assert log.read_text() == "a library's line\n"


def test_a_result_whose_reader_closed_the_pipe_has_its_own_code(tmp_path, capfd):
    reader, writer = os.pipe()
    os.close(reader)
    output = os.dup(1)
    os.dup2(writer, 1)
    try:
        with open_console(str(tmp_path / "runs"), "evaluate") as console:
            assert command_console.get_result_code(console) == 0
            console.line("a figure")
            assert command_console.get_result_code(console) == 141
    finally:
        os.dup2(output, 1)
        os.close(output)
        os.close(writer)


def test_a_root_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    root = str(tmp_path / "file")
    with pytest.raises(ConfigError) as error, open_console(root, "run"):
        pytest.fail("there is no folder for a log")
    assert str(error.value).startswith(
        f"--root must be a folder that can be written to, got {tmp_path / 'file'}: "
    )


def test_a_failure_shows_its_message_and_the_log(tmp_path, capfd):
    with open_console(str(tmp_path), "data") as console:
        assert command_console.fail(console, "no images", code=2) == 2
    assert capfd.readouterr().out == (
        f"\nvae-pipeline: no images\nthe whole log: {console.log_path}\n"
    )


def test_slow_work_is_named_on_standard_error(capsys):
    before = progress.logger.level, list(progress.logger.handlers)
    with log_slow_work_to_stderr():
        progress.logger.info("reading the versions takes long")
    progress.logger.info("and this is not shown")
    assert capsys.readouterr() == ("", "reading the versions takes long\n")
    assert (progress.logger.level, list(progress.logger.handlers)) == before
    assert logging.getLogger().handlers == logging.root.handlers
