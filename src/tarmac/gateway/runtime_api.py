"""HAProxy's runtime API: commands and answers over its unix socket, and the reload over the master's.

Each batch of commands has its own connection: after a reload the path leads to the new worker, while an old connection
would lead to the old worker for as long as that has open WebSockets. In the interactive mode every answer ends with a
prompt, which separates it from the next answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tarmac.gateway.routes import MAPS, Server
from tarmac.gateway.shape import AGAIN
from tarmac.gateway.steps import AddServer, DeleteServer, Present, Step

ANSWER_TIMEOUT = 5.0
"""Seconds for one answer; HAProxy gives it within a millisecond."""

RELOAD_TIMEOUT = 15.0
_LONGEST_COMMAND = 8_000
"""Bytes; HAProxy's buffer has 16 KiB, and HAProxy closes the connection on a longer command."""
_PROMPT = b"\n> "
_ANSWER_LIMIT = 64 * 1024 * 1024
_TRAFFIC = "show stat -1 2 -1"
"""Of all proxies those that are backends, without their servers."""
_IN_MAINTENANCE = 0x01 | 0x02 | 0x04 | 0x20
"""Bits of srv_admin_state: forced, inherited, by configuration, by resolution."""


class HAProxyAway(ConnectionError):
    """Raised when HAProxy does not answer on its socket: it is being restarted, or was not started yet."""


class Refused(RuntimeError):
    """Raised when HAProxy refuses a command."""

    def __init__(self, command: str, answer: str) -> None:
        super().__init__(f"HAProxy refused `{command[:300]}`: {answer[:300]}")
        self.command, self.answer = command, answer


class ReloadFailed(RuntimeError):
    """Raised when HAProxy refuses the new configuration; it goes on with the old one."""


_TRAFFIC_COLUMNS = 8


@dataclass(frozen=True, slots=True)
class Info:
    """The worker's pid, and the digest of the configuration it runs with."""

    pid: int
    shape: str


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests to one slot. WebSockets and answers that are still being sent count as open, idle connections do not."""

    open: int
    total: int


class Session:
    """One connection to the runtime API."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, command: str) -> str:
        """The answer to one command. Raises HAProxyAway where there is none."""
        if "\n" in command or ";" in command:
            raise ValueError(f"this is more than one command: {command!r}")
        try:
            self._writer.write(command.encode() + b"\n")
            async with asyncio.timeout(ANSWER_TIMEOUT):
                answer = await self._reader.readuntil(_PROMPT)
        except (OSError, EOFError, TimeoutError) as error:
            raise HAProxyAway(f"no answer to `{command}`: {error or type(error).__name__}") from error
        return answer[: -len(_PROMPT)].decode(errors="replace").strip()

    async def take(self, step: Step) -> None:
        """Carry out one step. Raises Refused, also when the text is not exactly one command."""
        if len(step.command.encode(errors="replace")) > _LONGEST_COMMAND:
            raise Refused(step.command, f"a command has {_LONGEST_COMMAND:,} bytes at most")
        answer = await self.ask(step.command)
        if answer != _EXPECTED.get(type(step), ""):
            raise Refused(step.command, answer)

    async def delete_idle(self, step: DeleteServer) -> bool:
        """Delete a closed server; False while it has connections. Raises Refused for any other reason."""
        try:
            await self.take(step)
        except Refused as refused:
            if "still has" in refused.answer:
                return False
            raise
        return True

    async def info(self) -> Info:
        rows = dict(line.partition(": ")[::2] for line in (await self.ask("show info")).splitlines())
        return Info(int(rows["Pid"]), rows.get("description", ""))

    async def traffic(self) -> dict[int, Traffic]:
        """Slot → its requests since this worker started."""
        return _traffic(await self.ask(_TRAFFIC))

    async def present(self) -> Present:
        """HAProxy's current state, as far as the gateway ever changes it."""
        return Present(
            maps={name: _entries(await self.ask(f"show map {name}")) for name in MAPS},
            servers=_servers(await self.ask("show servers state")),
        )


_EXPECTED: dict[type, str] = {AddServer: "New server registered.", DeleteServer: "Server deleted."}
"""HAProxy's answer to a command that succeeded; other commands have an empty answer."""


@asynccontextmanager
async def session(path: Path) -> AsyncIterator[Session]:
    """A connection to the runtime API at `path`. Raises HAProxyAway where nobody listens."""
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            reader, writer = await asyncio.open_unix_connection(str(path), limit=_ANSWER_LIMIT)
    except (OSError, TimeoutError) as error:
        raise HAProxyAway(f"{path}: {error or type(error).__name__}") from error
    try:
        opened = Session(reader, writer)
        await opened.ask("prompt")
        yield opened
    finally:
        writer.close()


async def old_workers(master: Path) -> list[int]:
    """The pids of workers that a reload replaced and that still have connections.

    Raises HAProxyAway where no master listens.
    """
    _, _, old = (await _tell(master, "show proc")).partition("# old workers")
    words = (line.split() for line in old.partition("# programs")[0].splitlines())
    return [int(row[0]) for row in words if row]


async def old_traffic(master: Path, worker: int) -> dict[int, Traffic]:
    """The same as `Session.traffic` for a worker that was replaced; empty when it is gone."""
    said = await asking_old(master, worker)(_TRAFFIC)
    return _traffic(said) if said.startswith("#") else {}


def asking_old(master: Path, worker: int) -> Callable[[str], Awaitable[str]]:
    """A function that sends one command to a worker that was replaced. It raises HAProxyAway."""
    return lambda command: _tell(master, f"@!{worker} {command}")


async def _tell(master: Path, command: str) -> str:
    """One command for the master and its answer. Raises HAProxyAway."""
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            reader, writer = await asyncio.open_unix_connection(str(master))
            try:
                writer.write(command.encode() + b"\n")
                writer.write_eof()  # else it waits for more
                return (await reader.read()).decode(errors="replace")
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        raise HAProxyAway(f"{master}: {error or type(error).__name__}") from error


async def reload(master: Path) -> None:
    """Have the master start a new worker with the present files, and return when it serves.

    Raises ReloadFailed, with HAProxy's message, when it refuses the files; HAProxyAway when no master listens.
    """
    try:
        async with asyncio.timeout(RELOAD_TIMEOUT):
            reader, writer = await asyncio.open_unix_connection(str(master))
            try:
                writer.write(b"reload\n")
                said = (await reader.read()).decode(errors="replace")
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        raise HAProxyAway(f"{master}: {error or type(error).__name__}") from error
    success, _, log = said.partition("\n")
    if success.strip() != "Success=1":
        raise ReloadFailed(f"HAProxy keeps its old configuration, since it refused the new one: {log.strip() or said}")


def _traffic(answer: str) -> dict[int, Traffic]:
    """The lines of `show stat`, for the backends of slots alone."""
    lines = answer.splitlines()
    columns = lines[0].removeprefix("# ").split(",", _TRAFFIC_COLUMNS)
    open_, total = columns.index("scur"), columns.index("stot")
    found = {}
    for line in lines[1:]:
        row = line.split(",", _TRAFFIC_COLUMNS)  # there are a hundred more, and a thousand lines
        slot = row[0].removeprefix("p")
        if slot.isdigit():
            found[int(slot)] = Traffic(int(row[open_]), int(row[total]))
    return found


def _entries(answer: str) -> dict[str, str]:
    """The lines `address key value` of `show map`."""
    words = (line.split(" ", 2) for line in answer.splitlines())
    return {row[1]: row[2] if len(row) > 2 else "" for row in words if len(row) > 1}  # a value may be empty


def _servers(answer: str) -> dict[int, dict[str, Server]]:
    """The lines of `show servers state`, for the backends of slots alone."""
    lines = [line for line in answer.splitlines() if line and line != "1"]
    columns = lines[0].removeprefix("# ").split(" ")
    found: dict[int, dict[str, Server]] = {}
    for line in lines[1:]:
        row = dict(zip(columns, line.split(" "), strict=False))
        slot = row["be_name"].removeprefix("p")
        if not slot.isdigit():
            continue
        servers = found.setdefault(int(slot), {})
        if row["srv_name"] != AGAIN:
            host = f"[{row['srv_addr']}]" if ":" in row["srv_addr"] else row["srv_addr"]
            is_open = not int(row["srv_admin_state"]) & _IN_MAINTENANCE
            servers[row["srv_name"]] = Server(f"{host}:{row['srv_port']}", None, is_open)
    return found
