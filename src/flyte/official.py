"""Is the official `flyte` distribution installed, too? It owns the same folder as ours, and then neither is whole."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

from flyte.errors import InitializationError

OURS = "+tarmac"
"""The end of the version under which an environment that the platform has made names `flyte`: it is this package."""


@functools.cache
def refuse_official() -> None:
    """Raises InitializationError where it is installed."""
    # a look first: what can say its version takes 20 ms to be imported
    if not any(next(Path(folder or ".").glob("flyte[-.]*-info"), None) for folder in sys.path):
        return
    import importlib.metadata

    try:
        official = importlib.metadata.distribution("flyte")
    except importlib.metadata.PackageNotFoundError:
        return
    if official.version.endswith(OURS):
        return
    raise InitializationError(
        "OfficialDistributionError",
        "user",
        f"the official `flyte` {official.version} is installed beside tarmac; both put their files into one folder, "
        "so neither is whole. Mend it with: pip uninstall flyte, and then, in a clone of this project, pip install "
        "--force-reinstall .",
    )
