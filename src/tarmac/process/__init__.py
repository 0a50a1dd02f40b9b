"""Processes of the operating system: who dies with whom, how an end is awaited, and what an end left behind.

Nothing of the platform may outlive it, whatever kills it. Four means, each for the holes of the one before:

1. Linux ends a child when its parent is gone (PR_SET_PDEATHSIG), even when the parent was killed. Elsewhere the child
   is put behind a *guard*: a small process of ours that holds the reading end of a pipe whose writing end only the
   parent has; the end of that pipe is the end of the parent (`guard`, and this package as a program).
2. A parent and its children are each in a session of their own, so that one signal reaches everything that a child
   started (`signal_group`).
3. Every process but the supervisor carries a mark in its environment, which its descendants inherit: TARMAC_PLATFORM,
   the folder of the platform. Starting or ending a platform searches the table of processes for that mark
   (`marked`), and so finds what was orphaned, changed its session, or was started by something that is long gone.
4. Beside the supervisor waits a process that does that as soon as the supervisor is gone (`supervisor.cleanup`).
"""

from __future__ import annotations

from tarmac.process.ending import (
    Adopted,
    Child,
    describe_exit,
    ended,
    gone,
    is_there,
    kill,
    lives,
    reap_strangers,
    signal_group,
)
from tarmac.process.marks import (
    LIFE,
    MARK,
    UNIT_MARK,
    end_marked,
    family_environment,
    is_unit_of,
    leftovers,
    life,
    marked,
    orphaned_units,
    with_absolute_path,
)
from tarmac.process.starting import (
    UMASK,
    adopt_orphans,
    be_called,
    die_with,
    dies_with_me,
    guard,
    keep_files_private,
    lifeline,
    open_many_files,
    start,
    users_umask,
)
from tarmac.process.table import Entry, entries, environment, find, stopped

__all__ = [
    "LIFE",
    "MARK",
    "UMASK",
    "UNIT_MARK",
    "Adopted",
    "Child",
    "Entry",
    "adopt_orphans",
    "be_called",
    "describe_exit",
    "die_with",
    "dies_with_me",
    "end_marked",
    "ended",
    "entries",
    "environment",
    "family_environment",
    "find",
    "gone",
    "guard",
    "is_there",
    "is_unit_of",
    "keep_files_private",
    "kill",
    "leftovers",
    "life",
    "lifeline",
    "lives",
    "marked",
    "open_many_files",
    "orphaned_units",
    "reap_strangers",
    "signal_group",
    "start",
    "stopped",
    "users_umask",
    "with_absolute_path",
]
