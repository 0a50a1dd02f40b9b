"""The control plane: the use cases, and the only writer.

`Control` puts the parts together and starts them: `runs` and `actions`, `tasks` and `triggers`, `apps` and
`deployments`, `secrets`, `keys`, `projects`, and `watching` all of them. The API and the console ask these parts
(`tarmac.api.plane` says for what); agent, gateway and workers come in by `accept`.
"""

from __future__ import annotations

import asyncio
import functools
import hmac
import logging
import time
from collections.abc import Callable

import tarmac
from flyte import wire
from flyte.errors import StorageError, SystemUnavailableError
from tarmac.auth import Identities
from tarmac.blobs import ObjectBlobs, open_blobs, unfinished
from tarmac.control.agents import Agent
from tarmac.control.apps.apps import Apps
from tarmac.control.apps.catalog import Catalog
from tarmac.control.apps.deployments import Deployments
from tarmac.control.apps.parameters import RunOutputs
from tarmac.control.artifacts import Artifacts
from tarmac.control.builds import Builds
from tarmac.control.clock import Clock
from tarmac.control.collector import Collector
from tarmac.control.folders import restore
from tarmac.control.images import Images
from tarmac.control.inbox import Inbox, WorkerPeer
from tarmac.control.keys import Keys
from tarmac.control.projects import Projects
from tarmac.control.runs.children import Children
from tarmac.control.runs.reading import ActionRecords
from tarmac.control.runs.registry import Registry
from tarmac.control.runs.runs import Runs
from tarmac.control.runs.steps import Steps
from tarmac.control.sessions import EndedSessions
from tarmac.control.startup import Startup
from tarmac.control.triggers import Triggers
from tarmac.control.vault import Secrets
from tarmac.control.watching import Watching
from tarmac.control.workers.arrivals import Arrivals
from tarmac.control.workers.dispatch import Dispatch
from tarmac.control.workers.freshness import Freshness
from tarmac.control.workers.pools import Place, Pools
from tarmac.events import Journal
from tarmac.home import Home
from tarmac.links.server import Link, Peer
from tarmac.secrets import Sealer
from tarmac.settings import Settings
from tarmac.store import RunRow, Store, TaskRow

log = logging.getLogger("tarmac.control")


class Control:
    def __init__(
        self,
        store: Store,
        home: Home,
        settings: Settings,
        endpoint: str,
        port: int,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self.home, self.settings, self.endpoint, self.store = home, settings, endpoint, store
        self.blobs = open_blobs(settings.storage_url, home.blobs)
        self.identities = Identities(home.master_key())
        self.journal = Journal(store, on_failure)
        self.agent = Agent()
        place = Place(home, endpoint, settings.certificates(), settings.warm, settings.storage_url)
        self.secrets = Secrets(store, self.journal, Sealer(home.master_key()))
        self.images = Images(store, self.journal, self.agent, self.secrets, settings.images)
        self.tasks = Registry(store, endpoint, self.images)
        freshness = Freshness(self.agent, settings.pool_age)
        self._apps = Apps(
            store,
            self.journal,
            self.agent,
            self.secrets,
            self.images,
            self.identities,
            place,
            settings,
            port,
            freshness,
        )
        self._clock = Clock(home.clock)
        pools = Pools(place, self.secrets, self.images)
        dispatch = functools.partial(
            Dispatch,
            agent=self.agent,
            settings=settings,
            identities=self.identities,
            addresses=self._apps.addresses.told,
            home=home,
            freshness=freshness,
            pools=pools,
        )
        self.runs = Runs(
            store, self.journal, self.tasks, self.blobs, home, settings, endpoint, self._clock, pools, dispatch
        )
        self.actions = ActionRecords(store, self.journal, home, self.runs, self.tasks)
        self.cache = self.runs.results
        actions = self.runs.actions
        self.dispatch = actions.dispatch
        self._arrivals = Arrivals(self.dispatch, pools, self.runs.recovery, settings.lease)
        children = Children(store, self.journal, self.tasks, actions, pools, self.runs.errands)
        self._inbox = Inbox(self.dispatch, actions, children, Steps(self.journal, actions))
        outputs = RunOutputs(store, self.tasks, self.blobs)
        self.deployments = Deployments(
            home, store, self.journal, self.tasks, self._apps, self.secrets, self.images, outputs
        )
        self.triggers = Triggers(
            store, self.journal, self.tasks, self.runs, settings.missed, self.deployments.is_under_way
        )
        self.deployments.on_over = self.triggers.deployed
        self.builds = Builds(
            home, store, self.images, functools.partial(_images_in_use, self.images, self._apps, pools)
        )
        self.storage = Collector(
            home,
            store,
            self.journal,
            self.blobs,
            self.runs.live,
            lambda: {pool.spec.bundle for pool in pools.all.values() if pool.spec.bundle},
            self._forget,
        )
        self.apps = Catalog(self._apps, home, self.runs.errands)
        self.keys = Keys(store, self.journal, home.token(), self._apps.gateway)
        self.projects = Projects(store, self.journal)
        self.artifacts = Artifacts(store, self.journal, endpoint)
        self.watching = Watching(store, self.journal, self.runs, self._apps, self.deployments)
        self.ended_sessions = EndedSessions(home.ended_sessions, self._apps.gateway.sessions_ended)

    # ------------------------------------------------------------------ start and stop

    async def start(self) -> None:
        """Take up where the last control plane left off."""
        self._clock.look()  # the first look: where it is set from now on, that is noted as after this
        startup = Startup(self.home)
        await self.keys.restore()
        await self.images.restore()
        await self._apps.restore(startup)
        await self.deployments.close_open(startup)
        for row, actions in await self.store.live_runs():
            await self.runs.take_up(startup, row, actions)
        self.runs.actions.caching.open(self.runs.live)
        await self.triggers.restore()
        for what, why in self.store.unreadable:
            startup.leave_out(what, why, "Its row is left in the database as it is")
        startup.close()
        for folder in self.home.checkpoints_but(self.runs.live):
            self.runs.remove(folder)

    async def upkeep(self) -> None:
        """What goes on for as long as the control plane does."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.keep_tidy())
            group.create_task(self.triggers.keep_firing())

    async def keep_tidy(self) -> None:
        await asyncio.to_thread(unfinished.remove, self.home, time.time())
        for folder in (self.home.files, self.home.code):
            await asyncio.to_thread(restore, folder)
        await self._look_at_store()
        while True:
            await asyncio.sleep(self.dispatch.tidy_every)
            try:
                self.dispatch.tidy(self._apps.pools())
                self._clock.look()
            except Exception:  # the next look is made all the same
                log.exception("leftovers of earlier runs cannot be looked for")
            await self.keys.write_use()

    def _forget(self, runs: list[RunRow], tasks: list[TaskRow]) -> None:
        """These rows were removed."""
        self.runs.forget([run.name for run in runs])
        self.tasks.forget([(task.project, task.domain, task.name, task.version) for task in tasks])
        self.tasks.changed()

    async def _look_at_store(self) -> None:
        """Note at once what is wrong with the object store, for `health`; the platform goes on without it."""
        if isinstance(self.blobs, ObjectBlobs):
            try:
                await self.blobs.check()
            except (StorageError, SystemUnavailableError) as error:
                log.error("%s", error)

    def accept(self, link: Link, hello: wire.Hello) -> Peer:
        """Who is it that said Hello? Raises PermissionError for a stranger."""
        if hello.kind in ("agent", "gateway"):
            if not hmac.compare_digest(hello.token, self.home.token()):
                raise PermissionError("the token is not the owner's")
            if hello.kind == "gateway":
                return self._apps.gateway.connected(link)
            link.send(wire.Welcome(epoch=self.store.epoch, version=tarmac.__version__))
            return self.agent.connected(link, hello)
        if not self.dispatch.supply.is_known(hello):
            principal = self.identities.verify(hello.token)
            if principal is None or principal.subject != hello.name:
                raise PermissionError(f"the token is not {hello.name}'s")
        return WorkerPeer(self._arrivals.connected(link, hello), self._inbox)

    def health(self) -> wire.Health:
        components = {"control": "ok", "agent": "ok" if self.agent.present else "being restarted"}
        if isinstance(self.blobs, ObjectBlobs):
            components["storage"] = self.blobs.problem or "ok"
        return wire.Health(
            status="ok" if self.agent.present else "starting", version=tarmac.__version__, components=components
        )


def _images_in_use(images: Images, apps: Apps, pools: Pools) -> set[str]:
    """The environments that processes run in, or that an app which may be woken has."""
    records = (images.record_of(app.spec.environment) for app in apps.live.values() if app.spec)
    of_apps = {record.key for record in records if record is not None}
    return {pool.spec.image for pool in pools.all.values()} | of_apps
