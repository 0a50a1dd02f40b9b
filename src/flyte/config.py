"""The configuration as a program may ask for it: `flyte.config.auto()`, then `flyte.init_from_config(...)`."""

from typing import Any

from flyte._absent import missing
from flyte._session.config import Config

auto = Config.auto

__all__ = ["Config", "auto"]


def __getattr__(name: str) -> Any:
    raise missing("flyte.config", name)
