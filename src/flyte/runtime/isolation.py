"""What a unit has to itself: its working directory, its folder for temporary files, and how far its signals reach.

Official programs run in a container each: the shipped files can be read in the working directory, anything can be
written there, and nobody else sees it. Here that is a *profile*, which the agent chooses when it starts (it asks this
module, as a program, what the machine lets us do):

- `tidy` (Linux): an overlay over the code's folder, in a mount namespace of the unit's own. What is written there, also
  beside `__file__`, lands in the unit's folder; the code itself never changes. The platform's own folder is covered,
  except for what units need of it. Signals end at the unit's own processes.
- `links` (where namespaces cannot be had): the working directory is a fresh folder with links to the entries of the
  code's top level, and the agent has made the code read-only.

The fork server calls `enter` before it imports the user's code, and `imported` after it; each unit calls `settle`. What
the import writes is the fork server's own, and its units find it. With `tidy` the fork server has each unit's mounts
ready before it is forked (`rooms`). The agent removes the folders.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Collection, Mapping

from flyte.runtime import linux, secret_files
from flyte.runtime.rooms import Rooms
from flyte.wire import ErrorInfo, Isolation, PoolSpec

_LONGEST_TEMPORARY = 70
"""Characters of TMPDIR above which `multiprocessing` finds no room for the name of a socket in it."""


class Tidy:
    """`code`: the folder of the unpacked bundle; None for code that is used where it lies, which is not covered."""

    def __init__(
        self,
        spec: Isolation,
        code: str | None,
        keeps_tmpdir: bool = False,
        secret_files: Mapping[str, str] | None = None,
    ) -> None:
        self._spec = spec
        self._code = code
        self._keeps_tmpdir = keeps_tmpdir
        self._secret_files = secret_files or {}
        self._temporary = f"{spec.home}/tmp"
        self._user = False
        self._code_below: list[str] = []
        self._temporary_below: list[str] = []
        self._rooms: Rooms
        self._scope: linux.SignalScope
        self._capabilities: linux.Capabilities

    def enter(self) -> None:
        """In the fork server, which has a single thread. Raises OSError."""
        if not self._spec.entered:
            self._make_own()
            linux.own_mounts()
            linux.keep_mounts_private()
            self._user = linux.in_user_namespace()
            self._cover()
            self._mount_own()
            secret_files.show(self._secret_files)
            scope = linux.SignalScope()
            scope.enter()
            scope.close()
        self._user = linux.in_user_namespace()
        if not self._keeps_tmpdir:
            _use_temporary(self._temporary)

    def _make_own(self) -> None:
        for name in ("", "/code", "/code.work", "/tmp"):
            os.mkdir(self._spec.own + name, 0o700)

    def _cover(self) -> None:
        """Put empty folders in the place of the platform's, and in them only what units need."""
        home, link = self._spec.home, self._spec.link
        wanted = [f"{home}/{name}" for name in self._spec.kept] + [link]
        held = [(path, os.open(path, os.O_PATH)) for path in wanted]
        covers = [home] if link.startswith(f"{home}/") else [home, os.path.dirname(link)]
        for cover in covers:
            linux.mount_empty(cover)
        for path, fd in held:
            _make_place(path, fd)
            linux.mount_again(f"/proc/self/fd/{fd}", path)
            os.close(fd)
        os.mkdir(self._temporary, 0o700)
        hidden = [f"{home}/{name}" for name in self._spec.hidden]
        for place in hidden:
            linux.mount_empty(place)
        for place in (f"{home}/code", *hidden, *covers):
            linux.forbid_writing(place)

    def _mount_own(self) -> None:
        own = self._spec.own
        linux.mount_again(f"{own}/tmp", self._temporary)
        if self._code is not None:
            linux.mount_overlay(self._code, [self._code], f"{own}/code", f"{own}/code.work", self._user)

    def imported(self) -> None:
        """In the fork server, when it has imported what it will, and will not execute itself anew. Raises OSError."""
        own = self._spec.own
        if self._code is not None:
            self._code_below = [*_filled(f"{own}/code"), self._code]
        self._temporary_below = _filled(f"{own}/tmp")
        self._place = self._code or os.getcwd()
        self._rooms = Rooms(f"{own}/rooms", self._spec.work, self._furnish)
        self._scope = linux.SignalScope()
        if os.geteuid() == 0:
            linux.bound_capabilities()
        self._capabilities = linux.Capabilities()

    @property
    def keeps_signals(self) -> bool:
        """Whether signals end at the unit's own processes."""
        return self._scope.is_there

    def _furnish(self, room: str) -> list[str]:
        """Under the name that the fork server's has: what the import keeps of it goes on being right."""
        for name in ("", "/code", "/code.work", "/tmp"):
            os.mkdir(room + name, 0o700)
        self._mount_temporary(room)
        if self._code is not None:
            linux.mount_overlay(self._code, self._code_below, f"{room}/code", f"{room}/code.work", self._user)
        return [f"{room}/code", f"{room}/tmp"]

    def _mount_temporary(self, room: str) -> None:
        if not self._temporary_below:
            linux.mount_again(f"{room}/tmp", self._temporary)
            return
        os.mkdir(f"{room}/tmp.work", 0o700)
        linux.mount_overlay(self._temporary, self._temporary_below, f"{room}/tmp", f"{room}/tmp.work", self._user)

    def lend(self, unit: str) -> None:
        """In the fork server: have a room for a unit that is about to be forked. Raises OSError."""
        self._rooms.lend(unit)

    def settle(self, unit: str) -> None:
        """In the unit, before anything else runs in it. Raises OSError."""
        self._rooms.enter(unit)
        os.chdir(self._place)
        self._scope.enter()
        self._scope.close()
        self._capabilities.drop_others()

    def forked(self, unit: str, returns: bool) -> None:
        """In the fork server. `returns`: the unit will soon end, and another may have its room."""
        self._rooms.forked(unit, returns)

    def take_back(self, unit: str, units: Collection[int]) -> None:
        """In the fork server: the unit has ended, or was never forked. `units`: the pids of those that live."""
        self._rooms.take_back(unit, units)

    @property
    def is_short(self) -> bool:
        """Whether the next unit would have to wait for what `prepare` makes."""
        return self._rooms.is_short

    def prepare(self) -> None:
        """In the fork server, while it has nothing to do."""
        self._rooms.prepare()


class Links:
    """`code` as for Tidy."""

    def __init__(self, spec: Isolation, code: str | None, keeps_tmpdir: bool = False) -> None:
        self._spec = spec
        self._code = code
        self._keeps_tmpdir = keeps_tmpdir

    def enter(self) -> None:
        """The import has the machine's folder for temporary files."""

    def imported(self) -> None:
        """Units link to the code itself."""

    def lend(self, unit: str) -> None:
        """A unit makes its folder itself."""

    def forked(self, unit: str, returns: bool) -> None:
        """Nothing is handed on."""

    def take_back(self, unit: str, units: Collection[int]) -> None:
        """The agent removes the folder."""

    is_short = False
    """There is nothing to be made ahead."""

    def prepare(self) -> None:
        """Never called."""

    def settle(self, unit: str) -> None:
        """In the unit, before anything else runs in it. Raises OSError."""
        folder = f"{self._spec.work}/{unit}"
        for name in ("", "/code", "/tmp"):
            os.mkdir(folder + name, 0o700)
        if self._code is not None:
            for entry in os.listdir(self._code):
                os.symlink(f"{self._code}/{entry}", f"{folder}/code/{entry}")
            os.chdir(f"{folder}/code")
        if not self._keeps_tmpdir and len(folder) <= _LONGEST_TEMPORARY:
            _use_temporary(f"{folder}/tmp")


def of(spec: Isolation | None, pool: PoolSpec) -> Tidy | Links | None:
    """What isolates the units of a pool; None where nothing does."""
    if spec is None:
        return None
    code = pool.root if pool.bundle else None
    if spec.profile == "tidy":
        return Tidy(spec, code, "TMPDIR" in pool.env, pool.secret_files)
    return Links(spec, code, "TMPDIR" in pool.env)


def failure(error: OSError) -> ErrorInfo:
    """Why a process could not be prepared: whatever waits for it is tried again."""
    return ErrorInfo(code="WorkerLostError", message=f"a process could not be prepared: {error}", kind="system")


def _use_temporary(folder: str) -> None:
    """Have `tempfile` and everybody else use `folder`. What would be compiled anew in each is kept where it was."""
    before = tempfile.gettempdir()
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", f"{before}/torchinductor_{os.getuid()}")
    os.environ["TMPDIR"] = folder
    tempfile.tempdir = None


def _filled(folder: str) -> list[str]:
    """The folder, if there is anything in it."""
    return [folder] if os.listdir(folder) else []


def _make_place(path: str, fd: int) -> None:
    """Something empty of the same kind, to mount on."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.isdir(f"/proc/self/fd/{fd}"):
        os.makedirs(path, exist_ok=True)
    else:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))


# ------------------------------------------------------------------------------------------------------------- a probe


def probe(folder: str) -> bool:
    """Try `tidy` on the empty folder `folder`, as if that were the platform's. Whether signals are kept in, too.

    Raises OSError for what the machine does not let us do. The caller removes the folder.
    """
    for name in ("code/bundle", "work", "run/link"):
        os.makedirs(f"{folder}/{name}")
    code, work = f"{folder}/code/bundle", f"{folder}/work"
    spec = Isolation("tidy", home=folder, kept=["code", "work"], link=f"{folder}/run/link", work=work, own=f"{work}/z")
    with open(f"{code}/file", "w") as file:
        file.write("before")
    fork_server = Tidy(spec, code)
    fork_server.enter()
    fork_server.imported()
    _try_unit(fork_server, f"{code}/file")
    with open(f"{code}/file") as file:
        if file.read() != "before":
            raise OSError("what a process writes into its overlay is seen by others")
    return fork_server.keeps_signals


def _try_unit(fork_server: Tidy, file: str) -> None:
    fork_server.lend("unit")
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            fork_server.settle("unit")
            with open(file, "a") as output:
                output.write("after")
        except OSError as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as said:
        problem = said.read().decode()
    os.waitpid(pid, 0)
    fork_server.take_back("unit", ())
    if problem:
        raise OSError(problem)


def main() -> None:
    """`python -P -m flyte.runtime.isolation FOLDER`: exits with the reason where `tidy` cannot be had."""
    try:
        print("kept" if probe(sys.argv[1]) else "free")
    except OSError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
