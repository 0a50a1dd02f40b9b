"""Tracebacks for people: they begin at the user's own files."""

from __future__ import annotations

import re

_FRAME = re.compile(r'^[ |]*File "(?P<path>[^"]+)", line ')


_SHIPPED = re.compile(r'(?<=File ")[^"]*/code/[0-9a-f]{64}/')


_STANDARD = re.compile(r"/lib/python3\.\d+/(?!site-packages/|dist-packages/)|^<frozen ")


_OURS = re.compile(r"^flyte\.errors\.(?P<name>\w+)(?=: |$)", re.MULTILINE)


def readable(traceback: str) -> str:
    """A traceback for people: it begins at the first of the user's files, with their paths in the project.

    The folder with the shipped code is left out, and so are the first frames of Python's own code, such as `asyncio`'s.
    An exception from another action has the class that it had there.
    """
    lines = _SHIPPED.sub("", traceback).split("\n")
    kept: list[str] = []
    skipped: list[str] | None = None
    for line in lines:
        found = _FRAME.match(line)
        if line.lstrip(" |").startswith("Traceback (most recent call last):"):
            kept.append(line)
            skipped = []
        elif skipped is None:
            kept.append(line)
        elif found and not _STANDARD.search(found["path"]):
            kept.append(line)
            skipped = None
        elif found or line.startswith("    "):
            skipped.append(line)
        else:  # it had no frame but Python's own
            kept += [*skipped, line]
            skipped = None
    return _OURS.sub(r"\g<name>", "\n".join(kept))
