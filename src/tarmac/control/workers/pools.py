"""What kind of process an environment needs: a declaration and a bundle become one `PoolSpec`.

Two environments that would get the same process share a pool; whatever makes a difference is in the pool's id.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import weakref
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from flyte.wire import EnvironmentSpec, Hello, PoolReady, PoolSpec, ReuseSpec, TaskSpec
from tarmac.control.images import Environment, Images
from tarmac.control.live import KnownTask, Pool
from tarmac.control.recent import remember
from tarmac.control.vault import Opened, Secrets
from tarmac.control.workers.variables import Looked, imported_with
from tarmac.home import Home

OVERRIDES_KEPT = 1000
"""Distinct `.override(...)` whose pools are at hand; the pool of another is worked out again when it is called."""


FRESH_IMPORT = "TARMAC_FRESH_IMPORT"
"""In an environment's variables: every process of it imports the code itself, when it is needed."""


@dataclass(frozen=True, slots=True)
class Code:
    """Where a version's code is."""

    bundle: str | None
    root: str | None
    sys_path: tuple[str, ...]
    version: str

    def folder(self, home: Home) -> str:
        """The folder that becomes the process's working directory."""
        if self.bundle is not None:
            return str(home.code / self.bundle)
        return self.root or str(home.code)


@dataclass(frozen=True, slots=True)
class Place:
    """What every process is told of the platform it runs on."""

    home: Home
    endpoint: str
    certificates: str | None = None
    """The system's folder of trusted certificates, where processes are to use it."""
    warm: bool = True
    """Whether processes are forked from one that has imported their code."""
    storage_url: str = ""
    """The object store in which large values and files lie; empty for the platform's folder."""

    def environment(self, project: str, domain: str, version: str) -> dict[str, str]:
        return {
            "FLYTE_ENDPOINT": self.endpoint,
            "FLYTE_INTERNAL_EXECUTION_PROJECT": project,
            "FLYTE_INTERNAL_EXECUTION_DOMAIN": domain,
            "FLYTE_VERSION": version,
            "FLYTE_LINK": str(self.home.link_socket),
            "FLYTE_BLOBS": str(self.home.blobs),
            **({"FLYTE_STORAGE_URL": self.storage_url} if self.storage_url else {}),
        }

    def defaults(self) -> dict[str, str]:
        """What processes get unless their environment says otherwise."""
        return {} if self.certificates is None else {"SSL_CERT_DIR": self.certificates}


def pool_spec(
    place: Place,
    project: str,
    domain: str,
    environment: EnvironmentSpec,
    code: Code,
    modules: list[str],
    secrets: Opened,
    made: Environment,
    env_vars: Mapping[str, str] | None = None,
) -> PoolSpec:
    """The process for `environment`, which runs in the Python of `made`."""
    env = {
        **place.defaults(),
        **environment.image.env,
        **environment.env_vars,
        **secrets.variables,
        **(env_vars or {}),
        **place.environment(project, domain, code.version),
    }
    spec = PoolSpec(
        id="",
        name=f"{environment.name}@{code.version}",
        python=made.python,
        image=made.key,
        root=code.folder(place.home),
        bundle=code.bundle,
        sys_path=list(code.sys_path),
        modules=modules,
        env=env,
        secret_files=secrets.files,
        fork=environment.fork,
        fresh=not place.warm or env.get(FRESH_IMPORT, "").lower() in ("1", "true", "yes", "on"),
        memory=environment.resources.memory,
        cpu=environment.resources.cpu,
    )
    return msgspec.structs.replace(spec, id=_digest(spec))


def _digest(spec: PoolSpec) -> str:
    text = json.dumps(msgspec.to_builtins(spec), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


class Pools:
    """The pools there are, by key (`all`).

    That of a task version is made once, and again after a secret or an image changed.
    """

    def __init__(self, place: Place, secrets: Secrets, images: Images) -> None:
        self.all: dict[str, Pool] = {}
        self._place = place
        self._secrets = secrets
        self._images = images
        self._loop = asyncio.get_running_loop()
        self._looked = Looked()
        self._made: weakref.WeakSet[KnownTask] = weakref.WeakSet()
        """Tasks whose pool was made, as long as the registry, or an action, has them."""
        self._overridden: dict[bytes, Pool] = {}
        secrets.on_change.append(self.forget)
        images.on_change.append(self.forget)

    # ------------------------------------------------------------------ of tasks

    def at_hand(self, known: KnownTask, override: bytes | None, variables: Mapping[str, str]) -> Pool | None:
        """The pool if it was made before; no I/O."""
        pool = known.pool if override is None else self._overridden.get(_key(known, override))
        return None if pool is None else self.apart(pool, variables)

    async def make(self, known: KnownTask, override: TaskSpec | None, variables: Mapping[str, str]) -> Pool:
        """The pool for a task in a run that sets `variables`. Raises SecretNotFoundError and ImageBuildError."""
        raw = None if override is None else msgspec.json.encode(override)
        if (found := self.at_hand(known, raw, variables)) is not None:
            return found
        row, spec = known.row, known.spec if override is None else _with_deployed_image(override, known.spec)
        secrets = await self._secrets.open(row.project, row.domain, spec.environment)
        made = await self._images.find(row.project, row.domain, spec.environment)
        code = Code(row.bundle, row.root, tuple(row.sys_path), row.version)
        module = spec.entry.partition(":")[0]
        process = pool_spec(self._place, row.project, row.domain, spec.environment, code, [module], secrets, made)
        pool = self._of_process(process, row.project, row.domain, spec.environment.reuse)
        if raw is None:
            known.pool = pool
            self._made.add(known)
        else:
            remember(self._overridden, _key(known, raw), pool, OVERRIDES_KEPT)
        return self.apart(pool, variables)

    def forget(self) -> None:
        """A secret or an image changed: processes that start from now on get the new one."""
        for known in self._made:
            known.pool = None
        self._made.clear()
        self._overridden.clear()

    # ------------------------------------------------------------------ of processes

    def _of_process(self, spec: PoolSpec, project: str, domain: str, reuse: ReuseSpec | None) -> Pool:
        key = spec.id if reuse is None else f"{spec.id}-r{reuse.max_replicas}x{reuse.concurrency}"
        return self._kept(Pool(key, spec, project, domain, reuse, used=self._loop.time()))

    def apart(self, pool: Pool, variables: Mapping[str, str]) -> Pool:
        """The pool for actions of a run that sets `variables`.

        Where the import of the code looked at one of them, it is imported anew with them. Otherwise: a process has one
        set of them. Where it has one action at a time they come and go with the action; what runs with other actions
        shares a process with those that get the same.
        """
        if not variables:
            return pool
        digest = hashlib.sha256(json.dumps(variables, sort_keys=True).encode()).hexdigest()[:12]
        key, now = f"{pool.key}-i{digest}", self._loop.time()
        if key in self.all or self._looked.meets(pool.spec.id, variables):
            spec = imported_with(pool.spec, variables, digest)
            own = Pool(key, spec, pool.project, pool.domain, pool.reuse, used=now, code=pool.spec.id)
            return self._kept(own)
        if pool.concurrency == 1:
            return pool
        key = f"{pool.key}-e{digest}"
        return self._kept(Pool(key, pool.spec, pool.project, pool.domain, pool.reuse, used=now, proven=pool.proven))

    def of_worker(self, hello: Hello) -> Pool:
        """The pool of a worker that an earlier control plane started; it may be that nobody has asked for it yet."""
        pool = self.all.get(hello.pool)
        if pool is None:
            spec = PoolSpec(id=hello.pool.partition("-")[0], name=hello.pool, python="", root="")
            reuse = ReuseSpec(concurrency=hello.concurrency) if hello.reuse else None
            pool = Pool(hello.pool, spec, "", "", reuse, used=self._loop.time(), known=False)
            self.all[hello.pool] = pool
        return pool

    def of_spec(self, spec_id: str) -> list[Pool]:
        return [pool for pool in self.all.values() if pool.spec.id == spec_id]

    def _kept(self, wanted: Pool) -> Pool:
        """The pool of that key that is there; else this one, from now on."""
        pool = self.all.setdefault(wanted.key, wanted)
        if not pool.known:
            pool.spec, pool.project, pool.domain, pool.reuse = wanted.spec, wanted.project, wanted.domain, wanted.reuse
            pool.known = True
        return pool

    def imported(self, frame: PoolReady) -> None:
        """The code of these pools was imported, and looked at some variables."""
        for pool in self.of_spec(frame.pool):
            pool.proven = True
            self._looked.heard(pool.code or pool.spec.id, frame.variables)


def _with_deployed_image(override: TaskSpec, deployed: TaskSpec) -> TaskSpec:
    """A worker may evaluate the image's declaration under another Python than the one that deployed it."""
    environment = msgspec.structs.replace(override.environment, image=deployed.environment.image)
    return msgspec.structs.replace(override, environment=environment)


def _key(known: KnownTask, override: bytes) -> bytes:
    row = known.row
    return b"\0".join((row.project.encode(), row.domain.encode(), row.name.encode(), row.version.encode(), override))
