"""Small types that programs import from here: the phases of an action, and who an action is."""

from typing import Any

from flyte._absent import missing
from flyte._context import ActionID, TaskContext
from flyte.wire import ActionPhase

__all__ = ["ActionID", "ActionPhase", "TaskContext"]


def __getattr__(name: str) -> Any:
    raise missing("flyte.models", name)
