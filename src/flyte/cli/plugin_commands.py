"""Commands of plugins: entry points of the group `flyte.plugins.cli.commands`.

`NAME` is the command `flyte NAME`, and `GROUP.NAME` a command of one of our groups: `flyte get NAME`. A command of ours
is not replaced. The plugin is imported when its command is called, not for the help.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import TYPE_CHECKING

import click

from flyte import _plugins

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


@functools.cache
def all_of() -> dict[str, EntryPoint]:
    """The entry points by their names."""
    return {point.name: point for point in _plugins.entry_points(_plugins.COMMANDS)}


def top_level(ours: Collection[str]) -> dict[str, EntryPoint]:
    """Those that are commands of `flyte` itself, but for names that are `ours`."""
    return {name: point for name, point in all_of().items() if "." not in name and name not in ours}


def of_group(group: str, ours: Collection[str]) -> dict[str, EntryPoint]:
    """Those that are commands of a group, such as `get`, but for names that are `ours`."""
    words = {name: name.partition(".") for name in all_of()}
    return {
        last: all_of()[name] for name, (first, _, last) in words.items() if first == group and last not in ("", *ours)
    }


def summary(point: EntryPoint) -> str:
    """The line of the help, for which the plugin is not imported."""
    return f"Of {point.dist.name} {point.dist.version}." if point.dist else "Of a plugin."


def load(point: EntryPoint) -> click.Command:
    """The command. Raises ClickException that names the plugin where it cannot be loaded."""
    try:
        command = point.load()
    except (Exception, SystemExit) as error:
        raise click.ClickException(
            f"the plugin {_plugins.described(point)} cannot be loaded: {type(error).__name__}: {error}. "
            "Upgrade or uninstall it; docs/plugins.md says which plugins work."
        ) from error
    if not isinstance(command, click.Command):
        raise click.ClickException(
            f"the plugin {_plugins.described(point)} gives a {type(command).__name__}, which is not a command"
        )
    return command
