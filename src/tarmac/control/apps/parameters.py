"""Outputs of runs and artifacts that apps are given as parameters; they are looked up once, at deployment."""

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
        """The request with every `RunOutput` and artifact among its apps' values, except where another value is given.

        Raises ParameterMaterializationError, and RemoteTaskNotFoundError for a task that is not there.
        """
        apps = [await self._with_artifacts(request, app) for app in request.apps]
        request = msgspec.structs.replace(request, apps=apps)
        filled = {app: dict(values) for app, values in request.parameter_values.items()}
        for spec in request.apps:
            for parameter in spec.parameters:
                if parameter.kind == "run_output" and parameter.name not in filled.get(spec.name, {}):
                    filled.setdefault(spec.name, {})[parameter.name] = await self._text(request, spec.name, parameter)
        return msgspec.structs.replace(request, parameter_values=filled)

    async def _with_artifacts(self, request: wire.DeployRequest, app: wire.AppSpec) -> wire.AppSpec:
        given = request.parameter_values.get(app.name, {})
        found = [
            await self._file_of(request, app.name, each) if each.kind == "artifact" and each.name not in given else each
            for each in app.parameters
        ]
        return msgspec.structs.replace(app, parameters=found)

    async def _file_of(
        self, request: wire.DeployRequest, app: str, parameter: wire.ParameterSpec
    ) -> wire.ParameterSpec:
        """The file or folder that the artifact is now, with its version."""
        project, domain = parameter.artifact_place
        name, version = parameter.artifact or "", parameter.artifact_version
        scope = (project or request.project, domain or request.domain)
        rows = await self._store.artifacts(*scope, limit=1, name=name, version=version)
        place = f"parameter {parameter.name!r} of app {app!r} is the artifact {name}{(version and '@' + version) or ''}"
        if not rows:
            raise ParameterMaterializationError(f"{place}, which there is not; see `flyte get artifact`")
        kind = msgspec.json.decode(rows[0].json_schema, type=_Schema).format
        if kind not in ("file", "dir") or parameter.artifact_type not in (None, kind):
            wanted = parameter.artifact_type or "file or dir"
            raise ParameterMaterializationError(f"{place}, which is a {kind}, not a {wanted}")
        value = _inside(msgspec.json.decode(rows[0].content), [])
        return msgspec.structs.replace(parameter, kind=kind, value=value, artifact_version=rows[0].version)

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


class _Schema(msgspec.Struct):
    format: str = ""


def _inside(value: Any, way: list[str | int]) -> Any:
    """What `way`, of indices and names, leads to; a file or a folder stands for its path."""
    for step in way:
        value = value[step]
    return value["path"] if isinstance(value, dict) and isinstance(value.get("path"), str) else value
