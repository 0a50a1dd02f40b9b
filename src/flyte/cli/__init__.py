"""The `flyte` command. Nothing but this file is imported until `main` is called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn


def main(words: Sequence[str] | None = None) -> NoReturn:
    """Run the command line (`sys.argv` by default) and exit: 0, 1 the run failed, 2 wrong usage or nothing found."""
    from flyte.cli._main import start

    raise SystemExit(start(words))
