"""What a person sees of a run; all else that is printed goes to the log."""

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Column, Table

from pipeline.startup import standard_streams

_WIDTH = 16  # of a step's name
_WIDE = 120  # columns of a terminal that has room for a progress bar
_REPORT_EVERY = 10.0  # seconds between two notes where there is no terminal
_of_model = logging.getLogger("model")  # of all that is logged for people
_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class Screen:
    """The terminal, kept for our own lines.

    TensorFlow and TFX write thousands of lines, some from C++: so the process's
    standard output and error themselves are sent to the log file.
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
        self._model_level = _of_model.level
        _of_model.addHandler(self._progress)
        _of_model.setLevel(logging.DEBUG)
        # Without a terminal there is no width to fold the table to.
        width = None if os.isatty(self._saved[0]) else 120
        self._file = standard_streams.open_output(self._saved[0])
        self.console = Console(file=self._file, width=width, highlight=False)
        utf = self.console.encoding.startswith("utf")
        self._spinner = "dots" if utf else "line"
        self._errors = standard_streams.open_output(self._saved[1])

    @property
    def is_output_lost(self) -> bool:
        """Whether the reader of standard output left before it had all lines."""
        return standard_streams.is_lost(self._file)

    def close(self) -> None:
        """Gives standard output and error back."""
        _of_model.removeHandler(self._progress)
        _of_model.setLevel(self._model_level)
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
        """Prints a line as it is."""
        self.console.print(text, markup=False, soft_wrap=True)

    def aside(self, text: str) -> None:
        """Prints a line to standard error: what is none of the command's results."""
        print(text, file=self._errors)

    @contextlib.contextmanager
    def progress(self, doing: str) -> Iterator[Callable[[str], None]]:
        """Gives what shows a note: in one line on a terminal, else one now and then."""
        if self.console.is_terminal:
            with self.console.status(doing, spinner=self._spinner) as status:
                yield status.update
            return
        reported = -_REPORT_EVERY  # the first one at once

        def show(note: str) -> None:
            nonlocal reported
            if time.monotonic() - reported >= _REPORT_EVERY:
                reported = time.monotonic()
                self.line(note)

        yield show

    def table(self, title: str, rows: list[tuple[str, str]]) -> None:
        """Prints a table of names and values."""
        table = Table(title=title, title_justify="left", show_header=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")  # a long path keeps its end
        for name, value in rows:
            table.add_row(name, value)
        self.console.print()
        self.console.print(table, markup=False)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator["StepLine"]:
        """Shows that a step is running; `done` of what it gives ends its line."""
        if self.console.is_terminal:
            has_room = self.console.width >= _WIDE
            bar = Progress(
                SpinnerColumn(self._spinner, finished_text=" "),
                TextColumn(f"{{task.description:{_WIDTH}}}"),
                *([BarColumn(bar_width=24)] if has_room else []),
                # On more than one line where there is no room: cut, a number would lie.
                TextColumn(
                    "{task.fields[note]}",
                    markup=False,
                    table_column=Column(overflow="fold"),
                ),
                console=self.console,
                transient=True,
            )
            with bar, self._shows_progress(_LiveStep(self, name, bar=bar)) as line:
                yield line
        else:
            self.line(f"{name:{_WIDTH}} ...")
            with self._shows_progress(StepLine(self, name)) as line:
                yield line

    def progressed(self, record: logging.LogRecord) -> None:
        """Shows what the model's code logs: its progress, and what is slow."""
        if self._step is None:
            if record.levelno >= logging.INFO:
                self.aside(record.getMessage())
        elif progress := getattr(record, "progress", None):
            self._step.training(progress, record.levelno)
        elif record.levelno >= logging.INFO:
            self._step.said(record.getMessage())

    @contextlib.contextmanager
    def _shows_progress(self, line: "StepLine") -> Iterator["StepLine"]:
        self._step = line
        try:
            yield line
        finally:
            self._step = None


class StepLine:
    """A running step's line, where there is no terminal: one line an epoch."""

    def __init__(self, screen: Screen, name: str):
        self._screen, self._name = screen, name
        self._started = time.monotonic()
        self.last_note = ""

    def training(self, progress, level: int) -> None:
        """Shows a `model.training.progress.Progress`."""
        self.last_note = _training_note(progress)
        if level >= logging.INFO:
            self.said(self.last_note)

    def said(self, text: str) -> None:
        """Shows what the step says on its way."""
        self._screen.line(f"{self._name:{_WIDTH}} {text}")

    def done(self, outcome: str, cached: bool = False) -> float:
        """Ends the line with what came out; returns the step's seconds."""
        seconds = time.monotonic() - self._started
        took = "from the cache" if cached else f"{seconds:8.1f} s"
        self._screen.line(f"{self._name:{_WIDTH}} {took:>14}   {outcome}")
        return seconds


class _LiveStep(StepLine):
    """A running step's line on a terminal."""

    def __init__(self, screen: Screen, name: str, *, bar: Progress):
        super().__init__(screen, name)
        self._bar = bar
        self._task = bar.add_task(name, total=None, note="")

    def training(self, progress, level: int) -> None:
        self.last_note = _training_note(progress)
        self._bar.update(
            self._task,
            total=progress.steps,
            completed=progress.step,
            note=self.last_note,
        )

    def done(self, outcome: str, cached: bool = False) -> float:
        self._bar.remove_task(self._task)
        return super().done(outcome, cached)


def _training_note(progress) -> str:
    note = f"epoch {progress.epoch}/{progress.epochs}  ELBO {progress.elbo:.2f} (train)"
    if progress.eval_elbo is not None:
        note += f" {progress.eval_elbo:.2f} (eval)"
    return "  ".join([f"{note} nats", *progress.describe_pace()])


class _ProgressHandler(logging.Handler):
    """Gives a screen what the model's code logs."""

    def __init__(self, screen: Screen):
        super().__init__()
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        self._screen.progressed(record)
