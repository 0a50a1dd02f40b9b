"""Which Python runs an environment: the platform's own, or one that was made for its image.

Here it is decided and recorded; the agent makes what is needed (`tarmac.agent.images`). What an image came to is kept:
as with an image under its name in a registry, its versions change only when somebody builds it anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from flyte import wire
from flyte.errors import ImageBuildError, SystemUnavailableError
from tarmac import images
from tarmac.control.agents import Agent
from tarmac.control.vault import Secrets
from tarmac.events import Journal
from tarmac.store import Change, Delete, ImageRow, Store

LONGEST_WAIT = 3600.0
"""Seconds that a deployment waits for an environment, the turns of others included."""

Tell = Callable[[str], None]
"""Told how far an environment is: `installing 38 packages`."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Where an environment's processes run."""

    python: str
    key: str = ""
    """Of the environment that was made; empty for the platform's own Python."""
    shown: str = ""
    """What was made, in words; empty for the platform's own Python."""
    warnings: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class _Wanted:
    """A request that the agent has been sent and has not answered."""

    order: wire.PrepareImage
    answer: asyncio.Future[wire.ImageReady]
    told: list[Tell] = field(default_factory=list)


class Images:
    """`mode`: the setting images."""

    def __init__(self, store: Store, journal: Journal, agent: Agent, secrets: Secrets, mode: str) -> None:
        self._store = store
        self._journal = journal
        self._agent = agent
        self._secrets = secrets
        self._mode = mode
        self.on_change: list[Callable[[], None]] = []
        """Called when a request has come to another environment than before."""
        self._known: dict[str, wire.ImageRecord] = {}
        """What requests came to."""
        self._wanted: dict[str, _Wanted] = {}
        agent.on_image = self._heard
        agent.on_return.append(lambda units: self._ask_again())

    async def restore(self) -> None:
        """Read what earlier control planes recorded."""
        for row in await self._store.images():
            with contextlib.suppress(msgspec.MsgspecError):  # it is made again where it is needed
                self._known[row.id] = msgspec.json.decode(row.record, type=wire.ImageRecord)

    def records(self) -> list[wire.ImageRecord]:
        """Those that were used last come first."""
        return sorted(self._known.values(), key=lambda record: record.used, reverse=True)

    def record_of(self, spec: wire.EnvironmentSpec) -> wire.ImageRecord | None:
        """What its image came to, where an environment was made."""
        record = self._known.get(images.request_of(spec).id)
        return record if record is not None and record.key else None

    # ------------------------------------------------------------------------------------------------------- decisions

    def needs_none(self, spec: wire.EnvironmentSpec) -> Environment | None:
        """The platform's own Python, where that runs `spec`; else an environment has to be made.

        Raises ImageBuildError for a requirement that nobody could read, and, if none may be made, for what is missing.
        """
        image = spec.image
        missing = images.missing_packages(image)
        if self._mode == "never":
            if missing:
                raise images.refusal(spec, missing)
            return self._own(spec)
        if self._mode == "auto":  # code whose image names no packages may import what is installed here
            own_suffices = not image.packages or (not missing and images.has_wanted_python(image))
        else:
            own_suffices = not (image.packages or image.python or image.requires_python)
        return self._own(spec) if own_suffices else None

    def _own(self, spec: wire.EnvironmentSpec) -> Environment:
        warnings = () if images.has_wanted_python(spec.image) else (images.another_python(spec),)
        return Environment(sys.executable, warnings=warnings)

    def is_at_hand(self, spec: wire.EnvironmentSpec) -> bool:
        """Whether its environment is known to be there, or none is needed."""
        return self.needs_none(spec) is not None or self._ready(images.request_of(spec).id) is not None

    def _ready(self, request: str) -> wire.ImageRecord | None:
        record = self._known.get(request)
        return record if record is not None and record.state == "ready" else None

    async def find(self, project: str, domain: str, spec: wire.EnvironmentSpec) -> Environment:
        """Where the processes of `spec` run. What was made before is taken as it is; the agent sees to its being whole.

        Raises ImageBuildError and SecretNotFoundError.
        """
        own = self.needs_none(spec)
        if own is not None:
            return own
        record = self._ready(images.request_of(spec).id)
        return await self.prepare(project, domain, spec) if record is None else _environment(spec, record)

    async def prepare(
        self, project: str, domain: str, spec: wire.EnvironmentSpec, tell: Tell | None = None, force: bool = False
    ) -> Environment:
        """The same, and it is there. With `force` its versions are found anew.

        Where it cannot be made and only the version of Python differs, it is the platform's own Python with a warning.
        """
        own = self.needs_none(spec)
        if own is not None:
            return own
        try:
            return _environment(spec, await self._made(project, domain, spec, tell, force))
        except ImageBuildError as error:
            if not self._own_suffices(spec):
                raise
            why = f"{images.another_python(spec)}, since no environment could be made: {error.message}"
            return Environment(sys.executable, warnings=(why,))

    # --------------------------------------------------------------------------------------------------------- making

    def _own_suffices(self, spec: wire.EnvironmentSpec) -> bool:
        return self._mode == "auto" and not images.missing_packages(spec.image)

    async def _made(
        self, project: str, domain: str, spec: wire.EnvironmentSpec, tell: Tell | None, force: bool
    ) -> wire.ImageRecord:
        request = images.request_of(spec)
        secrets = await self._secrets.open_for_image(project, domain, spec)
        wanted = self._wanted.get(request.id)
        if wanted is None:
            wanted = self._ask(
                wire.PrepareImage(request=request, secrets=secrets, force=force, own_suffices=self._own_suffices(spec))
            )
        if tell is not None:
            wanted.told.append(tell)
        try:
            async with asyncio.timeout(LONGEST_WAIT):
                ready = await asyncio.shield(wanted.answer)
        except TimeoutError:
            raise SystemUnavailableError(f"no environment was made for {spec.name!r} in {LONGEST_WAIT:g} s") from None
        except ImageBuildError as error:
            await self._record(_failed(request, spec, error.message))
            raise ImageBuildError(f"environment {spec.name!r}: {error.message}") from error
        finally:
            if tell is not None:
                wanted.told.remove(tell)
        record = _record(request, project, domain, spec, ready, self._known.get(request.id))
        await self._record(record)
        return record

    def _ask(self, order: wire.PrepareImage) -> _Wanted:
        """Have the agent asked. An agent that is away is asked when it comes back."""
        answer: asyncio.Future[wire.ImageReady] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())  # it may be that nobody waits
        wanted = self._wanted[order.request.id] = _Wanted(order, answer)
        self._agent.prepare_image(order)
        return wanted

    def _ask_again(self) -> None:
        for wanted in self._wanted.values():
            self._agent.prepare_image(wanted.order)

    def _heard(self, frame: wire.ImageProgress | wire.ImageReady | wire.ImageFailed) -> None:
        wanted = self._wanted.get(frame.request)
        if wanted is None:
            return
        if isinstance(frame, wire.ImageProgress):
            for tell in wanted.told:
                tell(frame.message)
            return
        del self._wanted[frame.request]
        if isinstance(frame, wire.ImageReady):
            wanted.answer.set_result(frame)
        else:
            error = ImageBuildError(frame.error.message)
            error.kind = frame.error.kind
            wanted.answer.set_exception(error)

    async def _record(self, record: wire.ImageRecord) -> None:
        before = self._ready(record.id)
        self._known[record.id] = record
        if before is not None and before.key != record.key:
            for callback in self.on_change:
                callback()
        row = ImageRow(record.id, msgspec.json.encode(record), record.used)
        await self._journal.commit(Change(images=(row,)))

    async def remove(self, ids: list[str]) -> None:
        """Forget these, and have their environments removed, but for those that others have come to as well."""
        keys = {self._known.pop(id).key for id in ids if id in self._known}
        kept = {record.key for record in self._known.values()}
        await self._journal.commit(Change(deletes=tuple(Delete("images", (id,)) for id in ids)))
        self._agent.remove_images(sorted(keys - kept - {""}))


def _environment(spec: wire.EnvironmentSpec, record: wire.ImageRecord) -> Environment:
    warnings = tuple(f"environment {spec.name!r}: {note}" for note in record.notes)
    return Environment(record.path, record.key, str(record) if record.key else "", warnings)


def _record(
    request: wire.ImageRequest,
    project: str,
    domain: str,
    spec: wire.EnvironmentSpec,
    ready: wire.ImageReady,
    before: wire.ImageRecord | None,
) -> wire.ImageRecord:
    now = time.time()
    is_same = before is not None and before.key == ready.key
    name = f"{project}/{domain}/{spec.name}"
    names = before.environments if before is not None else []
    return wire.ImageRecord(
        id=request.id,
        state="ready",
        key=ready.key,
        path=ready.python,
        python=ready.version,
        asked=spec.image.packages,
        lock=ready.lock,
        bytes=ready.bytes,
        seconds=ready.seconds,
        is_new=ready.is_new,
        notes=ready.notes,
        environments=sorted({*names, name}),
        made=before.made if before is not None and is_same and not ready.is_new else now,
        used=now,
    )


def _failed(request: wire.ImageRequest, spec: wire.EnvironmentSpec, message: str) -> wire.ImageRecord:
    return wire.ImageRecord(id=request.id, state="failed", asked=spec.image.packages, error=message, used=time.time())
