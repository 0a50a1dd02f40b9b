"""Running uv: where it is, what it is told of indexes and certificates, and what it says when it fails.

uv's own configuration holds as it does for the user: its variables, netrc, and its files, but for those of a project.
It does not read pip's configuration and does not trust the system's certificates by itself: both are passed on.
"""

from __future__ import annotations

import configparser
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tarmac import process

TAIL_LINES = 20
"""Of what uv says more than that, the reason stands at the end: a package's own build may print a thousand lines."""

_NETWORK = re.compile(
    r"error sending request|dns error|tcp connect error|connection refused|Request failed after|timed out|"
    r"Could not connect|network was disabled|Failed to fetch",
    re.IGNORECASE,
)
_OF_OTHERS = ("VIRTUAL_ENV", "PYTHON", "CONDA_", "TARMAC_", "FLYTE_", "UV_PROJECT", "UV_PYTHON")


class UvFailed(Exception):
    """`str()` is what uv said, its last lines where it said much."""

    def __init__(self, text: str, was_killed: bool = False) -> None:
        lines = text.strip().removeprefix("error: ").splitlines()
        left_out = len(lines) - TAIL_LINES
        head = [f"… ({left_out} lines before; the build log has all of them)"] if left_out > 0 else []
        super().__init__("\n".join([*head, *lines[-TAIL_LINES:]]))
        self.whole = text
        self.was_killed = was_killed

    @property
    def is_network(self) -> bool:
        """Whether it could not reach an index, so that another time it may do better."""
        return bool(_NETWORK.search(self.whole))

    @property
    def is_passing(self) -> bool:
        """Whether nobody has said that the requirements are to blame, so that another time it may do better."""
        return self.was_killed or self.is_network or "No space left on device" in self.whole

    @property
    def is_unsolvable(self) -> bool:
        """Whether the requirements contradict each other, or name what is nowhere."""
        return "No solution found" in self.whole


def find_uv() -> str:
    """The program. Raises UvFailed where it is not installed."""
    try:
        import uv
    except ImportError:
        raise UvFailed("uv is not installed; install it beside the platform: pip install uv") from None
    try:
        return uv.find_uv_bin()
    except FileNotFoundError as error:
        raise UvFailed(
            f"uv's program is missing ({error}); install it again: pip install --force-reinstall uv"
        ) from None


@dataclass(slots=True)
class Uv:
    """`folder`: its working directory. `secrets`: variables that its files may name.

    `deadline`: on the monotonic clock.
    """

    folder: Path
    secrets: Mapping[str, str]
    deadline: float
    log: list[str]
    """Everything that was run, and what it said."""

    def run(self, *arguments: str, given: str | None = None) -> str:
        """What it prints on stdout. Raises UvFailed."""
        begun = time.monotonic()
        running = subprocess.Popen(
            [find_uv(), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**environment(), **self.secrets},
            cwd=self.folder,
            preexec_fn=process.dies_with_me(),  # the builder has one thread
        )
        try:
            out, said = running.communicate(given, timeout=max(0.1, self.deadline - begun))
        except subprocess.TimeoutExpired:
            running.kill()
            running.communicate()
            raise UvFailed(f"uv {' '.join(arguments[:2])} was not done in time (setting image_timeout)") from None
        said = self._masked(said)
        self.log.append(f"$ uv {' '.join(arguments)}  ({time.monotonic() - begun:.2f} s)\n{given or ''}{said}")
        if running.returncode < 0:
            by = signal.strsignal(-running.returncode) or f"signal {-running.returncode}"
            raise UvFailed(f"{said}\nuv {' '.join(arguments[:2])} was killed: {by}", was_killed=True)
        if running.returncode != 0:
            raise UvFailed(said or f"uv ended with code {running.returncode}")
        return out

    def _masked(self, said: str) -> str:
        """What uv or a package's build printed, without the values of secrets."""
        for name, value in self.secrets.items():
            said = said.replace(value, f"${{{name}}}") if value else said
        return said


def environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables for uv: the user's own, what pip is told of indexes, and what a builder wants of it."""
    marks = (process.MARK, process.UNIT_MARK)  # by which what a killed agent left is found
    own = {name: value for name, value in environ.items() if name in marks or not name.startswith(_OF_OTHERS)}
    defaults = {"UV_SYSTEM_CERTS": "1", "UV_HTTP_RETRIES": "1", **_as_pip(environ)}
    wanted = {"UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}
    return {**defaults, **own, **wanted}


def _as_pip(environ: Mapping[str, str]) -> dict[str, str]:
    """pip's indexes in uv's words, unless uv has been told of some."""
    if any(name in environ for name in ("UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_FIND_LINKS")):
        return {}
    told = pip_settings(environ)
    found = {}
    if index := told.get("index-url"):
        found["UV_DEFAULT_INDEX"] = index
    if more := told.get("extra-index-url"):
        found["UV_INDEX"] = " ".join(more.split())
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # as pip does: the best version, whichever index has it
    if links := told.get("find-links"):
        found["UV_FIND_LINKS"] = ",".join(links.split())
    if (cert := told.get("cert")) and "SSL_CERT_FILE" not in environ:
        found["SSL_CERT_FILE"] = cert
    if hosts := told.get("trusted-host"):
        found["UV_INSECURE_HOST"] = " ".join(hosts.split())
    return found


def pip_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """What pip's files and variables say, by the names of its options."""
    found: dict[str, str] = {}
    for file in _pip_files(environ):
        parser = configparser.RawConfigParser()
        try:
            parser.read(file, encoding="utf-8")
        except (OSError, configparser.Error, UnicodeDecodeError):
            continue  # pip complains of it
        for section in ("global", "install"):
            if parser.has_section(section):
                found |= {name.replace("_", "-"): value for name, value in parser.items(section)}
    for name in ("index-url", "extra-index-url", "find-links", "trusted-host", "cert"):
        if value := environ.get(f"PIP_{name.upper().replace('-', '_')}"):
            found[name] = value
    return found


def _pip_files(environ: Mapping[str, str]) -> Iterator[str]:
    """In pip's order: of two that say something of the same option the later one holds."""
    named, home = environ.get("PIP_CONFIG_FILE", ""), environ.get("HOME") or os.path.expanduser("~")
    if named == os.devnull:
        return
    folders = (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep)
    yield from (f"{folder}/pip/pip.conf" for folder in folders)
    yield "/etc/pip.conf"
    yield f"{home}/.pip/pip.conf"
    yield f"{environ.get('XDG_CONFIG_HOME') or f'{home}/.config'}/pip/pip.conf"
    yield f"{sys.prefix}/pip.conf"
    if named:
        yield named


SOURCES = {
    "--index-url": True,
    "--default-index": True,
    "--extra-index-url": True,
    "--index": True,
    "--find-links": True,
    "--index-strategy": True,
    "--keyring-provider": True,
    "--allow-insecure-host": True,
    "--no-index": False,
    "--offline": False,
}
"""Options for where packages come from, and whether each has a value: these hold when packages are installed, too."""

_IN_FILES = {
    "--default-index": "--index-url",
    "--index-url": "--index-url",
    "--index": "--extra-index-url",
    "--extra-index-url": "--extra-index-url",
    "--find-links": "--find-links",
}
"""Options whose values are URLs, and their names in a requirements file."""

WITHOUT_MEANING = {
    "--system",
    "--break-system-packages",
    "--force-reinstall",
    "--reinstall",
    "--upgrade",
    "-U",
    "--no-cache",
    "--no-cache-dir",
    "--quiet",
    "-q",
    "--verbose",
    "-v",
    "--compile",
    "--compile-bytecode",
    "--root-user-action=ignore",
    "--disable-pip-version-check",
    "--no-warn-script-location",
    "--prefer-binary",
}
"""Options of an installation into something that is there already; an environment is made from nothing."""

_OTHER_NAMES = {
    "-i": "--index-url",
    "-f": "--find-links",
    "--trusted-host": "--allow-insecure-host",
    "--pre": "--prerelease=allow",
}


def in_uvs_words(options: Iterable[str]) -> list[str]:
    """pip's and uv's options as `uv pip compile` takes them."""
    kept = (option for option in options if option not in WITHOUT_MEANING)
    return [_OTHER_NAMES.get(option, option) for option in kept]


def sources(options: Iterable[str]) -> list[str]:
    """Those of `options` (in uv's words) that say where packages come from."""
    found: list[str] = []
    words = iter(options)
    for word in words:
        name, equals, _ = word.partition("=")
        if name in SOURCES:
            found.append(word)
            if SOURCES[name] and not equals:
                found += [value for value in [next(words, None)] if value is not None]
    return found


def apart_from_secrets(options: Iterable[str], secrets: Iterable[str]) -> tuple[list[str], list[str]]:
    """The options for uv's command line, and the indexes that name a secret, as lines of a requirements file.

    Every process of the machine can read a command line, and the build log has it. In a file uv replaces `${NAME}`.
    """
    names = set(secrets)
    shown: list[str] = []
    lines: list[str] = []
    words = iter(options)
    for word in words:
        name, equals, value = word.partition("=")
        if name not in _IN_FILES:
            shown.append(word)
            continue
        value = in_braces(value if equals else next(words, ""), names)
        if any(f"${{{secret}}}" in value for secret in names):
            lines.append(f"{_IN_FILES[name]} {value}")
        else:
            shown += [name, value]
    return shown, lines


def in_braces(text: str, names: Iterable[str]) -> str:
    """`$NAME` of these names as `${NAME}`, which is how uv's files write it."""
    known = set(names)
    return re.sub(r"\$(\w+)", lambda found: f"${{{found[1]}}}" if found[1] in known else found[0], text)
