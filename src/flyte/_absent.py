"""Names of Flyte's API that Tarmac does not have, and what to do instead: the one list, for all of its modules.

A program meets such a name in three forms, and each says more than that it is not there:

- `flyte.notify`, `flyte.remote.Artifact`: a module's `__getattr__` asks `missing`, a class has an `Absent` for each
  such member. That is an AttributeError: `hasattr` stays False, and `getattr` takes its default.
- `from flyte.config import get_config_file`: the same `__getattr__`, but Python would put a sentence of its own in
  place of an AttributeError there. So it is an ImportError.
- `import flyte.ai`, `from flyte.ai.agents import Agent`: a file for each module in `_absent_modules`, where `flyte`
  looks for its submodules too, raises what `missing_module` makes, a ModuleNotFoundError.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from opcode import opmap
from types import FrameType
from typing import Any

_IMPORT_FROM = opmap["IMPORT_FROM"]

_CONTAINERS = "plugins that start containers or clusters need them; call the library from a plain task, on this machine"

ABSENT: Mapping[str, Mapping[str, str]] = {
    "flyte": {
        "OnArtifact": "nothing starts a run when there is a new artifact; start it from the task that makes it",
        "TriggeredArtifact": "nothing starts a run when there is a new artifact; pass the artifact as an input",
        "TriggeredPartition": "artifacts have no partitions; pass the partition as an input",
        "ConditionWebhook": "there are no conditions; end the run, and let an app's handler start the next one",
        "new_condition": "there are no conditions; end the run, and let an app's handler start the next one",
        "run_python_script": "call the script's functions from a task",
        "load_interactive_ctx": "there is no debug mode; run the task with `flyte.init()` under your debugger",
        "load_plugin_config": "its plugins start clusters; call the library from a plain task, on this machine",
        "ai": "write the app yourself with `flyte.app.FastAPIAppEnvironment`",
        "clustered": "there is one machine; call tasks side by side with `flyte.map` or `asyncio.gather`",
        "connectors": "call the service from a task",
        "durable": "use `flyte.trace` for what has to be remembered",
        "extras": "write a task that calls the program with `subprocess`",
        "git": "pass `version=` yourself",
        "notify": "there are no notifications; watch `run.stream()`, or send them from a task",
        "prefetch": "fetch the model in a task, and return a `flyte.io.Dir`",
        "sandbox": "every action is a process of its own; run only code that you trust",
    },
    "flyte.types": {
        "Renderable": "write the HTML yourself, with `flyte.report.replace`",
        "guess_interface": "a deployed task's inputs and outputs are in `flyte.remote.TaskDetails`",
        "literal_string_repr": "a run's values are in `flyte.remote.Run.outputs`",
    },
    "flyte.remote": {
        "PartitionSchema": "artifacts have no partitions; put what tells them apart into `attrs`",
        "Condition": "there are no conditions",
        "Settings": "the platform's settings are TARMAC_* variables, see docs/settings.md",
    },
    "flyte.remote.Run": {
        "get_debug_url": "there is no debug mode; run the task with `flyte.init()` under your debugger"
    },
    "flyte.remote.ActionDetails": {
        "waiting_for_resources_time": "`queued_time` is all of the time before it ran",
        "initializing_time": "`queued_time` is all of the time before it ran",
    },
    "flyte.remote.App": {
        "create": "declare the app, and call `flyte.deploy`",
        "replace": "declare the app, and call `flyte.deploy`",
        "update": "declare the app, and call `flyte.deploy`; `activate` and `deactivate` are here",
    },
    "flyte.models": {
        "CodeBundle": "code is found again with `flyte.remote.Run.code_bundle`",
        "SerializationContext": _CONTAINERS,
    },
    "flyte.extend": {
        "Architecture": "images are built for this machine",
        "ImageBuildEngine": "images become environments by uv; call `flyte.build`",
        "ImageBuilder": "images become environments by uv; call `flyte.build`",
        "ImageChecker": "images become environments by uv; call `flyte.build`",
        "PRIMARY_CONTAINER_DEFAULT_NAME": _CONTAINERS,
        "TaskPluginRegistry": _CONTAINERS,
        "download_code_bundle": "call `flyte.remote.Run.download_code`",
        "get_proto_extended_resources": _CONTAINERS,
        "get_proto_resources": _CONTAINERS,
        "pod_spec_from_resources": _CONTAINERS,
    },
    "flyte.config": {
        "get_config_file": "call `flyte.config.auto()`, which finds the file and reads it",
        "set_if_exists": "write the dictionary yourself",
    },
    "flyte.app": {"ConnectorEnvironment": "call the service from a task"},
    "flyte.TaskEnvironment": {"sandbox": "every action is a process of its own; run only code that you trust"},
}
"""Module or class → name → what to do instead."""


def missing(owner: str, name: str) -> Exception:
    """What a module's or class's `__getattr__` is to raise for a name that `owner` does not have."""
    instead = ABSENT.get(owner, {}).get(name)
    if instead is None:
        kind = "module" if owner.islower() else "class"
        return AttributeError(f"{kind} {owner!r} has no attribute {name!r}")
    text = _sentence(owner, name, instead)
    return ImportError(text, name=owner) if _is_imported(sys._getframe(2)) else AttributeError(text)


def missing_module(name: str) -> ModuleNotFoundError:
    """What to raise where `flyte.NAME` is imported."""
    return ModuleNotFoundError(_sentence("flyte", name, ABSENT["flyte"][name]), name=f"flyte.{name}")


def _sentence(owner: str, name: str, instead: str) -> str:
    return f"Tarmac does not have {owner}.{name}: {instead}; see docs/limits.md"


def _is_imported(frame: FrameType) -> bool:
    """Whether `from MODULE import NAME` is what the frame is at."""
    return frame.f_code.co_code[frame.f_lasti] == _IMPORT_FROM


class Absent:
    """What stands in a class for a member that Tarmac does not have, in its instances too."""

    def __init__(self, owner: str) -> None:
        self._owner = owner

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, obj: Any, owner: type | None = None) -> Any:
        raise missing(self._owner, self._name)
