"""The version of this package: that of the distribution it came with."""

from __future__ import annotations

import importlib.metadata

try:
    __version__ = importlib.metadata.version("tarmac")
except importlib.metadata.PackageNotFoundError:  # run from a source folder
    __version__ = "0.0.0+source"


def version() -> str:
    """The version of this package."""
    return __version__
