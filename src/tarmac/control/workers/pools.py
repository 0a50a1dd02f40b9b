"""What kind of process an environment needs: a declaration and a bundle become one `PoolSpec`.

Two environments that would get the same process share a pool; whatever makes a difference is in the pool's id.
"""

from __future__ import annotations

import hashlib
import json
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from flyte.wire import EnvironmentSpec, PoolSpec, TaskSpec
from tarmac.control.recent import remember
from tarmac.home import Home
from tarmac.images import environment_of

if TYPE_CHECKING:
    from tarmac.control.runs.registry import KnownTask
    from tarmac.control.vault import Opened, Secrets
    from tarmac.control.workers.dispatch import Dispatch
    from tarmac.control.workers.workers import Pool


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

    def environment(self, project: str, domain: str, version: str) -> dict[str, str]:
        return {
            "FLYTE_ENDPOINT": self.endpoint,
            "FLYTE_INTERNAL_EXECUTION_PROJECT": project,
            "FLYTE_INTERNAL_EXECUTION_DOMAIN": domain,
            "FLYTE_VERSION": version,
            "FLYTE_LINK": str(self.home.link_socket),
            "FLYTE_BLOBS": str(self.home.blobs),
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
    env_vars: Mapping[str, str] | None = None,
) -> PoolSpec:
    """The process for `environment`. Raises ImageBuildError when its image cannot be had here."""
    python = environment_of(environment).python
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
        python=python,
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
    """The pool of every task version in use; made once, and again after a secret changed."""

    def __init__(self, place: Place, secrets: Secrets, dispatch: Dispatch) -> None:
        self._place = place
        self._secrets = secrets
        self._dispatch = dispatch
        self._made: weakref.WeakSet[KnownTask] = weakref.WeakSet()
        """Tasks whose pool was made, as long as the registry, or an action, has them."""
        self._overridden: dict[bytes, Pool] = {}

    def at_hand(self, known: KnownTask, override: bytes | None, variables: Mapping[str, str]) -> Pool | None:
        """The pool if it was made before; no I/O."""
        pool = known.pool if override is None else self._overridden.get(_key(known, override))
        return None if pool is None else self._dispatch.apart(pool, variables)

    async def make(self, known: KnownTask, override: TaskSpec | None, variables: Mapping[str, str]) -> Pool:
        """The pool for a task in a run that sets `variables`. Raises SecretNotFoundError and ImageBuildError."""
        raw = None if override is None else msgspec.json.encode(override)
        if (found := self.at_hand(known, raw, variables)) is not None:
            return found
        row, spec = known.row, override or known.spec
        secrets = await self._secrets.open(row.project, row.domain, spec.environment)
        code = Code(row.bundle, row.root, tuple(row.sys_path), row.version)
        module = spec.entry.partition(":")[0]
        process = pool_spec(self._place, row.project, row.domain, spec.environment, code, [module], secrets)
        pool = self._dispatch.pool(process, row.project, row.domain, spec.environment.reuse)
        if raw is None:
            known.pool = pool
            self._made.add(known)
        else:
            remember(self._overridden, _key(known, raw), pool, OVERRIDES_KEPT)
        return self._dispatch.apart(pool, variables)

    def forget(self) -> None:
        """A secret changed: processes that start from now on get the new value."""
        for known in self._made:
            known.pool = None
        self._made.clear()
        self._overridden.clear()


def _key(known: KnownTask, override: bytes) -> bytes:
    row = known.row
    return b"\0".join((row.project.encode(), row.domain.encode(), row.name.encode(), row.version.encode(), override))
