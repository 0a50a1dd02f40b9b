"""`flyte status`: whether the platform runs, and how its parts are."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
from pathlib import Path
from typing import Any

import click

from tarmac import disk
from tarmac.cli.command import HOME, home_of
from tarmac.home import Home
from tarmac.supervisor import lock


@click.command()
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", help="How to print it.")
@click.option("--json", "as_json", is_flag=True, help="The same as -o json.")
@HOME
def status(output: str, as_json: bool, folder: Path | None) -> None:
    """Say whether the platform runs, where it answers, and how its parts are. Exit code 2: it does not run."""
    home = home_of(folder)
    state = _state(home)
    if as_json or output == "json":
        click.echo(json.dumps(state, indent=2))
    else:
        click.echo(table(state))
    if not state["running"]:
        sys.exit(2)


def _state(home: Home) -> dict[str, Any]:
    pid = lock.holder(home)
    if not pid:
        return {"running": False, "home": str(home.path)}
    use = {each.kind: each.bytes for each in disk.use(home)}
    told = {"isolation": home.isolation_profile(), "left_out": left_out(home), "disk": use, **_parts(home)}
    return {"running": True, "home": str(home.path), **(home.state() or {}), **told}


def left_out(home: Home) -> list[dict[str, str]]:
    """The items that the platform has left out: each with the reason and the remedy."""
    if not home.aside.exists():
        return []
    from tarmac import aside

    return [{"what": each.what, "why": each.why, "mend": each.mend} for each in aside.read(home)]


def left_out_lines(found: list[dict[str, str]]) -> list[str]:
    """A line for each item; names may contain anything, so only their printable characters reach the terminal."""
    lines = [f"  left out: {each['what']}: {each['why']}. {each['mend']}." for each in found]
    return ["".join(letter if letter.isprintable() else "?" for letter in line) for line in lines]


def _parts(home: Home) -> dict[str, Any]:
    """The supervisor's report on itself and its parts; empty if it does not answer."""
    with contextlib.suppress(OSError, ValueError), socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(2)
        sock.connect(str(home.supervisor_socket))
        with sock.makefile("rb") as file:
            told: dict[str, Any] = json.loads(file.read())
            return told
    return {}


def table(state: dict[str, Any]) -> str:
    if not state["running"]:
        return f"The platform is not running ({state['home']})."
    lines = [f"The platform runs: {state.get('endpoint', 'it is being started')}   ({state['home']})"]
    for part in (*state.get("parts", ()), *filter(None, [state.get("fork_server"), state.get("cleanup")])):
        restarts = f"   restarts: {part['restarts']} (last: {part['last_end']})" if part["restarts"] else ""
        lines.append(f"  {part['name']:<11} {part['state']:<8} pid {part['pid'] or '-'}{restarts}")
    if isolation := state.get("isolation"):
        reason = f" ({isolation['reason']})" if isolation["reason"] else ""
        lines.append(f"  {'isolation':<11} {isolation['profile']}{reason}")
    if use := state.get("disk"):
        lines.append(f"  {'disk':<11} {', '.join(f'{kind} {size / 2**20:,.1f} MiB' for kind, size in use.items())}")
    lines += left_out_lines(state.get("left_out", []))
    return "\n".join(lines)
