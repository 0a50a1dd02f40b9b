"""The system calls of Linux that Python does not offer: mount namespaces, Landlock's scopes, capabilities.

Each raises OSError where the kernel refuses it. None of them exists on other systems.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
from collections.abc import Collection
from dataclasses import dataclass

_libc = ctypes.CDLL(None, use_errno=True) if os.uname().sysname == "Linux" else None

_NEWNS, _NEWUSER = 0x20000, 0x10000000
RDONLY, NOSUID, NODEV = 1, 2, 4
_REMOUNT, _BIND, _REC, _PRIVATE, _RELATIME = 32, 4096, 16384, 1 << 18, 1 << 21
_KEPT_FLAGS = NOSUID | NODEV | 8 | 1024 | 2048
"""Flags of a mount that must be named again when it is mounted anew; `statvfs` has the same numbers for them."""
_ST_RELATIME = 4096

_LANDLOCK_CREATE, _LANDLOCK_RESTRICT = 444, 446
_SCOPE_ABSTRACT_SOCKETS, _SCOPE_SIGNALS = 1, 2

_NO_NEW_PRIVILEGES, _DROP_FROM_BOUNDS, _ADOPT_ORPHANS = 38, 24, 36
_CONTAINER = (0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31)
"""The capabilities that root has in a container of Docker's: chown, dac_override, fowner, fsetid, kill, setgid, setuid,
setpcap, net_bind_service, net_raw, sys_chroot, mknod, audit_write, setfcap."""
_CAPABILITIES = 64
_CAPABILITY_VERSION = 0x20080522


def _library() -> ctypes.CDLL:
    if _libc is None:
        raise OSError(f"{os.uname().sysname} has no mount namespaces")
    return _libc


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def own_mounts() -> None:
    """Give this process a mount namespace of its own.

    Without the capability for that, by way of a user namespace in which every user keeps its number. That works only
    in a process with a single thread.
    """
    library = _library()
    if library.unshare(_NEWNS) == 0:
        return
    uid, gid = os.geteuid(), os.getegid()
    _checked(library.unshare(_NEWNS | _NEWUSER), "making a user namespace")
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def keep_mounts_private() -> None:
    """What is mounted in this namespace from now on is seen in it alone."""
    _mount(None, "/", None, _REC | _PRIVATE)


@dataclass(frozen=True, slots=True)
class Mounts:
    """Descriptors of a mount namespace, and of the root folder in it."""

    namespace: int
    root: int

    def enter(self) -> None:
        """Have this process, which has a single thread, see these mounts. Its working directory is the root then."""
        _checked(_library().setns(self.namespace, _NEWNS), "entering a mount namespace")
        os.fchdir(self.root)
        os.chroot(".")  # entered is the whole machine's root, also where this process was given another

    def close(self) -> None:
        os.close(self.namespace)
        os.close(self.root)


def present_mounts() -> Mounts:
    """Those that this process sees."""
    return Mounts(os.open("/proc/self/ns/mnt", os.O_RDONLY), os.open("/", os.O_PATH))


class Children:
    """The processes beneath this one, which adopts those whose parents have ended."""

    def __init__(self) -> None:
        _checked(_library().prctl(_ADOPT_ORPHANS, 1, 0, 0, 0), "adopting orphans")
        self._list: int | None = None
        with contextlib.suppress(FileNotFoundError):  # a kernel without such lists
            self._list = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY)
        self._before = self._pids()
        """Those that the import started, say."""

    def _pids(self) -> set[int]:
        return set() if self._list is None else {int(pid) for pid in os.pread(self._list, 1 << 20, 0).split()}

    def are_only(self, known: Collection[int]) -> bool:
        """Whether there are none but these, and those that there were at first. False where nobody can tell."""
        return self._list is not None and self._pids() - self._before <= set(known)

    def close(self) -> None:
        if self._list is not None:
            os.close(self._list)


def in_user_namespace() -> bool:
    """Whether this process is in another user namespace than the machine's first one."""
    with open("/proc/self/uid_map") as file:
        return file.read().split() != ["0", "0", "4294967295"]


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str = "") -> None:
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind, options or None)]
    _checked(_library().mount(*encoded[:3], flags, encoded[3]), f"mounting {target}")


def mount_empty(target: str, size: str = "1m") -> None:
    """Put an empty folder, which vanishes with the namespace and holds `size`, in the place of `target`."""
    _mount("none", target, "tmpfs", NOSUID | NODEV, f"mode=0755,size={size}")


def mount_again(source: str, target: str, with_mounts: bool = False) -> None:
    """Show the file or folder `source` at `target`, too. `with_mounts`: and what is mounted in it."""
    _mount(source, target, None, _BIND | (_REC if with_mounts else 0))


def forbid_writing(mounted: str) -> None:
    """Nothing can be changed in what is mounted at `mounted` any more."""
    kept = os.statvfs(mounted).f_flag
    flags = kept & _KEPT_FLAGS | (_RELATIME if kept & _ST_RELATIME else 0)
    _mount(None, mounted, None, _BIND | _REMOUNT | RDONLY | flags)


def mount_overlay(target: str, lower: list[str], upper: str, work: str, user: bool) -> None:
    """Show the folders `lower`, the first above the others, at `target`; what is changed there lands in `upper`.

    `work` is an empty folder beside `upper`. `user`: this process is in a user namespace. What is in `upper` need not
    outlive the machine: it is not written to disk when the mount ends, which otherwise waits for that.
    """
    below = ":".join(map(_escaped, lower))
    options = f"lowerdir={below},upperdir={_escaped(upper)},workdir={_escaped(work)}{',userxattr' if user else ''}"
    try:
        _mount("overlay", target, "overlay", NOSUID | NODEV, f"{options},volatile")
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        _mount("overlay", target, "overlay", NOSUID | NODEV, options)  # before Linux 5.10


def _escaped(path: str) -> str:
    for character in "\\:,":
        path = path.replace(character, f"\\{character}")
    return path


class SignalScope:
    """A process that has entered it, and its descendants, can signal and trace only those that descend from it.

    The same holds for connections to abstract sockets. `is_there`: False where the kernel has no such scope (before
    Linux 6.12); then it does nothing.
    """

    def __init__(self) -> None:
        rules = struct.pack("=3Q", 0, 0, _SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS)
        self._rules: int = _library().syscall(_LANDLOCK_CREATE, rules, len(rules), 0)
        self.is_there: bool = self._rules >= 0
        if self.is_there:
            _checked(_library().prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0), "no_new_privs")

    def enter(self) -> None:
        """From now on; each process that enters is one of its own."""
        if self.is_there:
            _checked(_library().syscall(_LANDLOCK_RESTRICT, self._rules, 0), "landlock_restrict_self")

    def close(self) -> None:
        if self.is_there:
            os.close(self._rules)


def bound_capabilities() -> None:
    """Programs that are executed from now on get no capability beyond those of a container."""
    for number in range(_CAPABILITIES):
        if number not in _CONTAINER:
            _library().prctl(_DROP_FROM_BOUNDS, number, 0, 0, 0)  # refused for numbers that the kernel does not have


class Capabilities:
    """What a unit keeps of what this process may do: root has what it has in a container, others nothing."""

    def __init__(self) -> None:
        kept = sum(1 << number for number in _CONTAINER) if os.geteuid() == 0 else 0
        self._header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
        held = ctypes.create_string_buffer(24)
        _checked(_library().capget(self._header, held), "capget")
        _, low, _, _, high, _ = struct.unpack("=6I", held.raw)
        low, high = low & kept, high & kept >> 32
        self._kept = struct.pack("=6I", low, low, 0, high, high, 0)

    def drop_others(self) -> None:
        """Give up what was needed to prepare this process."""
        _checked(_library().capset(self._header, self._kept), "capset")
