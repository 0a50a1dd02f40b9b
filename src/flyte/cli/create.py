"""`flyte create secret | api-key | project | trigger | config`."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import click

from flyte.cli import render
from flyte.cli.options import connect, examples, formatted, invocation, pairs, say, scoped
from flyte.cli.triggers import create_trigger
from flyte.cli.verbs import Verbs


@click.group(cls=Verbs, epilog=examples("flyte create secret webhook-api-key", "flyte create api-key ci"))
def create() -> None:
    """Make a secret, an API key, a project, a trigger, or a config file."""


create.add_command(create_trigger)


@create.command(
    "secret",
    epilog=examples(
        "flyte create secret webhook-api-key                 asks for the value",
        "flyte create secret tls-key --from-file key.pem",
        "pass show webhook | flyte create secret webhook-api-key",
    ),
)
@click.argument("name")
@click.option("--value", help="The value. It stays in your shell's history; a prompt, a file or a pipe does not.")
@click.option(
    "--from-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Take a file's content."
)
@click.option("--keep-newline", is_flag=True, help="Keep the newline at the end of a file or pipe.")
@scoped
def create_secret(
    name: str,
    value: str | None,
    from_file: Path | None,
    keep_newline: bool,
    project: str | None,
    domain: str | None,
) -> None:
    """Store a secret, or replace its value. The value is asked for, or read from a pipe, unless a flag gives it.

    One newline at the end of a file or pipe is left out: an editor or `echo` put it there, and a key that ends in one
    signs nothing right. A text of several lines, such as a certificate, keeps its own.
    """
    if value is not None and (from_file is not None or keep_newline):
        raise click.UsageError("--value excludes --from-file and --keep-newline.")
    client = connect(project, domain)
    secret = asyncio.run(client.create_secret(name, _secret_value(value, from_file, keep_newline)))
    say(f"secret {secret.name} is stored for {secret.project}/{secret.domain}")


def _secret_value(value: str | None, file: Path | None, keep_newline: bool) -> str:
    if file is not None:
        try:
            value = _trimmed(file.read_bytes().decode(), keep_newline)
        except UnicodeDecodeError:
            raise click.UsageError(f"{file} is not text; encode it, for example with base64.") from None
    elif value is None and sys.stdin.isatty():
        value = str(click.prompt("Value", hide_input=True, confirmation_prompt=True, err=True))
    elif value is None:
        value = _trimmed(sys.stdin.read(), keep_newline)
    if not value:
        raise click.UsageError("The value is empty; give it with --value, --from-file, at the prompt, or in a pipe.")
    return value


def _trimmed(text: str, keep_newline: bool) -> str:
    """The text without the newline at the end of its only line."""
    line = text.removesuffix("\n").removesuffix("\r")
    if keep_newline or line == text or "\n" in line:
        return text
    say("the newline at the end is removed; --keep-newline keeps it")
    return line


@create.command(
    "api-key", epilog=examples("flyte create api-key ci", "export FLYTE_API_KEY=$(flyte create api-key ci)")
)
@click.argument("name")
@formatted
def create_api_key(name: str, output: str | None) -> None:
    """Make a key for the API and for apps that require one. It is printed once and cannot be read again."""
    key = asyncio.run(connect().create_key(name))
    form = invocation().format(output)
    if form.startswith("json"):
        render.show_json(render.as_data(key), form)
        return
    click.echo(key.key)
    say(
        f"this is key {key.id} ({key.name}); keep it, it is not shown again. `flyte delete api-key {key.id}` revokes it"
    )


@create.command("project", epilog=examples("flyte create project shop", "flyte create project shop --name 'The shop'"))
@click.argument("project_id", metavar="NAME", required=False)
@click.option("--id", "identifier", help="The same as NAME, which commands and addresses use.")
@click.option("--name", help="What people call it.  [default: NAME]")
@click.option("--description", default="")
@click.option("-l", "--label", "labels", multiple=True, metavar="KEY=VALUE")
def create_project(
    project_id: str | None, identifier: str | None, name: str | None, description: str, labels: tuple[str, ...]
) -> None:
    """Make a project, a space for tasks, apps, runs and secrets."""
    from flyte.wire import Project

    if project_id and identifier and project_id != identifier:
        raise click.UsageError(f"NAME is {project_id!r} and --id is {identifier!r}; say one of them.")
    identifier = project_id or identifier
    if not identifier:
        raise click.UsageError("Name the project: flyte create project NAME.")
    project = Project(id=identifier, name=name or identifier, description=description, labels=pairs(labels, "--label"))
    made = asyncio.run(connect().create_project(project))
    say(f"project {made.id} is there; use it with -p {made.id}")


@create.command(
    "config",
    epilog=examples(
        "flyte create config --endpoint https://flyte.example.com --api-key tk_…",
        "flyte create config --project shop -f ~/.flyte/config.yaml",
    ),
)
@click.option("--endpoint", help="Address of the platform.  [default: that of this machine]")
@click.option("--api-key", help="The key to use; FLYTE_API_KEY in the environment wins over it.")
@click.option("--project", "-p", help="Default project.")
@click.option("--domain", "-d", help="Default domain.")
@click.option("--insecure", is_flag=True, help="Speak http to an endpoint that is given without http:// or https://.")
@click.option(
    "-f",
    "--file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path(".flyte/config.yaml"),
    show_default=True,
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def create_config(
    endpoint: str | None,
    api_key: str | None,
    project: str | None,
    domain: str | None,
    insecure: bool,
    file: Path,
    force: bool,
) -> None:
    """Write a config file, which commands and `flyte.init_from_config()` find in ./.flyte or ~/.flyte."""
    import yaml

    from flyte._session.config import normal_endpoint

    if insecure and not endpoint:
        raise click.UsageError("--insecure goes with --endpoint.")
    file = file.expanduser()
    if file.exists() and not force:
        raise click.UsageError(f"{file} is there already; --force replaces it.")
    admin: dict[str, Any] = {"endpoint": normal_endpoint(endpoint, insecure or None) if endpoint else None}
    admin |= {"insecure": True if insecure else None, "api_key": api_key}
    sections = {"admin": admin, "task": {"project": project, "domain": domain}}
    written = {name: {key: value for key, value in section.items() if value} for name, section in sections.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)  # it may hold a key
    with os.fdopen(descriptor, "w") as stream:
        yaml.safe_dump({name: section for name, section in written.items() if section}, stream, sort_keys=False)
    say(f"wrote {file}")
