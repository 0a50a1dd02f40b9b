"""What the control plane holds in memory of apps: which version of each serves, and the replicas that are alive.

What is *wanted* of an app is on disk (its row); replicas are not: the agent knows them, and tells a control plane that
comes back which ones are alive. A version that is deployed anew, with other values, is another *revision*: it is
revisions that tell old replicas from new ones.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

import msgspec

from flyte import wire
from flyte.wire import AppId, AppStatus
from tarmac.model import ReplicaPhase, move_app, move_replica
from tarmac.store import AppRow, AppVersionRow


@dataclass(slots=True, eq=False)
class LiveReplica:
    """One replica's process, from the order to start it until it is gone."""

    unit: str
    app: LiveApp
    version: str
    revision: str
    created: float
    ready: asyncio.Future[None]
    """Done when it answers; raises DeploymentError with its log's tail when it will not."""
    gone: asyncio.Future[None]
    """Done when its process has ended."""
    phase: ReplicaPhase = "starting"
    address: str = ""
    pid: int | None = None
    ready_at: float | None = None
    since: float = 0
    """When it was ordered or, later, became ready, on the loop's clock."""
    message: str = ""

    @property
    def is_current(self) -> bool:
        """Whether it is of the revision that serves."""
        return self.revision == self.app.revision

    def go(self, phase: ReplicaPhase) -> None:
        """Move along the state table."""
        self.phase = move_replica(self.phase, phase)

    def record(self) -> wire.Replica:
        return wire.Replica(
            name=self.unit,
            version=self.version,
            phase=self.phase,
            address=self.address,
            pid=self.pid,
            created=self.created,
            ready=self.ready_at,
            message=self.message,
            restarts=self.app.deaths,
        )


@dataclass(slots=True, eq=False)
class LiveApp:
    row: AppRow
    shown: AppRow | None = None
    """`row` as of the last commit; None until the app's creation is on disk."""
    served: AppVersionRow | None = None
    """The version that serves; None until the first one is ready."""
    spec: wire.AppSpec | None = None
    """What `served` says."""
    replicas: dict[str, LiveReplica] = field(default_factory=dict)
    dozing: list[LiveReplica] = field(default_factory=list)
    """Those that serve no more because no request came, and are not ended yet."""
    patience: asyncio.TimerHandle | None = None
    """When those that doze are taken back."""
    waking: asyncio.Task[None] | None = None
    deaths: int = 0
    """Replicas that died young, one after the other."""
    pause: asyncio.TimerHandle | None = None
    """When the next replica is tried after a death."""
    pool: str = ""
    """The pool of the replica that was ordered last; its processes stay ready while the app may wake."""
    used: float = 0
    """When a replica was last ordered or ended, on the loop's clock."""

    @property
    def id(self) -> AppId:
        return self.row.id

    @property
    def suspect(self) -> str:
        """What the version that serves is called among the agent's suspects."""
        return f"{self.id}@{self.revision}"

    @property
    def revision(self) -> str | None:
        return None if self.served is None else self.served.digest

    @property
    def min_replicas(self) -> int:
        return self.spec.scaling.min_replicas if self.spec else 0

    @property
    def requires_auth(self) -> bool:
        """Of an app that never served yet nothing is known, and then nobody gets in without a key."""
        return self.spec.requires_auth if self.spec else True

    def go(self, status: AppStatus, message: str, now: float) -> None:
        """Move along the state table, or say something new where it is."""
        self.row = replace(self.row, status=move_app(self.row.status, status), message=message, updated=now)

    def serve(self, version: AppVersionRow | None) -> None:
        """That version serves from now on."""
        self.served = version
        self.spec = None if version is None else msgspec.json.decode(version.spec, type=wire.AppSpec)

    def serving(self) -> list[LiveReplica]:
        return [r for r in self.replicas.values() if r.phase == "ready" and r.is_current]

    def present(self) -> list[LiveReplica]:
        """Those that serve, or are about to."""
        return [r for r in self.replicas.values() if r.phase in ("starting", "ready") and r.is_current]

    def others(self, revision: str) -> list[LiveReplica]:
        """Those of another revision."""
        return [r for r in self.replicas.values() if r.revision != revision]
