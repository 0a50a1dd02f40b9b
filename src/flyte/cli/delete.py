"""`flyte delete app | artifact | secret | api-key | trigger | cache | local-cache`."""

from __future__ import annotations

import asyncio
import re
import sys

import click

from flyte.cli.options import connect, examples, say, scoped
from flyte.cli.triggers import delete_trigger
from flyte.cli.verbs import Verbs

_KEY = re.compile("[0-9a-f]{8,64}")
"""A key of the cache, or its beginning."""


@click.group(cls=Verbs, epilog=examples("flyte delete app my-app", "flyte delete secret webhook-api-key"))
def delete() -> None:
    """Remove an app, an artifact, a secret, an API key, a trigger, or results from the cache."""


delete.add_command(delete_trigger)


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


@delete.command("artifact", epilog=examples("flyte delete artifact my-model 1.0"))
@click.argument("name")
@click.argument("version")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@scoped
def delete_artifact(name: str, version: str, yes: bool, project: str | None, domain: str | None) -> None:
    """Forget a version of an artifact. Its file stays, and so do the runs that made or used it."""
    client = connect(project, domain)
    asyncio.run(client.get_artifact(name, version))
    _confirm(f"Forget the artifact {name}@{version}?", yes)
    asyncio.run(client.delete_artifact(name, version))
    say(f"artifact {name}@{version} is gone")


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


@delete.command(
    "cache",
    epilog=examples(
        "flyte delete cache 3f2a9c01d4e7", "flyte delete cache --task etl.load", "flyte delete cache --all -y"
    ),
)
@click.argument("key", required=False)
@click.option("--task", metavar="NAME", help="All results of the task with this full name.")
@click.option("--all", "every", is_flag=True, help="All results of the project and domain.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@scoped
def delete_cache(
    key: str | None, task: str | None, every: bool, yes: bool, project: str | None, domain: str | None
) -> None:
    """Remove results from the cache; the next calls compute them again.

    KEY may be its beginning, as `flyte get cache` shows it. The runs that computed the results keep them.
    """
    if sum((key is not None, task is not None, every)) != 1:
        raise click.UsageError("Name a KEY, a --task, or --all.")
    if key is not None and not _KEY.fullmatch(key):
        raise click.UsageError(f"{key!r} is not a key; `flyte get cache` shows them.")
    client = connect(project, domain)
    if key is None:
        _confirm(f"Remove all cached results{f' of {task}' if task else ''}?", yes)
    removed = asyncio.run(client.delete_cache(task, key))
    if not removed:
        raise click.ClickException("Nothing like that is in the cache; `flyte get cache` shows what is.")
    say(f"{len(removed)} cached result{'s are' if len(removed) != 1 else ' is'} gone")


@delete.command("local-cache", epilog=examples("flyte delete local-cache"))
def delete_local_cache() -> None:
    """Remove all results that runs in local mode have cached."""
    from flyte._local import cache

    count = cache.clear()
    say(f"{count} cached result{'s are' if count != 1 else ' is'} gone from {cache.place()}")
