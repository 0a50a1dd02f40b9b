"""`flyte get …` and `flyte whoami`: list and show records."""

from __future__ import annotations

import click

from flyte.cli.get.account import get_api_key, get_config, get_secret
from flyte.cli.get.account import whoami as whoami
from flyte.cli.get.apps import get_app
from flyte.cli.get.artifacts import get_artifact
from flyte.cli.get.projects import get_project
from flyte.cli.get.runs import get_action, get_io, get_run
from flyte.cli.get.tasks import get_cache, get_task
from flyte.cli.logs import get_logs
from flyte.cli.options import examples
from flyte.cli.triggers import get_trigger
from flyte.cli.verbs import Verbs


@click.group(
    cls=Verbs,
    epilog=examples(
        "flyte get run --in-phase failed", "flyte get run -o json | jq -r '.[].name'", "flyte get app -o url my-app"
    ),
)
def get() -> None:
    """Look at runs, actions, tasks, apps, artifacts, logs, inputs and outputs, secrets, projects and the config.

    Lists are tables on a terminal and plain columns in a pipe; `-o json` is for programs, `-o name` and `-o url` for
    scripts.
    """


for command in (
    get_run,
    get_action,
    get_task,
    get_cache,
    get_trigger,
    get_app,
    get_artifact,
    get_logs,
    get_io,
    get_secret,
    get_api_key,
    get_project,
    get_config,
):
    get.add_command(command)
