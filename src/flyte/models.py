"""Small types that programs import from here: the phases of an action, and who an action is."""

from flyte._context import ActionID, TaskContext
from flyte.wire import ActionPhase

__all__ = ["ActionID", "ActionPhase", "TaskContext"]
