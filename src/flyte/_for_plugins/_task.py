"""A private module of Flyte's that plugins import: the classes of tasks."""

from flyte._declare.task import AsyncFunctionTaskTemplate, TaskTemplate

__all__ = ["AsyncFunctionTaskTemplate", "TaskTemplate"]
