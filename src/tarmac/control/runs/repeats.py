"""Calls that start a run and were made before: which run such a call stands for, by its name or its idempotency key.

A name belongs to one run, a key to one call: the run that it started, or found by its name. A name or a key that comes
with another task or other inputs, or a key with the name of another run, is refused: it is not the same call.
"""

from __future__ import annotations

import msgspec

from flyte import wire
from flyte.errors import RunAlreadyExistsError
from flyte.wire import INLINE_LIMIT
from tarmac.blobs import Blobs
from tarmac.control.live import KnownTask
from tarmac.events import Journal
from tarmac.store import ActionRow, Change, RunKeyRow, Store, WholeRun


class Repeats:
    def __init__(self, store: Store, journal: Journal, blobs: Blobs) -> None:
        self._store = store
        self._journal = journal
        self._blobs = blobs

    async def find(self, request: wire.RunRequest, known: KnownTask, keeps_key: bool) -> str | None:
        """The name of the run that the call stands for; None where it is a new one.

        With `keeps_key` a new key that comes with the name of a run means that run from then on. Raises
        RunAlreadyExistsError.
        """
        key = request.idempotency_key
        of_key = None if key is None else (await self._store.run_by_key(request.project, request.domain, key)).found
        if of_key is not None:
            await self._check_key(of_key, request, known)
            return of_key.run.name
        of_name = None if request.name is None else (await self._store.run(request.name)).found
        if of_name is None:
            return None
        await self._check_name(of_name, request, known)
        if key is not None and keeps_key:
            row = RunKeyRow(request.project, request.domain, key, of_name.run.name)
            await self._journal.write(Change(run_keys=(row,)))
        return of_name.run.name

    async def _check_key(self, of_key: WholeRun, request: wire.RunRequest, known: KnownTask) -> None:
        row = of_key.run
        other = None
        if request.name not in (None, row.name):
            other = "not the one that is named here"
        elif row.task != known.row.name:
            other = f"which runs {row.task}"
        elif not await self._has_inputs(of_key.root, request):
            other = "which has other inputs"
        if other is not None:
            raise RunAlreadyExistsError(
                f"the idempotency key {request.idempotency_key!r} belongs to run {row.name!r}, {other}; "
                "choose another key for another run"
            )

    async def _check_name(self, of_name: WholeRun, request: wire.RunRequest, known: KnownTask) -> None:
        row = of_name.run
        if row.task != known.row.name or row.project != request.project or row.domain != request.domain:
            raise RunAlreadyExistsError(
                f"run {row.name!r} exists in {row.project}/{row.domain} and runs {row.task}; choose another name"
            )
        if not await self._has_inputs(of_name.root, request):
            raise RunAlreadyExistsError(f"run {row.name!r} exists with other inputs; choose another name")

    async def _has_inputs(self, root: ActionRow, request: wire.RunRequest) -> bool:
        """Whether the run's inputs are those of the request."""
        inputs, blob = await stored_inputs(request, self._blobs)
        if blob is not None or root.inputs is None or inputs is None:
            return blob == root.inputs_blob
        return root.inputs == inputs or bool(msgspec.json.decode(root.inputs) == msgspec.json.decode(inputs))


async def stored_inputs(request: wire.RunRequest, blobs: Blobs) -> tuple[bytes | None, str | None]:
    """Inputs in place, or the digest of the blob that holds them."""
    if request.inputs_blob is not None:
        return None, request.inputs_blob
    inputs = bytes(request.inputs)
    return (inputs, None) if len(inputs) <= INLINE_LIMIT else (None, await blobs.put(inputs))


def key_of(request: wire.RunRequest) -> tuple[str, str, str]:
    return request.project, request.domain, request.idempotency_key or ""


def marks_of(request: wire.RunRequest) -> list[str]:
    """What makes two requests the same run."""
    marks = [] if request.name is None else [f"name {request.name}"]
    if request.idempotency_key is not None:
        marks.append(f"key {request.project}/{request.domain}/{request.idempotency_key}")
    return marks
