"""`flyte up | down | status | console`: the platform on this machine.

The first three hand over to `python -m tarmac`, which is the platform; this package never imports it.
"""

from __future__ import annotations

import os
import sys

import click

from flyte.cli.handover import hand_over
from flyte.cli.options import connect, examples, formatted, invocation


def _hand_over(*words: str) -> None:
    """Replace this process by `python -m tarmac …`, or raise with the reason why that is not possible."""
    hand_over(*words)
    raise click.ClickException(
        "The platform is not installed here, only the `flyte` package; install it with `pip install .` in a clone of "
        "this project. (To use a platform elsewhere, name it with --endpoint or `flyte create config`.)"
    )


@click.command(
    epilog=examples(
        "flyte up",
        "flyte up --port 0            any free port",
        "flyte up --foreground        for a supervisor such as systemd",
    )
)
@click.option("--port", type=click.IntRange(0, 65535), help="Port of the front door; 0: a free one.  [default: 30080]")
@click.option("--foreground", is_flag=True, help="Stay in this terminal until Ctrl-C.")
def up(port: int | None, foreground: bool) -> None:
    """Start the platform on this machine, and return when it answers.

    It goes on running in the background until `flyte down`. Everything it keeps is in $TARMAC_HOME (~/.tarmac). Where
    it already runs, this says where.
    """
    _hand_over("up", *(["--port", str(port)] if port is not None else []), *(["--foreground"] if foreground else []))


@click.command(epilog=examples("flyte down"))
def down() -> None:
    """Stop the platform on this machine, with all tasks and apps on it.

    Runs that are not finished go on at the next `flyte up`; what has finished is kept.
    """
    _hand_over("down")


@click.command(epilog=examples("flyte status", "flyte status -o json | jq -r .endpoint"))
@formatted
def status(output: str | None) -> None:
    """Say whether the platform runs on this machine, and where it answers. Exit code 0 if it does, else 2."""
    form = invocation().format(output)
    _hand_over("status", *(["--json"] if form.startswith("json") else []))


@click.command(
    epilog=examples(
        "flyte console", "flyte console RUN", "flyte console --print        for a browser on another machine"
    )
)
@click.argument("run", required=False)
@click.option("--print", "only_print", is_flag=True, help="Print the address; open nothing.")
def console(run: str | None, only_print: bool) -> None:
    """Open the console in a browser, signed in; with RUN at that run's page.

    The printed address signs in once, within a minute; after that the browser's session counts.
    """
    import asyncio

    from flyte.cli.signin import signed_in_url

    url = asyncio.run(signed_in_url(connect(), run))
    if not only_print and _opens(url):
        click.echo(f"opened {url.partition('?')[0]} in the browser", err=True)
        return
    click.echo(url)


def _opens(url: str) -> bool:
    """Open the page, if there is a graphical browser; returns whether there was."""
    import webbrowser

    if not sys.stdout.isatty() or (sys.platform.startswith("linux") and not os.environ.get("DISPLAY")):
        return False
    from flyte.cli.signin import page_for

    return webbrowser.open(page_for(url).as_uri())
