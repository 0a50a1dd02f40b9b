"""Small types that programs import from here: the phases of an action, who an action is, what a task takes."""

from typing import Any

from flyte._absent import missing
from flyte._context import ActionID, TaskContext
from flyte._declare.native_interface import NativeInterface
from flyte.wire import ActionPhase

__all__ = ["ActionID", "ActionPhase", "NativeInterface", "TaskContext"]


def __getattr__(name: str) -> Any:
    raise missing("flyte.models", name)
