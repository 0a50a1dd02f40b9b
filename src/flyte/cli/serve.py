"""`flyte serve FILE APP`: deploy an app, say where it answers."""

from __future__ import annotations

import asyncio

import click

from flyte.cli import render
from flyte.cli.logs import print_app_logs
from flyte.cli.options import connect, examples, formatted, invocation, pairs, say, scoped, shipped
from flyte.cli.program import load
from flyte.cli.verbs import refuse_absent


@click.command(
    epilog=examples(
        "flyte serve app.py env",
        "flyte serve app.py env -f          follow what it writes",
        "curl $(flyte serve app.py env)",
    ),
)
@click.argument("file", metavar="FILE")
@click.argument("app", metavar="APP")
@click.option("-f", "--follow", is_flag=True, help="Then print what it writes, until Ctrl-C.")
@click.option(
    "-e", "--env-var", "env_vars", multiple=True, metavar="KEY=VALUE", help="Environment variable for the app."
)
@shipped
@scoped
@formatted
def serve(
    file: str,
    app: str,
    follow: bool,
    env_vars: tuple[str, ...],
    version: str | None,
    copy_style: str,
    root_dir: str | None,
    strict: bool,
    project: str | None,
    domain: str | None,
    output: str | None,
) -> None:
    """Deploy APP of FILE and what it depends on, start it, and print its address on stdout.

    The app goes on running. `flyte update app NAME --deactivate` stops it.
    """
    from flyte.app import AppEnvironment
    from flyte.cli.execute import serve_app

    if file == "hello":
        refuse_absent(click.get_current_context(), "serve hello")
    loaded = load(file, root_dir)
    environment = loaded.environment(app)
    if not isinstance(environment, AppEnvironment):
        raise click.UsageError(f"{app} is a task environment; `flyte deploy {file} {app}` deploys it.")
    client = connect(project, domain, root_dir=loaded.root, start=True)
    served = asyncio.run(serve_app(client, environment, version, copy_style, pairs(env_vars, "--env-var"), strict))
    form = invocation().format(output)
    if form.startswith("json"):
        render.show_json(render.as_data(served), form)
    else:
        click.echo(served.name if form == "name" else served.url)
    if follow:
        say(f"the app goes on after Ctrl-C; `flyte update app {served.name} --deactivate` stops it")
        asyncio.run(print_app_logs(client, served.name, tail=10, follow=True))
