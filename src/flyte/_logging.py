"""`flyte.logger`, for user code, and the SDK's own logger.

Nothing is set up at import: Python's own defaults hold until somebody configures logging. `configure` is what the
platform's processes and `init(log_level=…)` call.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Any

logger = logging.getLogger("flyte.user")
"""For user code."""

system_logger = logging.getLogger("flyte")
"""For this package."""


class _Json(logging.Formatter):
    """One JSON object for each line."""

    def format(self, record: logging.LogRecord) -> str:
        body: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            body["exception"] = self.formatException(record.exc_info)
        return json.dumps(body)


def configure(
    level: int | str | None = None, user_level: int | str | None = None, log_format: str | None = None
) -> None:
    """Send both loggers to stderr. Defaults: `LOG_LEVEL` or WARNING, `USER_LOG_LEVEL` or INFO, `LOG_FORMAT` or console.

    Safe to call again; handlers that user code set up stay as they are.
    """
    system_logger.setLevel(_level(level or os.environ.get("LOG_LEVEL"), logging.WARNING))
    logger.setLevel(_level(user_level or os.environ.get("USER_LOG_LEVEL"), logging.INFO))
    for handler in system_logger.handlers[:]:
        if getattr(handler, "is_flyte", False):
            system_logger.removeHandler(handler)
    handler = logging.StreamHandler(sys.stderr)
    as_json = (log_format or os.environ.get("LOG_FORMAT", "console")) == "json"
    handler.setFormatter(_Json() if as_json else logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.is_flyte = True  # type: ignore[attr-defined]
    system_logger.addHandler(handler)
    system_logger.propagate = False


def _level(wanted: int | str | None, default: int) -> int | str:
    if wanted is None:
        return default
    return int(wanted) if str(wanted).isdigit() else str(wanted).upper()
