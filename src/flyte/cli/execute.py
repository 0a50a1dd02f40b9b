"""The second half of `flyte run` and `flyte serve`, once the task or app is known: deploy, start, show the result."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from flyte.cli import paths, render
from flyte.cli.failure import say_failure
from flyte.cli.options import connect, invocation, pairs, say, warn
from flyte.cli.outcome import text_of
from flyte.cli.program import Program
from flyte.cli.progress import watching
from flyte.errors import BaseRuntimeError
from flyte.wire import App, Run, Task

if TYPE_CHECKING:
    from flyte._client.client import Client
    from flyte.app import AppEnvironment
    from flyte.cli.run_options import RunOptions
    from flyte.remote._io import Runs

FAILED = 1


def run_task(program: Program, task: Any, inputs: Mapping[str, Any], options: RunOptions) -> int:
    """Run a task of a file, on the platform or here, and return the exit code."""
    here = {name: paths.in_place(value) for name, value in inputs.items()}
    task.dump_inputs(task.interface.bind((), here))  # what is wrong with them is said before anything starts
    if options.local:
        from flyte._declare import no_effect as _no_effect
        from flyte._ship import deploy as _deploy

        _refuse_for_local(options)
        with badly_declared():
            notes = _no_effect.of_environments(_deploy.closure([task.env]))
        _say_no_effect([str(note) for note in notes], options)
        return _run_here(program, task, here, options)
    client = connect(options.project, options.domain, root_dir=program.root, start=True)
    return _shown(_deploy_and_start(client, task, _sent(inputs), options), client, options)


NOT_FOR_LOCAL = {
    "copy_style": "no code travels",
    "follow": "the run ends with this command",
    "max_action_concurrency": "nothing limits the actions of one process",
}
"""The flags that do not apply to a run in this process, and why."""


def _refuse_for_local(options: RunOptions) -> None:
    from flyte.cli.run_options import RunOptions

    for flag, reason in NOT_FOR_LOCAL.items():
        if getattr(options, flag) != getattr(RunOptions(), flag):
            word = "no-follow" if flag == "follow" else flag.replace("_", "-")
            raise click.UsageError(f"--{word} means nothing with --local: {reason}.")


def _sent(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs, with files and folders of this machine replaced by their uploaded copies."""
    return {name: paths.sent(value) for name, value in inputs.items()}


async def _deploy_and_start(client: Client, task: Any, inputs: Mapping[str, Any], options: RunOptions) -> Run:
    from flyte._ship import deploy as _deploy

    with badly_declared():
        strict = options.strict or None
        planned = _deploy.plan([task.env], version=options.version, copy_style=options.copy_style, strict=strict)
    with watching(invocation().is_live, brief=True) as watch:
        await _deploy.ensure(client, planned, watch)  # `flyte.run` finds it done
    return await _start(client, task, inputs, options)


def run_deployed(client: Client, task: Task, inputs: Mapping[str, Any], options: RunOptions) -> int:
    """Run a deployed task, and return the exit code."""
    from flyte.remote import TaskDetails

    _say_no_effect(task.spec.no_effect if task.spec else [], options)
    return _shown(_start(client, TaskDetails(task), _sent(inputs), options), client, options)


def _say_no_effect(lines: Sequence[str], options: RunOptions) -> None:
    """Warn of declared settings that have no effect. Raises ClickException with --strict."""
    if lines and options.strict:
        raise click.ClickException("\n".join(["strict:", *lines]))
    for line in lines:
        warn(line)


async def _start(runs: Runs, task: Any, inputs: Mapping[str, Any], options: RunOptions) -> Run:
    import flyte

    context = flyte.with_runcontext(
        "local" if options.local else "remote",
        name=options.name,
        version=options.version,
        copy_style=options.copy_style,
        project=options.project,
        domain=options.domain,
        env_vars=pairs(options.env, "--env"),
        labels=pairs(options.label, "--label"),
        overwrite_cache=options.overwrite_cache,
        disable_run_cache=options.disable_run_cache,
        max_action_concurrency=options.max_action_concurrency,
        strict=options.strict or None,
    )
    started = await context.run.aio(task, **inputs)
    return await runs.get_run(started.name)


def _shown(start: Any, client: Client, options: RunOptions) -> int:
    """Start the run, follow it, print its result. After Ctrl-C, or when the platform is away, the run goes on."""
    form = invocation().format(options.output)
    begun: list[Run] = []

    async def whole() -> int:
        begun.append(run := await start)
        say(f"{run.name}: {run.url}")
        if not options.follow:
            return _print_started(run, form)
        from flyte.cli.watch import follow

        begun[0] = await follow(client, run, invocation().is_live)
        return await print_result(client, begun[0], form)

    try:
        return asyncio.run(whole())
    except (KeyboardInterrupt, BaseRuntimeError):
        if begun and options.follow and not begun[0].phase.is_terminal:
            name = begun[0].name
            say(f"\nThe run goes on.  See it: flyte get run {name}   End it: flyte abort run {name}")
        raise


def _print_started(run: Run, form: str) -> int:
    if form.startswith("json"):
        render.show_json(render.as_data(run), form)
    else:
        click.echo(run.url if form == "url" else run.name)
    return 0


async def print_result(runs: Runs, run: Run, form: str) -> int:
    """Print the outputs on stdout, or on stderr why there are none; returns the exit code."""
    from flyte.remote._io import content

    outputs = await content(runs, run.outputs, run.outputs_blob)
    if form.startswith("json"):
        render.show_json({**render.as_data(run), "outputs": outputs}, form)
    elif form in ("name", "url"):
        click.echo(getattr(run, form))
    elif outputs is not None:
        click.echo(text_of(outputs[0] if len(outputs) == 1 else outputs))
    if run.phase.is_success:
        return 0
    await say_failure(runs, run)
    return FAILED


def _run_here(program: Program, task: Any, inputs: Mapping[str, Any], options: RunOptions) -> int:
    """Run a task in this process. What the task prints goes to stderr: stdout is for the result."""
    import flyte
    from flyte.remote._action import runs_in_force

    flyte.init(root_dir=program.root, project=options.project, domain=options.domain)
    runs = runs_in_force()
    begun: list[Run] = []

    async def whole() -> Run:
        with contextlib.redirect_stdout(sys.stderr):
            begun.append(await _start(runs, task, inputs, options))
            run = begun[0]
            while not run.phase.is_terminal:
                run = await runs.get_run(run.name, wait=60)
        return run

    async def finish() -> int:
        return await print_result(runs, await whole(), invocation().format(options.output))

    try:
        return asyncio.run(finish())
    except KeyboardInterrupt:
        for run in begun:
            asyncio.run(runs.abort_run(run.name, "Ctrl-C"))
        raise


async def serve_app(
    client: Client,
    environment: AppEnvironment,
    version: str | None,
    copy_style: Any,
    env_vars: Mapping[str, str],
    strict: bool = False,
) -> App:
    """Deploy an app and its dependencies, and show the progress. Raises DeploymentError."""
    import flyte

    with badly_declared(), watching(invocation().is_live) as watch:
        context = flyte.with_servecontext(
            version=version, copy_style=copy_style, env_vars=env_vars, on_progress=watch, strict=strict or None
        )
        handle = await context.serve.aio(environment)
    return await client.get_app(handle.name)


@contextlib.contextmanager
def badly_declared() -> Iterator[None]:
    """Turn errors of the user's declarations, such as two environments with one name, into messages."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise click.ClickException(str(error)) from None
