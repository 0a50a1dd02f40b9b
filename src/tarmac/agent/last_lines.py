"""The end of a log: its last lines, and the error that a program wrote last, with its place in the shipped code."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tarmac.workload_files import open_to_read

TAIL_LINES = 40
TAIL_BYTES = 16_384

_ERROR = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception|Warning|Interrupt|Exit)(?:: .*)?$", re.MULTILINE)
_SHIPPED = re.compile(
    r'^(?P<indent>[ |+]*)File "[^"]*/code/[0-9a-f]{64}/(?P<file>[^"]+)", line (?P<line>\d+)', re.MULTILINE
)
_FRAME = re.compile(r'^[ |+]*File "')
_BEGIN = "Traceback (most recent call last):"


def tail(log: Path, start: int = 0) -> str:
    """The last lines of `log` after the offset `start`; empty where there are none."""
    try:
        with open_to_read(log) as file:
            end = file.seek(0, os.SEEK_END)
            # a log that is shorter than it was has been begun anew
            file.seek(max(start if start <= end else 0, end - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-TAIL_LINES:])


def last_error(output: str) -> str:
    """The last error in what a program wrote, with the last place of the shipped code before it; empty without one."""
    errors = list(_ERROR.finditer(output))
    if not errors:
        return ""
    places = list(_SHIPPED.finditer(output, 0, errors[-1].start()))
    place = f" ({places[-1]['file']}:{places[-1]['line']})" if places else ""
    return f"{errors[-1][0]}{place}"


def own_frames(output: str) -> str:
    """The same without the frames of libraries, where a traceback has one of the shipped code.

    The shipped files have the names that they have in the project. What a server says of its own end is left out.
    """
    lines = output.splitlines()
    while lines and lines[-1].startswith("INFO:") and _BEGIN in output:
        lines.pop()
    kept: list[str] = []
    for part in _tracebacks(lines):
        kept += part if not any(map(_SHIPPED.match, part)) else _without_libraries(part)
    return _SHIPPED.sub(r'\g<indent>File "\g<file>", line \g<line>', "\n".join(kept))


def _tracebacks(lines: list[str]) -> list[list[str]]:
    """The lines, cut before each traceback."""
    parts: list[list[str]] = [[]]
    for line in lines:
        if _BEGIN in line:
            parts.append([])
        parts[-1].append(line)
    return parts


def _without_libraries(lines: list[str]) -> list[str]:
    """A traceback with the frames of the shipped code alone. A frame's other lines are indented more than its first."""
    kept, drops, depth = [], False, 0
    for line in lines:
        indent = len(line) - len(line.lstrip(" |+"))
        if _FRAME.match(line):
            drops, depth = not _SHIPPED.match(line), indent
        elif indent <= depth:
            drops = False
        if not drops:
            kept.append(line)
    return kept
