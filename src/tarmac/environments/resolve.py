"""Requirements become a lock: exact versions with their hashes, for one interpreter.

A worker's needs go loosely into the same resolution, so that the user's pins win. What Flyte's own images have, and
programs import without naming it, is added where it fits, and left out where it does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flyte.distributions import COURTESY, FOR_APPS, MUST, NEVER_INSTALLED, SHOULD
from flyte.wire import ImageRequest
from tarmac.environments import wheels
from tarmac.environments.interpreters import Interpreter
from tarmac.environments.uv import Uv, UvFailed, apart_from_secrets, in_braces, in_uvs_words
from tarmac.images import name_of

OFFERED = (*MUST, *SHOULD, *FOR_APPS, "click", "h11")
"""What the platform's own Python does not have to fetch: it is installed beside it, with all that it needs."""


FOR_PLUGINS = ("flyteidl2", "msgpack")
"""What plugins of Flyte's import and leave to the official `flyte` to bring."""

PLUGIN = "flyteplugins-"
"""How the names of plugins begin."""


class Resolver:
    """`folder`: where files for uv are put. `offered`: a folder for wheels of what workers need."""

    def __init__(self, uv: Uv, request: ImageRequest, interpreter: Interpreter, folder: Path, offered: Path) -> None:
        self._uv = uv
        self._request = request
        self._interpreter = interpreter
        self._folder = folder
        self._offered = offered
        self._options, self._indexes = apart_from_secrets(in_uvs_words(request.options), uv.secrets)
        self.notes: list[str] = []

    def lock(self) -> str:
        """Raises UvFailed with what uv says of the user's own requirements."""
        tries = self._tries()
        for needs in tries[:-1]:
            try:
                return self._compiled(needs)
            except UvFailed as error:
                if not error.is_unsolvable:
                    raise
                left_out = sorted(set(tries[0]) - set(tries[tries.index(needs) + 1]))
                self.notes = [f"left out, since the image's packages do not allow them all: {', '.join(left_out)}"]
        return self._compiled(tries[-1])

    def _tries(self) -> list[tuple[str, ...]]:
        """What is added to the user's requirements, from all that is welcome to what must be."""
        apps = (*(FOR_APPS if self._request.for_app else ()), *(FOR_PLUGINS if self._has_plugins() else ()))
        least = [(*MUST, *SHOULD, *apps), (*MUST, *apps), *([MUST] if apps else [])]
        return [(*least[0], *COURTESY), *least] if self._request.install_flyte else least

    def _has_plugins(self) -> bool:
        return any(name_of(line).startswith(PLUGIN) for line in self._request.packages)

    def _compiled(self, needs: Sequence[str]) -> str:
        """The lock with these needs; from what this machine has where no index can be reached."""
        arguments, given = self._arguments(), self._requirements(needs)
        try:
            return self._uv.run(*arguments, given=given)
        except UvFailed as error:
            if not error.is_network:
                raise
            online = error
        try:
            lock = self._uv.run(*arguments, "--offline", given=given)
        except UvFailed as error:
            raise (error if error.is_unsolvable and self._was_offline(online) else online) from None
        self.notes.append("the index cannot be reached: it is made of what this machine has")
        return lock

    @staticmethod
    def _was_offline(error: UvFailed) -> bool:
        return "network was disabled" in error.whole

    def _requirements(self, needs: Sequence[str]) -> str:
        """One requirement a line, without what is never installed."""
        wanted = [line for line in self._request.packages if name_of(line) not in NEVER_INSTALLED]
        return "\n".join([*self._indexes, *(in_braces(line, self._uv.secrets) for line in wanted), *needs, ""])

    def _arguments(self) -> list[str]:
        wheels.offer(tuple(map(name_of, OFFERED)), self._offered)
        return [
            *("pip", "compile", "-", "--python", self._interpreter.path, "--find-links", str(self._offered)),
            *(
                "--excludes",
                self._file("excludes", NEVER_INSTALLED),
                "--constraints",
                self._file("constraints", self._allowed()),
            ),
            *(("--overrides", self._file("overrides", self._request.overrides)) if self._request.overrides else ()),
            *("--generate-hashes", "--no-header", "--no-annotate", "--quiet", *self._options),
        ]

    def _allowed(self) -> list[str]:
        return [line for line in self._request.constraints if name_of(line) not in NEVER_INSTALLED]

    def _file(self, name: str, lines: Sequence[str]) -> str:
        path = self._folder / f"{name}.txt"
        path.write_text("\n".join([*lines, ""]))
        return str(path)
