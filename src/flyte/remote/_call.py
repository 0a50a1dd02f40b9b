"""A call of a fetched task inside an action: a run of its own, found again when the action runs again.

The run's idempotency key is derived like a child's name: from the action, the task, the inputs and the number of equal
calls before. So an action whose worker was lost finds the run that its earlier attempt started, running or ended, and
one call never becomes two runs. An action that failed by its own error, and is tried again, finds the runs that
succeeded or still run; a failed run is started again, under a key that each repetition of this attempt derives in the
same way. A run that was aborted because its caller was cancelled is always started again: its failure had no observer.

The key contains the version as it was requested. `latest` may be another version by the time the action runs again;
the call is still the same.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

import msgspec

from flyte import wire
from flyte._context import TaskContext, ctx, current_caller, current_group

if TYPE_CHECKING:
    from flyte.remote._run import Run

CANCELLED = "the action that called it was cancelled"


async def ended(call: Coroutine[Any, Any, Run]) -> Run:
    """Wait for the run of a call. The run is aborted when its caller is cancelled, also while it is being started."""
    starting = asyncio.ensure_future(call)
    try:
        run = await asyncio.shield(starting)
        await run.wait.aio(quiet=True)
    except asyncio.CancelledError:
        await _given_up(starting)
        raise
    return run


async def _given_up(starting: asyncio.Future[Run]) -> None:
    caller = current_caller()
    if caller is not None and caller.is_ending:  # the run goes on; the action's next attempt finds it
        starting.cancel()
        return
    await asyncio.wait([starting])
    if not starting.cancelled() and starting.exception() is None:
        await starting.result().abort.aio(CANCELLED)


async def called(
    callee: tuple[str, ...], request: wire.RunRequest, start: Callable[[wire.RunRequest, bool], Awaitable[Run]]
) -> Run:
    """The run of the call, started now or by an earlier attempt.

    `callee` is the task as it was asked for: project, domain, name and version. `start` sends the request, and waits a
    moment for a quick run if its second argument is true.
    """
    action = ctx()
    call = _call(action, callee, bytes(request.inputs))
    sequence = action.calls[call]
    action.calls[call] += 1
    generation = 0
    while True:
        request = msgspec.structs.replace(request, idempotency_key=_key(call, sequence, generation))
        # a run that is told before it can have ended is not taken for one of an earlier attempt
        run = await start(request, generation >= action.failures)
        if not _is_void(run, generation < action.failures):
            return run
        generation += 1


def _call(action: TaskContext, callee: tuple[str, ...], inputs: bytes) -> tuple[str, ...]:
    """The values by which two calls of an attempt are equal."""
    caller = (action.action.run_name or "", action.action.name or "")
    return (*caller, *callee, current_group() or "", hashlib.sha256(inputs).hexdigest())


def _key(call: tuple[str, ...], sequence: int, generation: int) -> str:
    return "call-" + hashlib.sha256(msgspec.json.encode((*call, sequence, generation))).hexdigest()


def _is_void(run: Run, is_earlier: bool) -> bool:
    """Whether the run has no result, so that this attempt must start it again."""
    if not run.phase.is_terminal or run.phase.is_success:
        return False
    return is_earlier or (run.phase is wire.ActionPhase.ABORTED and run.message.endswith(CANCELLED))
