"""A platform of a few lines for the SDK's tests: the routes of `/v1` over a real socket, runs carried out at once.

It keeps what was sent (`seen`), runs Python functions as tasks, and can be told to break: to cut streams after so many
messages, to answer 503 for a while, to close a connection before the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from flyte import wire
from flyte.errors import ActionNotFoundError, BaseRuntimeError, RunAlreadyExistsError
from flyte.wire import ActionPhase

TOKEN = "tk_fake"


@dataclass
class Seen:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass
class FakeRun:
    record: wire.Run
    inputs: bytes
    request: wire.RunRequest
    events: list[wire.Event] = field(default_factory=list)
    outputs: bytes | None = None
    log: list[str] = field(default_factory=list)
    details: dict[str, wire.ActionDetails] = field(default_factory=dict)
    """What is known of a child beyond its record in `children`."""
    children: list[wire.Action] = field(default_factory=list)
    child_logs: dict[str, list[str]] = field(default_factory=dict)


class Refused(Exception):
    """What a fake task raises to fail with this ErrorInfo."""

    def __init__(self, info: wire.ErrorInfo) -> None:
        super().__init__(info.message)
        self.info = info


class FakePlatform:
    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.bundles: dict[str, bytes] = {}
        self.blobs: dict[str, bytes] = {}
        self.tasks: dict[tuple[str, str], wire.Task] = {}
        self.functions: dict[str, Callable[..., Any]] = {}
        self.calls: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        """The tasks, with their inputs, that a task calls one after the other before its function is called."""
        self.deployments: dict[str, wire.Deployment] = {}
        self.requests: list[wire.DeployRequest] = []
        self.deployment_error: wire.ErrorInfo | None = None
        self.runs: dict[str, FakeRun] = {}
        self.by_key: dict[str, str] = {}
        self.apps: dict[str, wire.App] = {}
        self.secrets: dict[str, wire.SecretInfo] = {}
        self.values: dict[str, str] = {}
        self.projects: list[wire.Project] = [wire.Project(id="flytesnacks", name="flytesnacks")]
        self.cut_after: int | None = None
        """Streams break off after this many messages."""
        self.broken: list[str] = []
        """What to do with the next requests: `503`, `502`, `drop` (close without an answer, nothing done)
        or `done-drop` (do it, then close without an answer)."""
        self.started = threading.Event()
        """Some run has begun to run."""
        self.gate = threading.Event()
        """Runs of a task named `….slow` end when it is set."""
        self.endpoint = ""
        self._seq = 0
        self._changed: asyncio.Condition
        self._loop: asyncio.AbstractEventLoop

    def count(self) -> Counter[str]:
        """How often each `METHOD /path` was asked."""
        return Counter(f"{item.method} {item.path}" for item in self.seen)

    def task(self, name: str, function: Callable[..., Any], version: str = "v1", **spec: Any) -> None:
        """Register a task that was deployed earlier."""
        environment = wire.EnvironmentSpec(name=name.rpartition(".")[0], kind="task")
        full = wire.TaskSpec(name=name, entry=f"m:{name}", environment=environment, **spec)
        self.functions[name] = function
        self.register(full, version)

    def register(self, spec: wire.TaskSpec, version: str) -> None:
        self.tasks[spec.name, version] = wire.Task(
            project=wire.DEFAULT_PROJECT,
            domain=wire.DEFAULT_DOMAIN,
            name=spec.name,
            version=version,
            short_name=spec.short_name or spec.name.rpartition(".")[2],
            environment=spec.environment.name,
            spec=spec,
            url=f"{self.endpoint}/tasks/{spec.name}",
            created=len(self.tasks),
        )

    # --- the server

    @contextlib.contextmanager
    def serving(self, port: int = 0) -> Iterator[FakePlatform]:
        """Answer on a thread of its own for the time of the block."""
        ready = threading.Event()
        stop: asyncio.Event

        async def serve() -> None:
            nonlocal stop
            self._loop, self._changed, stop = asyncio.get_running_loop(), asyncio.Condition(), asyncio.Event()
            runner = web.AppRunner(self._app(), shutdown_timeout=0.1, access_log=None)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", port, reuse_address=True)
            await site.start()
            self.endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
            ready.set()
            await stop.wait()
            self.gate.set()
            await runner.cleanup()

        thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
        thread.start()
        assert ready.wait(10)
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(stop.set)
            thread.join(10)
            assert not thread.is_alive()

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[self._front], client_max_size=2**28)
        routes: list[tuple[str, str, Any]] = [
            ("GET", "/health", self._health),
            ("GET", "/me", lambda r: _json(wire.Me(subject="owner", kind="owner"))),
            ("PUT", "/{kind:bundles|blobs}/{digest}", self._put_content),
            ("GET", "/{kind:bundles|blobs}/{digest}", self._get_content),
            ("HEAD", "/{kind:bundles|blobs}/{digest}", self._get_content),
            ("POST", "/deployments", self._deploy),
            ("GET", "/deployments/{id}", lambda r: _json(self.deployments[r.match_info["id"]])),
            ("GET", "/deployments/{id}/events", self._deployment_events),
            ("GET", "/tasks", lambda r: _json(list(self.tasks.values()))),
            ("GET", "/tasks/{name}", self._get_task),
            ("POST", "/runs", self._create_run),
            ("GET", "/runs", self._list_runs),
            ("GET", "/runs/{run}", self._get_run),
            ("POST", "/runs/{run}/abort", self._abort),
            ("GET", "/runs/{run}/events", self._run_events),
            ("GET", "/runs/{run}/logs", self._run_log),
            ("GET", "/runs/{run}/actions", self._actions),
            ("GET", "/runs/{run}/actions/{action}", self._get_action),
            ("GET", "/runs/{run}/actions/{action}/logs", self._logs),
            ("GET", "/apps", lambda r: _json(list(self.apps.values()))),
            ("GET", "/apps/{app}", lambda r: _json(self._find_app(r))),
            ("POST", "/apps/{app}/{verb:activate|deactivate}", self._switch),
            ("DELETE", "/apps/{app}", self._delete_app),
            ("GET", "/secrets", lambda r: _json(list(self.secrets.values()))),
            ("POST", "/secrets", self._create_secret),
            ("GET", "/secrets/{name}", self._get_secret),
            ("DELETE", "/secrets/{name}", self._delete_secret),
            ("POST", "/keys", lambda r: _json(wire.KeyInfo(id="k1", name="k", key="tk_new"), 201)),
            ("GET", "/projects", lambda r: _json(self.projects)),
            ("POST", "/projects", self._create_project),
        ]
        for method, path, handler in routes:
            app.router.add_route(
                method, "/v1" + path, handler if asyncio.iscoroutinefunction(handler) else _async(handler)
            )
        return app

    @web.middleware
    async def _front(self, request: web.Request, handler: Any) -> web.StreamResponse:
        body = await request.read()
        self.seen.append(Seen(request.method, request.path, dict(request.query), dict(request.headers), body))
        if request.path != "/v1/health" and request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return _error(401, "NotAuthenticatedError", "this call carries no key that is known here")
        trouble = self.broken.pop(0) if self.broken and request.path != "/v1/health" else ""
        if trouble.isdigit():
            return web.Response(status=int(trouble), text="<html>nobody there</html>", content_type="text/html")
        if trouble == "drop":
            _hang_up(request)
        try:
            answer: web.StreamResponse = await handler(request)
        except BaseRuntimeError as error:
            return _error(error.status, error.code, str(error))
        except KeyError as error:
            return _error(404, "RunNotFoundError", f"no {error.args[0]!r} here")
        except web.HTTPNotFound:
            return _error(404, "NotFoundError", f"there is no {request.path}")
        if trouble == "done-drop":
            _hang_up(request)
        return answer

    async def _health(self, request: web.Request) -> web.Response:
        return _json(wire.Health(status="ok", version="0", pid=1))

    # --- content

    async def _put_content(self, request: web.Request) -> web.Response:
        data = await request.read()
        digest = request.match_info["digest"]
        if hashlib.sha256(data).hexdigest() != digest:
            return _error(422, "InvalidInputError", "the bytes have another digest")
        self._content(request)[digest] = data
        return web.Response(status=201)

    async def _get_content(self, request: web.Request) -> web.Response:
        data = self._content(request).get(request.match_info["digest"])
        if data is None:
            return _error(404, "NotFoundError", "nothing with that digest was sent")
        return web.Response(body=data)

    def _content(self, request: web.Request) -> dict[str, bytes]:
        return self.bundles if request.match_info["kind"] == "bundles" else self.blobs

    # --- deployments and tasks

    async def _deploy(self, request: web.Request) -> web.Response:
        deploy = msgspec.json.decode(await request.read(), type=wire.DeployRequest)
        self.requests.append(deploy)
        for spec in deploy.tasks:
            self.register(spec, deploy.version)
        deployment = wire.Deployment(
            id=f"d{len(self.deployments)}",
            project=deploy.project,
            domain=deploy.domain,
            version=deploy.version,
            phase=wire.DeploymentPhase.RUNNING if deploy.apps else wire.DeploymentPhase.SUCCEEDED,
            environments=[wire.DeployedEnvironment(name=name, kind="task", phase="ready") for name in deploy.order],
            seq=self._next(),
        )
        self.deployments[deployment.id] = deployment
        for app in deploy.apps:
            self.apps[app.name] = wire.App(
                project=deploy.project,
                domain=deploy.domain,
                name=app.name,
                version=deploy.version,
                status=wire.AppStatus.ACTIVE,
                url=f"http://127.0.0.1:9/{app.name}",
            )
        return _json(deployment, 202)

    async def _deployment_events(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["id"]
        record = self.deployments[name]
        error = self.deployment_error
        steps: list[tuple[str, str, wire.ErrorInfo | None]] = [
            ("running", f"{env.name}: ready", None) for env in record.environments
        ]
        steps.append(("failed", error.message, error) if error else ("succeeded", "deployed", None))
        messages: list[tuple[str, int, Any]] = [("snapshot", record.seq, record)]
        for phase, text, info in steps:
            after = msgspec.structs.replace(record, phase=wire.DeploymentPhase(phase), error=info, seq=self._next())
            event = wire.Event(
                seq=after.seq,
                at=0,
                subject=f"deployment/{name}",
                phase=phase,
                message=text,
                body=msgspec.to_builtins(after),
            )
            messages.append(("event", after.seq, event))
            self.deployments[name] = after
        return await self._stream(request, messages)

    async def _get_task(self, request: web.Request) -> web.Response:
        name, version = request.match_info["name"], request.query.get("version")
        found = [t for t in self.tasks.values() if name in (t.name, t.short_name) and version in (None, t.version)]
        if not found:
            known = ", ".join(sorted({task.name for task in self.tasks.values()}))
            return _error(404, "RemoteTaskNotFoundError", f"no task named {name!r} at {version}; tasks there: {known}")
        return _json(max(found, key=lambda task: task.created))

    # --- runs

    async def _create_run(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=wire.RunRequest)
        key = wanted.idempotency_key or ""
        assert request.headers["Idempotency-Key"] == key
        found = [t for t in self.tasks.values() if t.name == wanted.task and wanted.version in (None, t.version)]
        if not found:
            return _error(404, "RemoteTaskNotFoundError", f"no task named {wanted.task!r} at {wanted.version}")
        if (known := self._repeated(wanted, key)) is not None:
            return _json(known.record)
        name = wanted.name or f"r{len(self.runs):019d}"
        record = wire.Run(
            name=name,
            project=wanted.project,
            domain=wanted.domain,
            task=wanted.task,
            version=found[-1].version,
            phase=ActionPhase.QUEUED,
            url=f"{self.endpoint}/v2/domain/{wanted.domain}/project/{wanted.project}/runs/{name}",
            created=time.time(),
            labels=wanted.labels,
            created_by="owner",
            seq=self._next(),
        )
        self.runs[name] = FakeRun(record, self._inputs(wanted), wanted)
        self.by_key[key] = name
        await self._move(self.runs[name], ActionPhase.QUEUED, "accepted")
        task = asyncio.get_running_loop().create_task(self._carry_out(self.runs[name]))
        if wait := float(request.query.get("wait", 0)):
            await asyncio.wait([task], timeout=wait)
        return _json(self.runs[name].record, 201)

    def _inputs(self, wanted: wire.RunRequest) -> bytes:
        return self.blobs[wanted.inputs_blob] if wanted.inputs_blob else bytes(wanted.inputs)

    def _repeated(self, wanted: wire.RunRequest, key: str) -> FakeRun | None:
        """The run that a call with this key or name started. Raises RunAlreadyExistsError if that was another call."""
        of_key, of_name = self.by_key.get(key), wanted.name if wanted.name in self.runs else None
        if (name := of_key or of_name) is None:
            return None
        run = self.runs[name]
        same_task = (run.record.task, run.record.project, run.record.domain) == (
            wanted.task,
            wanted.project,
            wanted.domain,
        )
        same_inputs = json.loads(run.inputs) == json.loads(self._inputs(wanted))
        if not (same_task and same_inputs and wanted.name in (None, name)):
            raise RunAlreadyExistsError(f"run {name!r} is another call")
        self.by_key[key] = name
        return run

    async def _carry_out(self, run: FakeRun) -> None:
        await self._move(run, ActionPhase.RUNNING, "a worker took it")
        for task, inputs in self.calls.get(run.record.task, ()):
            self._carry_out_child(run, task, inputs)
        self.started.set()
        if run.record.task.endswith(".slow"):
            await asyncio.to_thread(self.gate.wait, 30)
            if run.record.phase.is_terminal:
                return
        run.log += ["started", "done"]
        try:
            result = self.functions[run.record.task](**json.loads(run.inputs))
        except Refused as error:
            run.record = msgspec.structs.replace(run.record, error=error.info)
            await self._move(run, ActionPhase.FAILED, error.info.message)
            return
        run.outputs = msgspec.json.encode(list(result) if isinstance(result, tuple) else [result])
        if len(run.outputs) > wire.INLINE_LIMIT:
            digest = hashlib.sha256(run.outputs).hexdigest()
            self.blobs[digest] = run.outputs
            run.record = msgspec.structs.replace(run.record, outputs_blob=digest)
        else:
            run.record = msgspec.structs.replace(run.record, outputs=msgspec.Raw(run.outputs))
        await self._move(run, ActionPhase.SUCCEEDED, "the function returned")

    async def _move(self, run: FakeRun, phase: ActionPhase, message: str) -> None:
        seq = self._next()
        now, old = time.time(), run.record
        run.record = msgspec.structs.replace(
            old,
            phase=phase,
            message=message,
            seq=seq,
            started=old.started or (now if phase is ActionPhase.RUNNING else None),
            ended=now if phase.is_terminal else None,
        )
        subject = f"run/{run.record.name}/a0"
        event = wire.Event(seq=seq, at=time.time(), subject=subject, phase=phase.value, message=message, attempt=1)
        run.events.append(event)
        async with self._changed:
            self._changed.notify_all()

    def _carry_out_child(self, run: FakeRun, task: str, inputs: dict[str, Any]) -> None:
        """Call a task's function as a child of the run's root action."""
        name, now = f"c{len(run.children)}", time.time()
        child = wire.Action(
            run=run.record.name,
            name=name,
            parent="a0",
            task=task,
            short_name=task.rpartition(".")[2],
            phase=ActionPhase.SUCCEEDED,
            created=now,
            started=now,
            ended=now,
        )
        outputs = None
        try:
            outputs = msgspec.Raw(msgspec.json.encode([self.functions[task](**inputs)]))
        except Refused as error:
            child = msgspec.structs.replace(child, phase=ActionPhase.FAILED, error=error.info)
        run.children.append(child)
        run.details[name] = wire.ActionDetails(
            action=child, inputs=msgspec.Raw(msgspec.json.encode(inputs)), outputs=outputs
        )
        run.record = msgspec.structs.replace(run.record, actions=1 + len(run.children))
        subject = f"run/{run.record.name}/{name}"
        for phase in (ActionPhase.QUEUED, ActionPhase.RUNNING, child.phase):
            run.events.append(wire.Event(seq=self._next(), at=now, subject=subject, phase=phase.value, attempt=1))

    def progress(self, name: str, message: str, **body: Any) -> None:
        """A message from inside a run, from any thread."""
        run = self.runs[name]
        coro = self._say(run, message, body)
        asyncio.run_coroutine_threadsafe(coro, self._loop).result(5)

    async def _say(self, run: FakeRun, message: str, body: dict[str, Any]) -> None:
        subject = f"run/{run.record.name}/a0"
        event = wire.Event(
            seq=self._next(), at=time.time(), subject=subject, phase=run.record.phase.value, message=message, body=body
        )
        run.events.append(event)
        async with self._changed:
            self._changed.notify_all()

    def _run(self, request: web.Request) -> FakeRun:
        return self.runs[request.match_info["run"]]

    async def _get_run(self, request: web.Request) -> web.Response:
        run = self._run(request)
        if wait := float(request.query.get("wait", 0)):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait), self._changed:
                    await self._changed.wait_for(lambda: run.record.phase.is_terminal)
        return _json(run.record)

    async def _list_runs(self, request: web.Request) -> web.Response:
        asked = request.query
        known = {"project", "domain", "limit", "phase", "task", "version", "label", "created_after", "created_before"}
        if unknown := asked.keys() - known - {"before_run", "task_contains"}:
            return _error(422, "InvalidInputError", f"GET /v1/runs has no query parameter {unknown}")
        if int(asked["limit"]) > 1000:
            return _error(422, "InvalidInputError", "limit is above 1000")
        labels = (label.partition("=") for label in asked.get("label", "").split(",") if label)
        chosen = wire.RunFilter(
            phases=_phases(asked),
            task=asked.get("task"),
            task_contains=asked.get("task_contains"),
            version=asked.get("version"),
            labels={key: value for key, _, value in labels},
            created_after=float(asked["created_after"]) if "created_after" in asked else None,
            created_before=float(asked["created_before"]) if "created_before" in asked else None,
        )
        found = sorted((run.record for run in self.runs.values()), key=lambda run: (run.created, run.name))[::-1]
        if "before_run" in asked:
            found = found[found.index(self.runs[asked["before_run"]].record) + 1 :]
        scope = (asked["project"], asked["domain"])
        listed = [run for run in found if (run.project, run.domain) == scope and chosen.matches(run)]
        return _json(listed[: int(asked["limit"])])

    async def _abort(self, request: web.Request) -> web.Response:
        run = self._run(request)
        if not run.record.phase.is_terminal:
            message = f"aborted: {json.loads(await request.read())['reason'] or 'by owner'}"
            info = wire.ErrorInfo(code="ActionAbortedError", message=message, retryable=False)
            run.record = msgspec.structs.replace(run.record, error=info)
            await self._move(run, ActionPhase.ABORTED, message)
        return _json(run.record)

    def _action(self, run: FakeRun) -> wire.ActionDetails:
        record = run.record
        action = wire.Action(
            run=record.name,
            name="a0",
            task=record.task,
            short_name=record.task.rpartition(".")[2],
            phase=record.phase,
            message=record.message,
            error=record.error,
            created=record.created,
            started=record.started,
            ended=record.ended,
            children=len(run.children),
        )
        task = next(task for task in self.tasks.values() if task.name == record.task)
        return wire.ActionDetails(
            action=action,
            inputs=msgspec.Raw(run.inputs),
            outputs=record.outputs,
            outputs_blob=record.outputs_blob,
            attempts=[wire.Attempt(number=1, phase=record.phase)],
            interface=task.spec.interface if task.spec else wire.InterfaceSpec(),
            version=record.version,
        )

    async def _actions(self, request: web.Request) -> web.Response:
        asked = request.query
        run = self._run(request)
        chosen = wire.ActionFilter(
            phases=_phases(asked),
            parent=asked.get("parent"),
            offset=int(asked.get("offset", 0)),
            limit=int(asked["limit"]),
        )
        return _json(chosen.page([self._action(run).action, *run.children]))

    async def _get_action(self, request: web.Request) -> web.Response:
        run, name = self._run(request), request.match_info["action"]
        if name == wire.ROOT_ACTION:
            return _json(self._action(run))
        for child in run.children:
            if child.name == name:
                return _json(run.details.get(name) or wire.ActionDetails(action=child))
        raise ActionNotFoundError(f"run {run.record.name!r} has no action {name!r}")

    async def _run_events(self, request: web.Request) -> web.StreamResponse:
        run = self._run(request)
        after = int(request.query["after"]) if "after" in request.query else None
        response = await _sse(request)
        left = self.cut_after
        if after is None:
            after = run.record.seq
            await _message(response, "snapshot", after, run.record)
            left = left - 1 if left is not None else None
        while True:
            whole = request.query.get("actions") == "all"
            root = f"run/{run.record.name}/a0"
            for event in [event for event in run.events if event.seq > after and (whole or event.subject == root)]:
                if left == 0:
                    _hang_up(request)
                after = event.seq
                await _message(response, "event", event.seq, event)
                left = left - 1 if left is not None else None
            if run.record.phase.is_terminal and run.record.seq <= after:
                return response
            if left == 0:
                _hang_up(request)
            async with self._changed:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), 0.05)

    async def _stream(self, request: web.Request, messages: list[tuple[str, int, Any]]) -> web.StreamResponse:
        response = await _sse(request)
        after = int(request.query.get("after", -1))
        for kind, seq, record in messages:
            if seq > after:
                await _message(response, kind, seq, record)
        return response

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        run = self._run(request)
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        lines = [wire.LogLine(text=text, offset=10 * (at + 1)) for at, text in enumerate(run.log)]
        tail = request.query.get("tail")
        chosen = lines[-int(tail) :] if tail else lines
        for count, line in enumerate(line for line in chosen if line.offset > int(request.query.get("after", -1))):
            if self.cut_after is not None and count >= self.cut_after:
                _hang_up(request)
            await response.write(msgspec.json.encode(line) + b"\n")
        return response

    async def _run_log(self, request: web.Request) -> web.Response:
        run = self._run(request)
        if "follow" in request.query:
            async with self._changed:
                await self._changed.wait_for(lambda: run.record.phase.is_terminal)
        written = {"a0": run.log, **run.child_logs}
        lines = [
            wire.LogLine(text=text, offset=at + 1, source=name)
            for name, texts in written.items()
            for at, text in enumerate(texts)
        ]
        chosen = lines[-int(request.query.get("tail", 0)) :]
        return web.Response(body=b"".join(msgspec.json.encode(line) + b"\n" for line in chosen))

    # --- apps, secrets, projects

    def _find_app(self, request: web.Request) -> wire.App:
        return self.apps[request.match_info["app"]]

    async def _switch(self, request: web.Request) -> web.Response:
        app = self._find_app(request)
        on = request.match_info["verb"] == "activate"
        status = wire.AppStatus.ACTIVE if on else wire.AppStatus.STOPPED
        app = msgspec.structs.replace(app, status=status, wanted="active" if on else "stopped")
        self.apps[app.name] = app
        return _json(app)

    async def _delete_app(self, request: web.Request) -> web.Response:
        del self.apps[request.match_info["app"]]
        return web.Response(status=204)

    async def _create_secret(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=wire.SecretRequest)
        self.secrets[wanted.name] = wire.SecretInfo(name=wanted.name, project=wanted.project, domain=wanted.domain)
        self.values[wanted.name] = wanted.value
        return _json(self.secrets[wanted.name], 201)

    async def _get_secret(self, request: web.Request) -> web.Response:
        found = self.secrets.get(request.match_info["name"])
        return _json(found) if found else _error(404, "SecretNotFoundError", "no such secret")

    async def _delete_secret(self, request: web.Request) -> web.Response:
        del self.secrets[request.match_info["name"]]
        return web.Response(status=204)

    async def _create_project(self, request: web.Request) -> web.Response:
        self.projects.append(msgspec.json.decode(await request.read(), type=wire.Project))
        return _json(self.projects[-1], 201)

    def _next(self) -> int:
        self._seq += 1
        return self._seq


def _async(handler: Callable[[web.Request], web.Response]) -> Any:
    async def answer(request: web.Request) -> web.Response:
        return handler(request)

    return answer


def _json(record: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(record), status=status, content_type="application/json")


def _error(status: int, code: str, message: str, kind: Any = "user") -> web.Response:
    return _json(wire.ErrorBody(error=wire.ErrorInfo(code=code, message=message, kind=kind)), status)


def _phases(asked: Mapping[str, str]) -> tuple[ActionPhase, ...]:
    return tuple(ActionPhase(name) for name in asked.get("phase", "").split(",") if name)


def _hang_up(request: web.Request) -> None:
    assert request.transport is not None
    request.transport.abort()
    raise asyncio.CancelledError


async def _sse(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    await response.write(b": hello\n\n")
    return response


async def _message(response: web.StreamResponse, kind: str, seq: int, record: Any) -> None:
    data = msgspec.json.encode(record)
    await response.write(b"id: %d\nevent: %s\ndata: %s\n\n" % (seq, kind.encode(), data))
