"""Every side effect is a line at the end of a file, one file for each run, so none is lost."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from typing import Any

import flyte


def note(where: str, word: str, value: Any = "") -> None:
    """Append who did what in which process: O_APPEND keeps lines of many processes apart.

    `parent` is the process that this one was forked from, `agent` what started that; to kill any of the three is to
    kill this one.
    """
    me = flyte.ctx()
    line = {
        "word": word,
        "action": me.action.name,
        "attempt": me.attempt,
        "pid": os.getpid(),
        "parent": os.getppid(),
        "agent": int(os.environ.get("TARMAC_AGENT", "0")),
        "at": time.time(),
        "value": value,
    }
    file = os.open(where, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(file, json.dumps(line).encode() + b"\n")
    os.close(file)


@contextlib.contextmanager
def noted(where: str) -> Iterator[None]:
    """An attempt notes that it began, and that it is done if it comes to its end."""
    note(where, "began")
    yield
    note(where, "done")


def times(where: str, word: str) -> int:
    """How often this action has noted `word`, in all of its attempts."""
    name = flyte.ctx().action.name
    with open(where) as file:
        lines = [json.loads(line) for line in file]
    return sum(line["word"] == word and line["action"] == name for line in lines)
