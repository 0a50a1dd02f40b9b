"""Write what is made from the code: states.md, settings.md, cli.md, and the list in limits.md. `scripts/docs` runs it.

With --check nothing is written, and the exit code is 1 where a page is not what it would be.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from flyte import rules
from flyte._declare import no_effect as _no_effect
from flyte.cli._main import VERBS, program
from flyte.phases import RESERVED, TRANSITIONS, Transition
from flyte.wire import TERMINAL, ActionPhase, AppStatus, DeploymentPhase
from tarmac.inputs import STEPS
from tarmac.model import APP_TRANSITIONS, DEPLOYMENT_TRANSITIONS, ENVIRONMENT_TRANSITIONS, REPLICA_TRANSITIONS, Row
from tarmac.settings import SETTINGS

HERE = Path(__file__).parent
MADE = "<!-- Made by scripts/docs; change the code, then run it. -->\n"


def states() -> str:
    """The state machines: a diagram, then every arrow with what makes it."""
    return f"""{MADE}
# States

Every phase and status is moved by one function for each table that refuses what is in no row of it: actions by
`flyte.phases`, which local mode uses too, the others by `tarmac.model`. A change of an action, an app or a deployment
is written in the same transaction as the event that tells of it.

## Actions, and so runs

A run is a tree of actions; its phase is that of its root action, `a0`. {_ends()} are final.

{_diagram(TRANSITIONS, [phase.value for phase in _final()], ActionPhase.QUEUED.value)}

{_table(TRANSITIONS, _seen())}

The last column counts how often `scripts/torture` went that way in the runs that `benchmarks/results/` keeps; the
others have a test of their own. {_reserved()} are names of Flyte's API that are
*reserved*: no action is ever in them here. A recorded step (`flyte.trace`) is stored when it has ended, in its final
phase.

Phases are shown to users under these names, in the API, in `run.phase` and `run.status`, and on the command line.

## Apps

{_diagram(APP_TRANSITIONS, [], AppStatus.DEPLOYING.value)}

{_table(APP_TRANSITIONS)}

`sleeping` means that no replica runs and that the next request starts one. `stopped` means that somebody said so: no
request starts one, until `flyte update app NAME --activate`.

## Replicas

{_diagram(REPLICA_TRANSITIONS, ["failed", "stopped"], "starting")}

{_table(REPLICA_TRANSITIONS)}

## Deployments

{_diagram(DEPLOYMENT_TRANSITIONS, ["succeeded", "failed"], DeploymentPhase.RUNNING.value)}

{_table(DEPLOYMENT_TRANSITIONS)}

And each environment in one:

{_diagram(ENVIRONMENT_TRANSITIONS, ["unchanged", "failed", "rolled_back"], "waiting")}

{_table(ENVIRONMENT_TRANSITIONS)}

What is `waiting` when a deployment fails was not touched, and stays so.
"""


def _final() -> list[ActionPhase]:
    return [phase for phase in ActionPhase if phase in TERMINAL and phase not in RESERVED]


def _reserved() -> str:
    return _listed(phase for phase in ActionPhase if phase in RESERVED)


def _ends() -> str:
    return _listed(_final())


def _listed(phases: Iterable[ActionPhase]) -> str:
    names = [f"`{phase}`" for phase in phases]
    return ", ".join(names[:-1]) + f" and {names[-1]}"


def _diagram(rows: Iterable[Transition | Row], ends: Sequence[str], first: str) -> str:
    arrows = [f"    [*] --> {first}"]
    arrows += [f"    {row.old} --> {row.new}" for row in rows]
    arrows += [f"    {end} --> [*]" for end in ends]
    return "\n".join(["```mermaid", "stateDiagram-v2", *arrows, "```"])


def _table(rows: Iterable[Transition | Row], seen: Counter[str] | None = None) -> str:
    """`seen` (`old → new` → times) makes a last column."""
    head, rule = "| from | to | because |", "| --- | --- | --- |"
    lines = [f"| `{row.old}` | `{row.new}` | {row.why} |" for row in rows]
    if seen is not None:
        head, rule = f"{head} seen by torture |", f"{rule} ---: |"
        times = [seen[f"{row.old} → {row.new}"] for row in rows]
        lines = [f"{line} {f'{count:,}' if count else ''} |" for line, count in zip(lines, times, strict=True)]
    return "\n".join([head, rule, *lines])


def _seen() -> Counter[str]:
    """The transitions that the recorded torture runs went through."""
    seen: Counter[str] = Counter()
    for file in sorted((HERE.parent / "benchmarks" / "results").glob("torture-*.json")):
        seen.update(json.loads(file.read_text())["transitions seen"])
    return seen


def settings() -> str:
    """Every setting of the platform."""
    rows = "\n".join(
        f"| `{row.name}` | `TARMAC_{row.name.upper()}` | {_code(row.default)} | {row.help} |" for row in SETTINGS
    )
    return f"""{MADE}
# Settings of the platform

A setting is read from its environment variable, else from `settings.yaml` in the platform's folder (a line such as
`port: 30080`), else it is the default. A change counts from the next `flyte up`.

`TARMAC_HOME` names the platform's folder itself; the default is `~/.tarmac`.

| in settings.yaml | in the environment | default | what it does |
| --- | --- | --- | --- |
{rows}
"""


def _code(value: object) -> str:
    return "" if value == "" else f"`{value}`"


def cli() -> str:
    """Every command with its help, as the command line prints it."""
    context = click.Context(program, info_name="flyte", terminal_width=100, max_content_width=100)
    sections = [_command(program, context)]
    for name in VERBS:
        verb = _member(program, context, name)
        inner = click.Context(verb, info_name=name, parent=context, terminal_width=100, max_content_width=100)
        sections.append(_command(verb, inner))
        # `run`'s and `deploy`'s sub-commands are what the user's file holds; they have no list of their own.
        for sub_name in verb.list_commands(inner) if isinstance(verb, click.Group) else ():
            sub = _member(verb, inner, sub_name)
            below = click.Context(sub, info_name=sub_name, parent=inner, terminal_width=100, max_content_width=100)
            sections.append(_command(sub, below))
    body = "\n".join(sections)
    return f"""{MADE}
# The command line

Results go to stdout, everything else to stderr. Exit codes: 0; 1 the run failed; 2 wrong usage, or something is not
there or not possible; 130 Ctrl-C. On a terminal lists are tables and progress is live; in a pipe both are plain lines.
Every list takes `-o json`.

{body}"""


def _member(group: click.Command, context: click.Context, name: str) -> click.Command:
    assert isinstance(group, click.Group)
    command = group.get_command(context, name)
    assert command is not None
    return command


def _command(command: click.Command, context: click.Context) -> str:
    text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    return f"## `{context.command_path}`\n\n```text\n{text}\n```\n"


LIST_BEGINS, LIST_ENDS = "<!-- no effect: made by scripts/docs -->\n", "<!-- no effect: end -->\n"


def limits() -> str:
    """The page as it is, with the list of what has no effect in its place."""
    page = (HERE / "limits.md").read_text()
    before, rest = page.split(LIST_BEGINS)
    after = rest.split(LIST_ENDS)[1]
    return f"{before}{LIST_BEGINS}{_no_effects()}{LIST_ENDS}{after}"


def _no_effects() -> str:
    tables = {
        "environments": _no_effect.ENVIRONMENT,
        "`TaskEnvironment`": _no_effect.TASK_ENVIRONMENT,
        "`@env.task` and `override`": _no_effect.TASK,
        "app environments": _no_effect.APP,
        "environments in local mode": _no_effect.LOCAL,
        **{f"`{call}`": rows for call, rows in _no_effect.CALLS.items()},
    }
    lines = [
        f"| {where} | {row.option if ' ' in row.option else f'`{row.option}`'} | {row.instead} |"
        for where, rows in tables.items()
        for row in rows
    ]
    return "\n".join(["", "| of | option | instead |", "| --- | --- | --- |", *lines, "", ""])


def rules_page() -> str:
    """Every rule for a name, text, number or collection that crosses the wire."""
    found = [rule for rule in vars(rules).values() if isinstance(rule, rules.Text | rules.Number | rules.Size)]
    rows = "\n".join(f"| {rule.what} | {rule.form} |" for rule in found)
    return f"""{MADE}
# Rules for names, texts and numbers

What breaks one of these rules is refused with its place and what is allowed: by the SDK where it is declared, by the
platform (422) before anything is done with it. A message from a worker that breaks one fails that call or action alone.
JSON may have lists and objects in each other {rules.NESTING} deep. What was stored before a rule existed can be read.
An app, a task or a secret with such an old name can be listed, looked at and deleted under it. In an address's path,
a name that no path can hold (`..`, one with a slash) is written as `~` and its UTF-8 in hex: `~612f62` is `a/b`.

| what | it must |
| --- | --- |
{rows}

Checking inputs against a task's JSON Schema ends after {STEPS:,} steps; what is not decided by then is left to the
worker, and so is `pattern`.
"""


PAGES = {"states.md": states, "settings.md": settings, "cli.md": cli, "rules.md": rules_page, "limits.md": limits}


def main(words: Sequence[str]) -> int:
    stale = []
    for name, make in PAGES.items():
        path, text = HERE / name, make()
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if "--check" not in words:
            path.write_text(text)
            print(f"wrote docs/{name}")
    if "--check" in words and stale:
        print(f"not current: {', '.join(stale)}; run scripts/docs", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
