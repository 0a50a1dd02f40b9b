"""`tarmac up | down | status`: start, stop and look at the platform on this machine.

`flyte up`, `flyte down` and `flyte status` are these commands under another name. Exit codes: 0 for success, 1 for a
failure, 2 if the command could not be tried (a port in use, no HAProxy, a wrong option) or, from `status`, if the
platform does not run.
"""

from __future__ import annotations

import click

from flyte.errors import InitializationError
from flyte.official import refuse_official
from tarmac import __version__
from tarmac.cli.command import Refused
from tarmac.cli.down import down
from tarmac.cli.status import status
from tarmac.cli.up import up

# modules that only some of the commands need are imported where they are used: the user waits for `flyte up`


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tarmac")
def main() -> None:
    """Flyte tasks and apps on this machine, without Docker."""
    try:
        refuse_official()
    except InitializationError as error:
        raise Refused(error.message) from error


for command in (up, down, status):
    main.add_command(command)
