"""The version of this package: that of the distribution it came with, `2.9999.0+tarmac.` and this project's own."""

from __future__ import annotations

import importlib.metadata

from flyte.official import OURS

SOURCE = "2.9999.0+tarmac.source"
"""The version where the package is used from its source folder, and no distribution of it is installed."""


def _installed() -> str:
    for distribution in importlib.metadata.distributions(name="flyte"):
        if OURS in distribution.version:
            return distribution.version
    return SOURCE


__version__ = _installed()


def version() -> str:
    """The version of this package."""
    return __version__
