"""`FlyteWebhookAppEnvironment`: a ready-made app that runs tasks and looks after runs and apps for its callers.

It has no rights of its own: each request carries the caller's credentials on to the platform. What it offers can be
narrowed to groups of endpoints, or single ones, and to the tasks, apps and triggers on its allow-lists.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from flyte._declare.image import Image
from flyte.app.extras._fastapi import FastAPIAppEnvironment
from flyte.app.extras._webhook_endpoints import ENDPOINTS, Allowed, Group

if TYPE_CHECKING:
    import fastapi


def default_image() -> Image:
    return Image.from_debian_base().with_pip_packages("fastapi", "uvicorn")


@dataclass(eq=False)
class FlyteWebhookAppEnvironment(FastAPIAppEnvironment):
    """An app with endpoints for tasks, runs and apps; see ENDPOINTS. Narrow it to what its callers need.

    `task_allowlist` takes `domain/project/task`, `project/task` or `task`; `app_allowlist` takes names of apps,
    `trigger_allowlist` takes `task/trigger` or `trigger`. Without a list everything is allowed. The app cannot act on
    itself.
    """

    title: str | None = field(default=None, kw_only=True)
    endpoint_groups: Sequence[Group] | None = field(default=None, kw_only=True)
    endpoints: Sequence[str] | None = field(default=None, kw_only=True)
    """Names in ENDPOINTS; an alternative to `endpoint_groups`."""
    task_allowlist: Sequence[str] | None = field(default=None, kw_only=True)
    app_allowlist: Sequence[str] | None = field(default=None, kw_only=True)
    trigger_allowlist: Sequence[str] | None = field(default=None, kw_only=True)
    app: fastapi.FastAPI = field(default=cast("Any", None), init=False)
    type: str | None = "FlyteWebhookApp"
    image: str | Image | None = field(default_factory=default_image)

    def __post_init__(self) -> None:
        from flyte.app.extras._webhook_routes import make_app

        self.enabled = self._enabled()
        allowed = Allowed(self.task_allowlist, self.app_allowlist, self.trigger_allowlist)
        title = self.title or f"Flyte Webhook: {self.name}"
        self.app = make_app(self.name, title, self.description, self.enabled, allowed)
        super().__post_init__()

    @property
    def _passes_auth(self) -> bool:
        return True  # its endpoints act in the caller's name

    def _enabled(self) -> list[str]:
        """The endpoints that the app has. Raises ValueError for unknown ones, and for both ways of naming them."""
        if self.endpoints is not None and self.endpoint_groups is not None:
            raise ValueError(f"{self.name}: endpoints= and endpoint_groups= exclude each other")
        groups = {group for group, _, _ in ENDPOINTS.values()}
        for wanted, known, word in (
            (self.endpoints, set(ENDPOINTS), "endpoint"),
            (self.endpoint_groups, groups, "group"),
        ):
            unknown = sorted(set(wanted or ()) - known)
            if unknown:
                raise ValueError(
                    f"{self.name}: there is no {word} {unknown[0]!r}; there are {', '.join(sorted(known))}"
                )
        if self.endpoints is not None:
            return [name for name in ENDPOINTS if name in self.endpoints]
        chosen = self.endpoint_groups if self.endpoint_groups is not None else groups
        return [name for name, (group, _, _) in ENDPOINTS.items() if group in chosen]

    def __rich_repr__(self) -> Any:
        for item in dataclasses.fields(self):
            yield item.name, getattr(self, item.name)
