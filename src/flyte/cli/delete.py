"""`flyte delete app | secret | api-key`."""

from __future__ import annotations

import asyncio
import sys

import click

from flyte.cli.options import connect, examples, say, scoped
from flyte.cli.verbs import Verbs


@click.group(cls=Verbs, epilog=examples("flyte delete app my-app", "flyte delete secret webhook-api-key"))
def delete() -> None:
    """Remove an app, a secret, or an API key."""


def _confirm(question: str, yes: bool) -> None:
    """Ask on a terminal; a script has said what it wants."""
    if not yes and sys.stdin.isatty():
        click.confirm(question, abort=True, err=True)


@delete.command("app", epilog=examples("flyte delete app my-app"))
@click.argument("name")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@scoped
def delete_app(name: str, yes: bool, project: str | None, domain: str | None) -> None:
    """Stop an app and remove it, with all its versions and its address."""
    client = connect(project, domain)
    asyncio.run(client.get_app(name))
    _confirm(f"Remove the app {name} and its address?", yes)
    asyncio.run(client.delete_app(name))
    say(f"app {name} is gone")


@delete.command("secret", epilog=examples("flyte delete secret webhook-api-key"))
@click.argument("name")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@scoped
def delete_secret(name: str, yes: bool, project: str | None, domain: str | None) -> None:
    """Remove a secret. Processes that have it keep it until they end; the next deploy that names it is refused."""
    client = connect(project, domain)
    asyncio.run(client.get_secret(name))
    _confirm(f"Remove the secret {name}?", yes)
    asyncio.run(client.delete_secret(name))
    say(f"secret {name} is gone")


@delete.command("api-key", epilog=examples("flyte delete api-key ID      `flyte get api-key` lists them"))
@click.argument("key_id", metavar="ID")
def delete_api_key(key_id: str) -> None:
    """Revoke an API key, at once."""
    asyncio.run(connect().delete_key(key_id))
    say(f"key {key_id} is revoked")
