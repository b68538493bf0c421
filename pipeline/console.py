"""The console: the lines of a command for people.

Everything else that the process prints goes to the log file.
"""

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator

import rich.console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Column, Table

from model.errors import escape_controls
from pipeline.startup import standard_streams

_WIDTH = 16  # characters of the column of step names
_WIDE = 120  # columns that a terminal needs for a progress bar
_REPORT_EVERY = 10.0  # seconds between progress lines without a terminal
# The logger of the package `model`: its messages are shown on the console.
_model_logger = logging.getLogger("model")
_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class Console:
    """Prints a command's lines, and sends the process's other output to a log file.

    TensorFlow and TFX print thousands of lines, some from C++. So this redirects the
    file descriptors 1 and 2 to the log file, and prints to copies of the old ones.

    Args:
      log_path: the log file, which is appended to; its folder is made.
    """

    def __init__(self, log_path: str):
        self.log_path = log_path
        os.makedirs(os.path.dirname(log_path), exist_ok=True)
        sys.stdout.flush()
        sys.stderr.flush()
        self._saved = os.dup(1), os.dup(2)
        log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        self._handler = logging.FileHandler(
            log_path, encoding="utf-8", errors="backslashreplace"
        )
        self._handler.setFormatter(logging.Formatter(_LOG_FORMAT))
        logging.getLogger().addHandler(self._handler)
        self._level = logging.getLogger().level
        logging.getLogger().setLevel(logging.INFO)
        self._step: StepLine | None = None
        self._progress = _ProgressHandler(self)
        self._model_level = _model_logger.level
        _model_logger.addHandler(self._progress)
        _model_logger.setLevel(logging.DEBUG)
        # Without a terminal, Rich would fold tables at 80 columns.
        width = None if os.isatty(self._saved[0]) else 120
        self._file = standard_streams.open_output(self._saved[0])
        self._rich = rich.console.Console(file=self._file, width=width, highlight=False)
        utf = self._rich.encoding.startswith("utf")
        self._spinner = "dots" if utf else "line"
        self._errors = standard_streams.open_output(self._saved[1])

    @property
    def is_output_lost(self) -> bool:
        """Returns whether standard output was closed before all lines were printed."""
        return standard_streams.is_lost(self._file)

    def close(self) -> None:
        """Restores the process's standard output, standard error and logging."""
        _model_logger.removeHandler(self._progress)
        _model_logger.setLevel(self._model_level)
        sys.stdout.flush()
        sys.stderr.flush()
        self._file.close()
        self._errors.close()
        for target, saved in zip((1, 2), self._saved):
            os.dup2(saved, target)
            os.close(saved)
        logging.getLogger().setLevel(self._level)
        logging.getLogger().removeHandler(self._handler)
        self._handler.close()

    def line(self, text: str) -> None:
        """Prints a line to standard output, without Rich's markup and folding.

        Control characters are printed as escapes.
        """
        self._rich.print(escape_controls(text), markup=False, soft_wrap=True)

    def print_to_stderr(self, text: str) -> None:
        """Prints a line that is not part of the command's results to standard error."""
        print(escape_controls(text), file=self._errors)

    @contextlib.contextmanager
    def progress(self, doing: str) -> Iterator[Callable[[str], None]]:
        """Yields a function that shows a progress message while the block runs.

        A terminal shows the newest message in place, beside a spinner. Elsewhere a
        message is printed as a line, at most one in 10 seconds.

        Args:
          doing: the message before the first call.
        """
        if self._rich.is_terminal:
            with self._rich.status(doing, spinner=self._spinner) as status:
                yield status.update
            return
        reported = -_REPORT_EVERY  # prints the first message at once

        def show(message: str) -> None:
            nonlocal reported
            if time.monotonic() - reported >= _REPORT_EVERY:
                reported = time.monotonic()
                self.line(message)

        yield show

    def table(self, title: str, rows: list[tuple[str, str]]) -> None:
        """Prints a table with a title and two columns: names and values."""
        table = Table(title=title, title_justify="left", show_header=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")  # long paths are not cut
        for name, value in rows:
            table.add_row(name, escape_controls(value))
        self._rich.print()
        self._rich.print(table, markup=False)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator["StepLine"]:
        """Shows that a step is running while the block runs.

        Args:
          name: the name of the step.

        Yields:
          The step's line; its method `print_result` prints the step's result.
        """
        if self._rich.is_terminal:
            has_room = self._rich.width >= _WIDE
            bar = Progress(
                SpinnerColumn(self._spinner, finished_text=" "),
                TextColumn(f"{{task.description:{_WIDTH}}}"),
                *([BarColumn(bar_width=24)] if has_room else []),
                # Folds in a narrow terminal: a number that is cut would be wrong.
                TextColumn(
                    "{task.fields[note]}",
                    markup=False,
                    table_column=Column(overflow="fold"),
                ),
                console=self._rich,
                transient=True,
            )
            with bar, self._set_step_line(_LiveStep(self, name, bar=bar)) as line:
                yield line
        else:
            self.line(f"{name:{_WIDTH}} ...")
            with self._set_step_line(StepLine(self, name)) as line:
                yield line

    def show_log_record(self, record: logging.LogRecord) -> None:
        """Shows a log record of the package `model`.

        While a step runs, its line shows the record's training progress, or its message
        from INFO. Without a step, messages from INFO go to standard error.
        """
        if self._step is None:
            if record.levelno >= logging.INFO:
                self.print_to_stderr(record.getMessage())
        elif progress := getattr(record, "progress", None):
            self._step.show_training(progress, record.levelno)
        elif record.levelno >= logging.INFO:
            self._step.print_message(record.getMessage())

    @contextlib.contextmanager
    def _set_step_line(self, line: "StepLine") -> Iterator["StepLine"]:
        self._step = line
        try:
            yield line
        finally:
            self._step = None


class StepLine:
    """Prints the progress and the result of a step, for output that is no terminal."""

    def __init__(self, console: Console, name: str):
        self._console, self._name = console, name
        self._started = time.monotonic()
        self.last_progress = ""

    def show_training(self, progress, level: int) -> None:
        """Keeps the progress of the training, and prints it from level INFO.

        Args:
          progress: a `model.training.progress.Progress`.
          level: the logging level of the record that has the progress.
        """
        self.last_progress = _describe_training(progress)
        if level >= logging.INFO:
            self.print_message(self.last_progress)

    def print_message(self, text: str) -> None:
        """Prints a message after the name of the step."""
        self._console.line(f"{self._name:{_WIDTH}} {text}")

    def print_result(self, result: str, cached: bool = False) -> float:
        """Prints the step's duration and result.

        Args:
          result: describes the result.
          cached: whether the step's outputs came from the cache.

        Returns:
          The wall time of the step in seconds.
        """
        seconds = time.monotonic() - self._started
        took = "from the cache" if cached else f"{seconds:8.1f} s"
        self._console.line(f"{self._name:{_WIDTH}} {took:>14}   {result}")
        return seconds


class _LiveStep(StepLine):
    """Shows the progress of a step in place on a terminal, and prints its result."""

    def __init__(self, console: Console, name: str, *, bar: Progress):
        super().__init__(console, name)
        self._bar = bar
        self._task = bar.add_task(name, total=None, note="")

    def show_training(self, progress, level: int) -> None:
        self.last_progress = _describe_training(progress)
        self._bar.update(
            self._task,
            total=progress.steps,
            completed=progress.step,
            note=self.last_progress,
        )

    def print_result(self, result: str, cached: bool = False) -> float:
        self._bar.remove_task(self._task)
        return super().print_result(result, cached)


def _describe_training(progress) -> str:
    note = f"epoch {progress.epoch}/{progress.epochs}  ELBO {progress.elbo:.2f} (train)"
    if progress.eval_elbo is not None:
        note += f" {progress.eval_elbo:.2f} (eval)"
    return "  ".join([f"{note} nats", *progress.describe_pace()])


class _ProgressHandler(logging.Handler):
    """Shows the log records of the package `model` on a console."""

    def __init__(self, console: Console):
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.show_log_record(record)
