"""What plugins build on: the classes of tasks, and a few functions."""

from typing import Any

from flyte._absent import missing
from flyte._declare.task import AsyncFunctionTaskTemplate, TaskTemplate
from flyte._importing import lazy_module
from flyte._session.state import is_initialized

__all__ = ["AsyncFunctionTaskTemplate", "TaskTemplate", "is_initialized", "lazy_module"]


def __getattr__(name: str) -> Any:
    raise missing("flyte.extend", name)
