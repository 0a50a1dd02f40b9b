"""The configuration as a program may ask for it: `flyte.config.auto()`, then `flyte.init_from_config(...)`."""

from flyte._config import Config

auto = Config.auto

__all__ = ["Config", "auto"]
