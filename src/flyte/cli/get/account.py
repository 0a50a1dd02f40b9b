"""`flyte get secret`, `get api-key`, `get config` and `flyte whoami`: the secrets and keys, and who the caller is."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import click

from flyte.cli import render
from flyte.cli.get.projects import known
from flyte.cli.options import connect, examples, formatted, invocation, scoped
from flyte.cli.tables import Column
from flyte.moments import ago
from flyte.wire import KeyInfo, SecretInfo

SECRETS: Sequence[Column[SecretInfo]] = (
    Column("name", lambda secret: secret.name),
    Column("project", lambda secret: secret.project, leaves=2),
    Column("domain", lambda secret: secret.domain, leaves=1),
    Column("updated", lambda secret: ago(secret.updated or secret.created), leaves=3),
)


@click.command("secret", epilog=examples("flyte get secret"))
@click.argument("name", required=False)
@scoped
@formatted
def get_secret(name: str | None, project: str | None, domain: str | None, output: str | None) -> None:
    """List the secrets' names; their values cannot be read back."""
    form = invocation().format(output)
    client = connect(project, domain)
    secrets = [asyncio.run(client.get_secret(name))] if name else asyncio.run(known(client, client.list_secrets()))
    render.listing(secrets, SECRETS, form, "no secrets; `flyte create secret NAME` makes one")


KEYS: Sequence[Column[KeyInfo]] = (
    Column("id", lambda key: key.id),
    Column("name", lambda key: key.name),
    Column("created", lambda key: ago(key.created), leaves=2),
    Column("last used", lambda key: ago(key.last_used), leaves=1),
)


@click.command("api-key", epilog=examples("flyte get api-key"))
@formatted
def get_api_key(output: str | None) -> None:
    """List the API keys, without the keys themselves."""
    keys = asyncio.run(connect().list_keys())
    render.listing(keys, KEYS, invocation().format(output), "no keys; `flyte create api-key NAME` makes one")


@click.command("config", epilog=examples("flyte get config"))
@formatted
def get_config(output: str | None) -> None:
    """Show which config file is used and what it, together with the environment, says."""
    from flyte._session import config as _config
    from flyte._session import find as _platform

    config = _config.load(invocation().config)
    facts = {
        "file": str(config.source) if config.source else "none found",
        "endpoint": config.endpoint or "not set: the platform of this machine is used",
        "api key": "set" if config.api_key else "not set",
        "project": config.project or "flytesnacks (default)",
        "domain": config.domain or "development (default)",
        "platform's folder": str(_platform.home()),
    }
    form = invocation().format(output)
    if form.startswith("json"):
        render.show_json({name.replace(" ", "_").replace("'", ""): value for name, value in facts.items()}, form)
    else:
        render.details(config, facts.items(), "table")


@click.command(epilog=examples("flyte whoami"))
@formatted
def whoami(output: str | None) -> None:
    """Say where the platform is, and as whom it knows you."""
    client = connect()
    me = asyncio.run(client.me())
    facts = [("subject", me.subject), ("kind", me.kind), ("platform", client.endpoint)]
    facts += [("project", client.project), ("domain", client.domain)]
    form = invocation().format(output)
    if form.startswith("json"):
        render.show_json(dict(facts), form)
    else:
        render.details(me, facts, "table")
    sys.stdout.flush()
