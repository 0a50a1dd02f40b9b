"""The endpoints that a webhook app may have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Group = Literal["core", "task", "run", "app", "trigger", "build", "prefetch"]

ENDPOINTS: dict[str, tuple[Group, str, str]] = {
    "health": ("core", "GET", "/health"),
    "me": ("core", "GET", "/me"),
    "run_task": ("task", "POST", "/run-task/{domain}/{project}/{name}"),
    "get_task": ("task", "GET", "/task/{domain}/{project}/{name}"),
    "get_run": ("run", "GET", "/run/{name}"),
    "get_run_io": ("run", "GET", "/run/{name}/io"),
    "abort_run": ("run", "POST", "/run/{name}/abort"),
    "get_app": ("app", "GET", "/app/{name}"),
    "activate_app": ("app", "POST", "/app/{name}/activate"),
    "deactivate_app": ("app", "POST", "/app/{name}/deactivate"),
    "call_app": ("app", "POST", "/app/{name}/call"),
    "activate_trigger": ("trigger", "POST", "/trigger/{task_name}/{trigger_name}/activate"),
    "deactivate_trigger": ("trigger", "POST", "/trigger/{task_name}/{trigger_name}/deactivate"),
    "build_image": ("build", "POST", "/build-image"),
    "prefetch_hf_model": ("prefetch", "POST", "/prefetch/hf-model"),
    "get_prefetch_hf_model": ("prefetch", "GET", "/prefetch/hf-model/{name}"),
    "get_prefetch_hf_model_io": ("prefetch", "GET", "/prefetch/hf-model/{name}/io"),
    "abort_prefetch_hf_model": ("prefetch", "POST", "/prefetch/hf-model/{name}/abort"),
}
"""Endpoint → its group, its method and its path."""

OPEN_PATHS = frozenset({"/health", "/docs", "/openapi.json", "/redoc"})
"""The paths that need no credentials."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """The tasks, apps and triggers that a webhook app may use; None allows all."""

    tasks: Sequence[str] | None
    apps: Sequence[str] | None
    triggers: Sequence[str] | None

    def task(self, domain: str, project: str, name: str) -> bool:
        return _on(self.tasks, f"{domain}/{project}/{name}", f"{project}/{name}", name)

    def app(self, name: str) -> bool:
        return _on(self.apps, name)

    def trigger(self, task: str, trigger: str) -> bool:
        return _on(self.triggers, f"{task}/{trigger}", trigger)


def _on(allowed: Sequence[str] | None, *forms: str) -> bool:
    return allowed is None or any(form in allowed for form in forms)
