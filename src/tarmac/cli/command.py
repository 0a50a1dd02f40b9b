"""The parts that all commands have: the option `--home`, and the errors with their exit codes."""

from __future__ import annotations

import os
from pathlib import Path

import click

from tarmac import home as homes
from tarmac.home import Home

LEFTOVERS_LIMIT = 5.0
"""Seconds to wait for the end of killed processes."""

PAUSE = 0.02
"""Seconds between two looks at what a command waits for."""


class Failed(click.ClickException):
    """Raised for a failure that is not the caller's mistake: exit code 1."""


class Refused(click.ClickException):
    """Raised when the command could not be tried: exit code 2."""

    exit_code = 2


HOME = click.option("--home", "folder", type=click.Path(path_type=Path), help="The platform's folder.  [TARMAC_HOME]")


def home_of(folder: Path | None) -> Home:
    """The platform's folder as the option or TARMAC_HOME names it; processes that the command starts have the same."""
    if folder is not None:
        os.environ["TARMAC_HOME"] = str(folder.expanduser().absolute())
    return homes.find()
