"""The platform's HTTP API: one method for each route of `/v1`, records in and records out.

A Client is an address, a key, a project and a domain; it costs nothing to make, and all of them share the connections
that `transport` keeps. Every method raises what the platform answered (`flyte.errors`), or SystemUnavailableError.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from flyte import wire
from flyte._client.api import Api
from flyte._client.connections import Route
from flyte._client.follow import EventStream, Kind, follow_events, follow_logs, whole_lines
from flyte._client.transport import OUTAGE, PATIENCE, Transport
from flyte.errors import NotFoundError
from flyte.names import path_part

LONGEST_WAIT = 60
"""Seconds for one `?wait=`; a longer wait asks again, so that a lost connection is noticed."""


class Client:
    """Everything the platform can be asked, in one project and domain."""

    def __init__(
        self,
        endpoint: str,
        token: str | None = None,
        project: str = wire.DEFAULT_PROJECT,
        domain: str = wire.DEFAULT_DOMAIN,
        *,
        ca_file: str | None = None,
        verify: bool = True,
        proxy: str | None = None,
        shortcut: str | None = None,
        patience: float = PATIENCE,
        outage: float = OUTAGE,
    ) -> None:
        route = Route(endpoint.rstrip("/"), ca_file, verify, proxy, shortcut)
        self._api = Api(Transport(route, token, patience=patience, outage=outage), project, domain)

    @property
    def project(self) -> str:
        return self._api.project

    @property
    def domain(self) -> str:
        return self._api.domain

    @property
    def endpoint(self) -> str:
        return self._api.transport.route.endpoint

    def scoped(self, project: str | None = None, domain: str | None = None) -> Client:
        """The same platform and identity, in another project or domain."""
        if project in (None, self.project) and domain in (None, self.domain):
            return self
        other = object.__new__(Client)
        other._api = Api(self._api.transport, project or self.project, domain or self.domain)
        return other

    # --- the platform

    async def health(self) -> wire.Health:
        return await self._api.get("/health", wire.Health)

    async def me(self) -> wire.Me:
        return await self._api.get("/me", wire.Me)

    async def create_login_code(self) -> wire.LoginCode:
        """A code that opens the console once, in a browser that has no session yet."""
        return await self._api.post("/login-codes", None, wire.LoginCode, repeatable=False)

    # --- content: bundles are code, blobs are large values; both are named by the sha256 of their bytes

    async def has_bundle(self, digest: str) -> bool:
        return await self._api.exists(f"/bundles/{digest}")

    async def put_bundle(self, digest: str, data: bytes) -> None:
        await self._api.put(f"/bundles/{digest}", data, "application/gzip")

    async def get_bundle(self, digest: str) -> bytes:
        return (await self._api.send("GET", f"/bundles/{digest}", timeout=300)).body

    async def has_blob(self, digest: str) -> bool:
        return await self._api.exists(f"/blobs/{digest}")

    async def put_blob(self, digest: str, data: bytes) -> None:
        await self._api.put(f"/blobs/{digest}", data, "application/octet-stream")

    async def get_blob(self, digest: str) -> bytes:
        return (await self._api.send("GET", f"/blobs/{digest}", timeout=300)).body

    # --- deployments and tasks

    async def create_deployment(self, request: wire.DeployRequest) -> wire.Deployment:
        """Begin a deployment. Sent twice, the second finds everything unchanged."""
        return await self._api.post("/deployments", request, wire.Deployment, timeout=120)

    async def get_deployment(self, deployment: str) -> wire.Deployment:
        return await self._api.get(f"/deployments/{path_part(deployment)}", wire.Deployment)

    def deployment_events(
        self, deployment: str, after: int | None = None
    ) -> AsyncGenerator[tuple[Kind, int, wire.Deployment | wire.Event], None]:
        """The deployment as it goes; ends when it has succeeded or failed."""

        async def over() -> bool:
            return (await self.get_deployment(deployment)).phase != wire.DeploymentPhase.RUNNING

        path = f"/deployments/{path_part(deployment)}/events"
        subject = f"deployment/{deployment}"
        stream = EventStream(self._api.request("GET", path), wire.Deployment, _deployment_ended(subject), over)
        return follow_events(self._api.transport, stream, after)

    # --- images

    async def build_images(self, request: wire.BuildRequest) -> list[wire.ImageBuild]:
        """Have environments made, and hear how far each is; the same request again says how it goes on."""
        return await self._api.post("/images", request, list[wire.ImageBuild], timeout=120)

    async def list_images(self, limit: int = 100) -> list[wire.ImageRecord]:
        return await self._api.get("/images", list[wire.ImageRecord], limit=limit)

    async def image_log(self, image: str) -> wire.ImageLog:
        return await self._api.get(f"/images/{path_part(image)}/log", wire.ImageLog)

    async def prune_images(self, older: float) -> list[wire.ImageRecord]:
        """Remove environments that nothing needs and no deployment asked for in `older` seconds; what they were."""
        return await self._api.post("/images/prune", wire.PruneRequest(older=older), list[wire.ImageRecord])

    async def storage(self) -> wire.StorageUse:
        """Where the platform's values, files, code and logs lie, and how much they are."""
        return await self._api.get("/storage", wire.StorageUse)

    async def prune_storage(self, request: wire.PruneStorageRequest) -> wire.PrunedStorage:
        """Remove runs that have ended, and what nobody refers to; what that was."""
        return await self._api.post("/storage/prune", request, wire.PrunedStorage, timeout=3600)

    async def list_cache(self, task: str | None = None, limit: int = 100) -> list[wire.CachedResult]:
        """The results in the cache, of one task (full name) if that is given; newest first."""
        return await self._api.get("/cache", list[wire.CachedResult], task=task, limit=limit)

    async def delete_cache(self, task: str | None = None, key: str | None = None) -> list[wire.CachedResult]:
        """Delete results from the cache: all, those of a task, or those whose key begins with `key`; what they were."""
        answer = await self._api.send("DELETE", "/cache", task=task, key=key)
        return msgspec.json.decode(answer.body, type=list[wire.CachedResult])

    async def create_artifact(self, request: wire.ArtifactRequest) -> wire.Artifact:
        """Make a version of an artifact; one that is there already is replaced."""
        return await self._api.post("/artifacts", request, wire.Artifact)

    async def get_artifact(self, name: str, version: str | None = None) -> wire.Artifact:
        """The version, or the one that was made last. Raises NotFoundError."""
        return await self._api.get(f"/artifacts/{path_part(name)}", wire.Artifact, version=version)

    async def list_artifacts(
        self,
        name: str | None = None,
        run: str | None = None,
        action: str | None = None,
        of_kind: str | None = None,
        latest: bool = False,
        limit: int = 100,
        offset: int = 0,
    ) -> list[wire.Artifact]:
        """Newest first; `latest` gives one version of each name."""
        chosen: dict[str, Any] = {"name": name, "run": run, "action": action, "of_kind": of_kind, "limit": limit}
        chosen |= {"offset": offset or None, "latest": latest or None}
        return await self._api.get("/artifacts", list[wire.Artifact], **chosen)

    async def delete_artifact(self, name: str, version: str) -> None:
        await self._api.send("DELETE", f"/artifacts/{path_part(name)}/{path_part(version)}")

    async def get_task(self, name: str, version: str | None = None) -> wire.Task:
        """The task of that full or bare name; the latest version when none is given."""
        return await self._api.get(f"/tasks/{path_part(name)}", wire.Task, version=version)

    async def list_tasks(self, name: str | None = None, env: str | None = None, limit: int = 100) -> list[wire.Task]:
        return await self._api.get("/tasks", list[wire.Task], name=name, env=env, limit=limit)

    # --- runs

    async def create_run(self, request: wire.RunRequest, wait: float | None = None) -> wire.Run:
        """Start a run, and wait up to `wait` seconds for its end. Sent twice it still starts one run.

        `request.idempotency_key` stands for the call, and is made here when it is None. Raises RunAlreadyExistsError
        when the key or the name belongs to a run with another task or other inputs, or the key to one of another name.
        """
        fresh = request.idempotency_key is None
        if fresh:
            request = msgspec.structs.replace(request, idempotency_key=uuid.uuid4().hex)
        key = {"Idempotency-Key": request.idempotency_key or ""}
        timeout = 30 + (wait or 0)
        return await self._api.post("/runs", request, wire.Run, headers=key, timeout=timeout, fresh=fresh, wait=wait)

    async def get_run(self, name: str, wait: float | None = None) -> wire.Run:
        """The run now or, with `wait`, when it has ended or that many seconds are over."""
        return await self._api.get(f"/runs/{path_part(name)}", wire.Run, timeout=30 + (wait or 0), wait=wait)

    async def list_runs(self, chosen: wire.RunFilter = wire.EVERY_RUN) -> list[wire.Run]:
        """The chosen runs of this project and domain, newest first; at most 1000 come at once."""
        return await self._api.get("/runs", list[wire.Run], **chosen.query())

    async def abort_run(self, name: str, reason: str = "") -> wire.Run:
        return await self._api.post(f"/runs/{path_part(name)}/abort", {"reason": reason}, wire.Run)

    async def list_actions(self, run: str, chosen: wire.ActionFilter = wire.EVERY_ACTION) -> list[wire.Action]:
        """The chosen actions of a run in the order of their creation; at most 1000 come at once."""
        return await self._api.get(f"/runs/{path_part(run)}/actions", list[wire.Action], **chosen.query())

    async def get_action(self, run: str, action: str = wire.ROOT_ACTION) -> wire.ActionDetails:
        return await self._api.get(f"/runs/{path_part(run)}/actions/{path_part(action)}", wire.ActionDetails)

    async def get_report(self, run: str, action: str = wire.ROOT_ACTION, attempt: int | None = None) -> wire.Report:
        """What the action last showed as its report. Raises NotFoundError where that is nothing."""
        return await self._api.get(
            f"/runs/{path_part(run)}/actions/{path_part(action)}/report", wire.Report, attempt=attempt
        )

    async def abort_action(self, run: str, action: str, reason: str = "") -> None:
        await self._api.send("POST", f"/runs/{path_part(run)}/actions/{path_part(action)}/abort", {"reason": reason})

    def run_events(
        self, name: str, after: int | None = None, actions: str = "root"
    ) -> AsyncGenerator[tuple[Kind, int, wire.Run | wire.Event], None]:
        """The run as it goes, `actions` being `root` or `all`; ends when the root action has ended."""

        async def over() -> bool:
            return (await self.get_run(name)).phase.is_terminal

        request = self._api.request("GET", f"/runs/{path_part(name)}/events", actions=actions)
        root = f"run/{name}/{wire.ROOT_ACTION}"
        return follow_events(self._api.transport, EventStream(request, wire.Run, _run_ended(root), over), after)

    def run_logs(
        self,
        run: str,
        action: str = wire.ROOT_ACTION,
        *,
        attempt: int | None = None,
        tail: int | None = None,
        after: int | None = None,
        follow: bool = False,
        partial: bool = False,
    ) -> AsyncGenerator[wire.LogLine, None]:
        """The lines that an action wrote in an attempt, by default the last one.

        With `follow` those of every attempt, until the action has ended; with `tail` or `after` as well, from the last
        attempt on. With `partial` a line comes as it is written: each piece but its last is `open`.
        """

        async def over() -> bool:
            return (await self.get_action(run, action)).action.phase.is_terminal

        path = f"/runs/{path_part(run)}/actions/{path_part(action)}/logs"
        first = 1 if follow and attempt is None and tail is None and after is None else None
        begin: dict[str, Any] = {"attempt": attempt, "from_attempt": first, "tail": tail, "after": after}
        request = self._api.request("GET", path, **begin, follow=follow, partial=(partial and follow) or None)
        lines = follow_logs(self._api.transport, request, over if follow else None)
        return lines if partial else whole_lines(lines)

    def whole_run_logs(
        self, run: str, *, tail: int | None = None, follow: bool = False, partial: bool = False
    ) -> AsyncGenerator[wire.LogLine, None]:
        """The lines that all actions of a run wrote; `source` is the action's name. See `run_logs`.

        What is there comes action by action; with `follow` the rest as it is written, until the run has ended.
        """

        async def over() -> bool:
            return (await self.get_run(run)).phase.is_terminal

        path = f"/runs/{path_part(run)}/logs"
        request = self._api.request("GET", path, tail=tail, follow=follow, partial=(partial and follow) or None)
        lines = follow_logs(self._api.transport, request, over if follow else None)
        return lines if partial else whole_lines(lines)

    # --- apps

    async def get_app(self, name: str) -> wire.App:
        return await self._api.get(f"/apps/{path_part(name)}", wire.App)

    async def list_apps(self, limit: int = 100) -> list[wire.App]:
        return await self._api.get("/apps", list[wire.App], limit=limit)

    async def activate_app(self, name: str, wait: float | None = None) -> wire.App:
        return await self._switch_app(name, "activate", wait)

    async def deactivate_app(self, name: str, wait: float | None = None) -> wire.App:
        return await self._switch_app(name, "deactivate", wait)

    async def _switch_app(self, name: str, verb: str, wait: float | None) -> wire.App:
        return await self._api.post(
            f"/apps/{path_part(name)}/{verb}", None, wire.App, timeout=30 + (wait or 0), wait=wait
        )

    async def delete_app(self, name: str) -> None:
        await self._api.send("DELETE", f"/apps/{path_part(name)}")

    def app_events(
        self, name: str, after: int | None = None
    ) -> AsyncGenerator[tuple[Kind, int, wire.App | wire.Event], None]:
        """What happens to an app, for as long as somebody looks; ends when the app is deleted."""

        async def over() -> bool:
            try:
                await self.get_app(name)
            except NotFoundError:
                return True
            return False

        request = self._api.request("GET", f"/apps/{path_part(name)}/events")
        return follow_events(self._api.transport, EventStream(request, wire.App, lambda _: False, over), after)

    def app_logs(
        self,
        name: str,
        *,
        replica: str | None = None,
        tail: int | None = None,
        after: int | None = None,
        follow: bool = False,
        partial: bool = False,
    ) -> AsyncGenerator[wire.LogLine, None]:
        """The lines that an app's replicas wrote; with `follow` until the app is stopped. `partial`: see `run_logs`."""

        async def over() -> bool:
            return (await self.get_app(name)).status in (wire.AppStatus.STOPPED, wire.AppStatus.FAILED)

        path = f"/apps/{path_part(name)}/logs"
        request = self._api.request(
            "GET", path, replica=replica, tail=tail, after=after, follow=follow, partial=(partial and follow) or None
        )
        lines = follow_logs(self._api.transport, request, over if follow else None)
        return lines if partial else whole_lines(lines)

    async def app_requests(self, name: str, limit: int = 100) -> list[dict[str, Any]]:
        """The newest entries of the app's access log."""
        return await self._api.get(f"/apps/{path_part(name)}/requests", list[dict[str, Any]], limit=limit)

    # --- secrets, keys, projects

    async def create_secret(self, name: str, value: str) -> wire.SecretInfo:
        request = wire.SecretRequest(name=name, value=value, project=self.project, domain=self.domain)
        return await self._api.post("/secrets", request, wire.SecretInfo)

    async def get_secret(self, name: str) -> wire.SecretInfo:
        return await self._api.get(f"/secrets/{path_part(name)}", wire.SecretInfo)

    async def list_secrets(self, limit: int = 100) -> list[wire.SecretInfo]:
        return await self._api.get("/secrets", list[wire.SecretInfo], limit=limit)

    async def delete_secret(self, name: str) -> None:
        await self._api.send("DELETE", f"/secrets/{path_part(name)}")

    async def create_key(self, name: str, scopes: list[str] | None = None) -> wire.KeyInfo:
        """A new API key; the answer is the only place that ever holds it."""
        return await self._api.post(
            "/keys", wire.KeyRequest(name=name, scopes=scopes or []), wire.KeyInfo, repeatable=False
        )

    async def list_keys(self) -> list[wire.KeyInfo]:
        return await self._api.get("/keys", list[wire.KeyInfo])

    async def delete_key(self, key: str) -> None:
        await self._api.send("DELETE", f"/keys/{path_part(key)}")

    async def create_project(self, project: wire.Project) -> wire.Project:
        return await self._api.post("/projects", project, wire.Project)

    async def update_project(self, project: wire.Project) -> wire.Project:
        reply = await self._api.send("PUT", f"/projects/{path_part(project.id)}", project)
        return msgspec.json.decode(reply.body, type=wire.Project)

    async def list_projects(self, limit: int = 100) -> list[wire.Project]:
        return await self._api.get("/projects", list[wire.Project], limit=limit)


def _run_ended(root: str) -> Any:
    def is_last(record: wire.Run | wire.Event) -> bool:
        if isinstance(record, wire.Run):
            return record.phase.is_terminal
        return record.subject == root and record.phase in wire.TERMINAL

    return is_last


def _deployment_ended(subject: str) -> Any:
    def is_last(record: wire.Deployment | wire.Event) -> bool:
        if isinstance(record, wire.Event) and record.subject != subject:
            return False
        return record.phase in (wire.DeploymentPhase.SUCCEEDED, wire.DeploymentPhase.FAILED)

    return is_last
