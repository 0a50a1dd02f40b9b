"""The `flyte` command. Nothing but this file is imported until `main` is called."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn


def main(words: Sequence[str] | None = None) -> NoReturn:
    """Run the command line (`sys.argv` by default) and exit: 0, 1 the run failed, 2 wrong usage or nothing found."""
    given = list(sys.argv[1:] if words is None else words)
    if given[:1] == ["up"] and all(word == "--port" or word.isdecimal() for word in given[1:]):
        from flyte.cli.handover import hand_over  # saves the 50 ms of importing click for commands of `tarmac`

        hand_over(*given)
    from flyte.cli._main import start

    raise SystemExit(start(words))
