"""Terminals of a given width, on which a real process prints."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios


def printed_on(columns: int, *command: str) -> tuple[int, str]:
    """Runs Python on a terminal of a given width; returns exit code and output.

    Args:
      columns: width of the terminal.
      command: the arguments of the Python interpreter.
    """
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("COLUMNS", "LINES", "NO_COLOR")
    }
    process = subprocess.Popen(
        [sys.executable, *command],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**environment, "TERM": "xterm", "LC_ALL": "C.UTF-8"},
    )
    os.close(slave)
    parts = []
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # Linux raises it when the other side is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(master)
    text = b"".join(parts).decode().replace("\r\n", "\n")
    return process.wait(), re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


def joined_cells(printed):
    """Returns each row's cells as text; joins the lines of a folded cell by spaces."""
    rows = []
    for line in printed.splitlines():
        if line.startswith("├") or line.startswith("┡"):
            continue
        cells = [cell.strip() for cell in re.split("[│┃]", line)[1:-1]]
        if not cells:
            continue
        if rows and len(rows[-1]) == len(cells) and not cells[0]:
            rows[-1] = [f"{a} {b}".strip() for a, b in zip(rows[-1], cells)]
        else:
            rows.append(cells)
    return rows
