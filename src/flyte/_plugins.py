"""Plugins: installed distributions that name an entry point which Flyte reads.

`flyte.plugins.types` registers types (see `flyte.types`), `flyte.plugins.cli.commands` adds commands to the command
line. A plugin is loaded when it is needed for the first time: the types when an annotation names a class that may be
theirs, a command when it is called. A plugin that cannot be loaded is named in a warning, and the program goes on.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from flyte._logging import system_logger

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

TYPES = "flyte.plugins.types"
COMMANDS = "flyte.plugins.cli.commands"

_METADATA = (".dist-info", ".egg-info")

_loading = threading.RLock()
"""Reentrant, because a plugin may look up types while it registers its own."""
_types_are_loaded = False


def load_types() -> None:
    """Load the plugins that register types, once for each process. What they register is there afterwards."""
    global _types_are_loaded
    with _loading:  # who comes while another thread loads them waits, because the types are not complete before
        if _types_are_loaded:
            return
        _types_are_loaded = True
        for point in entry_points(TYPES):
            _load_type(point)


def leave_types_out() -> None:
    """Do not load the plugins that register types, for `flyte.init(load_plugin_type_transformers=False)`."""
    global _types_are_loaded
    _types_are_loaded = True


def _load_type(point: EntryPoint) -> None:
    try:
        loaded = point.load()
        if callable(loaded):
            loaded()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's code, which is not to end the program
        system_logger.warning(
            f"the plugin {described(point)} cannot be loaded, and values of its types travel without it: "
            f"{type(error).__name__}: {error}. Upgrade or uninstall it."
        )


def described(point: EntryPoint) -> str:
    """The entry point with its distribution, for messages: `polars (of flyteplugins-polars 2.12.1)`."""
    distribution = point.dist
    return f"{point.name} (of {distribution.name} {distribution.version})" if distribution else point.name


def entry_points(group: str) -> list[EntryPoint]:
    """The entry points of the installed distributions in that group, by name."""
    if not any(group.encode() in text for text in _texts(sys.path)):
        return []
    from importlib import metadata  # not at the top: it takes 20 ms, and most installations have no plugins

    return sorted(metadata.entry_points(group=group), key=lambda point: point.name)


def _texts(folders: Iterable[str]) -> Iterator[bytes]:
    """The content of all files that list entry points."""
    for folder in dict.fromkeys(folders):
        for info in _infos(folder or "."):
            try:
                with open(os.path.join(info, "entry_points.txt"), "rb") as file:
                    yield file.read()
            except OSError:  # most distributions have no such file
                continue


def _infos(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.path for entry in entries if entry.name.endswith(_METADATA)]
    except OSError:  # an entry of the path may be an archive, or nothing at all
        return []
