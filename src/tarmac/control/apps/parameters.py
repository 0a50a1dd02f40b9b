"""The outputs of runs that apps are given as parameters; they are looked up once, when the app is deployed."""

from __future__ import annotations

from typing import Any

import msgspec

from flyte import wire
from flyte.errors import ParameterMaterializationError
from flyte.wire import ActionPhase
from tarmac.blobs import Blobs
from tarmac.control.runs.registry import Registry
from tarmac.store import Store


class RunOutputs:
    def __init__(self, store: Store, registry: Registry, blobs: Blobs) -> None:
        self._store = store
        self._registry = registry
        self._blobs = blobs

    async def fill_in(self, request: wire.DeployRequest) -> wire.DeployRequest:
        """The request with every `RunOutput` among its apps' values, except where another value is given.

        Raises ParameterMaterializationError, and RemoteTaskNotFoundError for a task that is not there.
        """
        filled = {app: dict(values) for app, values in request.parameter_values.items()}
        for spec in request.apps:
            for parameter in spec.parameters:
                if parameter.kind == "run_output" and parameter.name not in filled.get(spec.name, {}):
                    filled.setdefault(spec.name, {})[parameter.name] = await self._text(request, spec.name, parameter)
        return msgspec.structs.replace(request, parameter_values=filled)

    async def _text(self, request: wire.DeployRequest, app: str, parameter: wire.ParameterSpec) -> str:
        place = f"parameter {parameter.name!r} of app {app!r}"
        run = parameter.run_name or await self._latest(request, place, parameter)
        action = await self._store.action(run, wire.ROOT_ACTION)
        if action is None:
            raise ParameterMaterializationError(f"{place} is an output of run {run!r}, and there is no such run")
        raw = action.outputs if action.outputs_blob is None else await self._blobs.get(action.outputs_blob)
        if action.phase is not ActionPhase.SUCCEEDED or raw is None:
            raise ParameterMaterializationError(
                f"{place} is an output of run {run}, which is {action.phase}; only a run that succeeded has outputs"
            )
        try:
            value = _inside(msgspec.json.decode(raw), parameter.getter)
        except (LookupError, TypeError) as error:
            raise ParameterMaterializationError(
                f"{place}: the outputs of run {run} have nothing at {parameter.getter} ({error!r})"
            ) from None
        return value if isinstance(value, str) else msgspec.json.encode(value).decode()

    async def _latest(self, request: wire.DeployRequest, place: str, parameter: wire.ParameterSpec) -> str:
        """The name of the latest run of the task that succeeded."""
        task = parameter.task_name or ""
        known = await self._registry.find(request.project, request.domain, task, parameter.task_version)
        latest = wire.RunFilter(
            task=known.row.name, version=parameter.task_version, phases=(ActionPhase.SUCCEEDED,), limit=1
        )
        found = await self._store.runs(wire.Scope(request.project, request.domain), latest)
        if not found.found:
            raise ParameterMaterializationError(
                f"{place} is an output of task {known.row.name}, no run of which has succeeded; run it first"
            )
        return found.found[0].run.name


def _inside(value: Any, way: list[str | int]) -> Any:
    """What `way`, of indices and names, leads to; a file or a folder stands for its path."""
    for step in way:
        value = value[step]
    return value["path"] if isinstance(value, dict) and isinstance(value.get("path"), str) else value
