"""What lies in a container image: an interpreter and an environment at places of their own, and what these need.

/opt/flyte/python         the interpreter with its library, moved there: CPython finds its library beside itself
/opt/flyte/environment    the environment, a virtual environment of that interpreter
/opt/flyte/ours/flyte     our own package; a .pth file of the environment leads there
/usr/lib, /usr/bin, /etc  shared libraries of this machine, a shell, certificates, time zones

Python's tests and compiled files stay out; so does what differs from one build to the next.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tarmac.environments import overlay
from tarmac.environments.interpreters import Interpreter
from tarmac.oci import ContainerFailed
from tarmac.oci.layers import Entry, file_entry

PYTHON = "opt/flyte/python"
ENVIRONMENT = "opt/flyte/environment"
OURS = "opt/flyte/ours"

CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"

_LINKED_AT_ONCE = 200
"""Files that one `ldd` is asked about."""

_LINK_LIMIT = 120.0
"""Seconds that one `ldd` may take."""

_TOOLS = ("sh", "env", "dirname", "realpath")
"""The commands that the scripts of an environment start with, and a shell for a person who looks into a container."""

_BY_NAME = (
    *("libgcc_s.so.1", "libnss_dns.so.2", "libnss_files.so.2", "libresolv.so.2"),
    *("libdl.so.2", "libm.so.6", "libpthread.so.0", "librt.so.1", "libutil.so.1"),
)
"""Libraries that the C library opens by their names while a program runs, and those of the C library itself, to which
packages for many systems are linked.
"""

_CERTIFICATES_HERE = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")

_NOT_OF_PYTHON = re.compile(
    r"(^|/)(test|tests|idlelib|turtledemo|tkinter|__pycache__|site-packages|dist-packages|config-3[^/]*)/"
    r"|(^|/)(_tkinter[^/]*\.so|EXTERNALLY-MANAGED|[^/]*\.pyc|[^/]*\.a)$"
)
_NOT_OF_AN_ENVIRONMENT = re.compile(
    r"(^|/)__pycache__/|\.pyc$|^(\.whole|\.used|\.lock|\.gitignore|CACHEDIR\.TAG|indexes\.txt|pyvenv\.cfg)$"
    r"|^bin/(python[0-9.]*|activate[^/]*|deactivate[^/]*)$|\.dist-info/uv_cache\.json$"
    rf"|/{re.escape(overlay.PTH)}$|/flyte-[^/]*\.dist-info/$"
)
_NOT_OF_TIME_ZONES = re.compile(r"^(posix|right)/$")
"""The same zones once more."""

_PASSWD = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"
_GROUP = "root:x:0:\nnobody:x:65534:\n"
_NSSWITCH = "passwd: files\ngroup: files\nhosts: files dns\n"

_QUESTION = "import json, sys, sysconfig; print(json.dumps([sysconfig.get_path('stdlib'), sys.platlibdir]))"


@dataclass(frozen=True, slots=True)
class Libraries:
    """What programs are linked to."""

    of_system: tuple[str, ...]
    """Paths as the programs name them, below /lib and /usr/lib."""
    elsewhere: tuple[str, ...]
    """Paths in other folders: those of an interpreter that somebody installed by hand."""
    missing: tuple[str, ...]
    """Names that this machine does not have."""


def libraries(programs: Iterable[Path]) -> Libraries:
    """The shared libraries of these programs and libraries, by `ldd`. Raises ContainerFailed where there is none."""
    found: set[str] = set()
    missing: set[str] = set()
    files = sorted({os.path.realpath(path) for path in programs})
    for first in range(0, len(files), _LINKED_AT_ONCE):
        said = _ldd(files[first : first + _LINKED_AT_ONCE])
        found |= set(re.findall(r"(?m)(?:=> |^\s+)(/\S+) \(0x", said))
        missing |= set(re.findall(r"(?m)^\s+(\S+) => not found", said))
    of_system = {path for path in found if re.match(r"(/usr)?/lib(32|64)?/", path)}
    return Libraries(tuple(sorted(of_system)), tuple(sorted(found - of_system)), tuple(sorted(missing)))


def _ldd(files: list[str]) -> str:
    try:  # its exit code says only that some of them are linked statically
        return subprocess.run(["ldd", *files], capture_output=True, text=True, timeout=_LINK_LIMIT).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ContainerFailed(
            f"ldd cannot say which libraries the image needs ({error}); give a base by --base"
        ) from None


# ------------------------------------------------------------------------------------------------------------ the parts


def interpreter(python: Interpreter) -> dict[str, Entry]:
    """The interpreter and its standard library."""
    stdlib, libdir = _asked(python)
    minor = f"{python.minor[0]}.{python.minor[1]}"
    found = {
        f"{PYTHON}/bin/python{minor}": Entry(source=Path(python.path), is_executable=True),
        f"{PYTHON}/bin/python3": Entry(link=f"python{minor}"),
        f"{PYTHON}/bin/python": Entry(link=f"python{minor}"),
    }
    library = {f"{PYTHON}/{libdir}/python{minor}/{name}": entry for name, entry in _tree(Path(stdlib), _NOT_OF_PYTHON)}
    return {**found, **library}


def _asked(python: Interpreter) -> tuple[str, str]:
    """Where its standard library is, and what the folder of libraries is called."""
    done = subprocess.run([python.path, "-I", "-S", "-c", _QUESTION], capture_output=True, text=True, timeout=30)
    try:
        stdlib, libdir = json.loads(done.stdout)
    except ValueError:
        raise ContainerFailed(f"{python.path} does not say where its library is: {done.stderr}") from None
    return str(stdlib), str(libdir)


def environment(folder: Path, python: Interpreter, interpreter_path: str) -> dict[str, Entry]:
    """The environment, for an interpreter at that absolute path in the image."""
    tree = _tree(folder, _NOT_OF_AN_ENVIRONMENT)
    found = {f"{ENVIRONMENT}/{name}": _without_traces(name, entry) for name, entry in tree}
    config = (
        f"home = {posixpath.dirname(interpreter_path)}\nimplementation = CPython\nversion_info = {python}\n"
        "include-system-site-packages = false\nrelocatable = true\n"
    )
    return {
        **found,
        f"{ENVIRONMENT}/pyvenv.cfg": Entry(content=config.encode()),
        f"{ENVIRONMENT}/bin/python": Entry(link=interpreter_path),
        f"{ENVIRONMENT}/bin/python3": Entry(link="python"),
        f"{ENVIRONMENT}/bin/python{python.minor[0]}.{python.minor[1]}": Entry(link="python"),
    }


def _without_traces(name: str, entry: Entry) -> Entry:
    """A package's list of its files, without the one in which uv notes when it was installed."""
    if not name.endswith(".dist-info/RECORD") or entry.source is None:
        return entry
    lines = entry.source.read_bytes().splitlines(keepends=True)
    return Entry(content=b"".join(line for line in lines if b".dist-info/uv_cache.json," not in line))


def ours(python: Interpreter) -> dict[str, Entry]:
    """Our own package, and what leads the environment to it."""
    package = overlay.package()
    found = {f"{OURS}/flyte/{file.relative_to(package)}": file_entry(file) for file in overlay.files(package)}
    site = f"{ENVIRONMENT}/lib/python{python.minor[0]}.{python.minor[1]}/site-packages"
    metadata = {name: Entry(content=text.encode()) for name, text in overlay.METADATA_FILES.items()}
    return {
        **{path: Entry(source=entry.source) for path, entry in found.items()},
        **{f"{site}/{overlay.INFO}/{name}": entry for name, entry in metadata.items()},
        f"{site}/{overlay.PTH}": Entry(content=f"/{OURS}\n".encode()),
    }


def system(needed: Libraries) -> dict[str, Entry]:
    """What every program needs of a system: its libraries, a shell, certificates, time zones, names of users."""
    folders = ("dev", "home", "proc", "root", "run", "sys", "tmp", "usr/bin", "usr/lib", "usr/lib64", "var/tmp")
    found = {
        **{path: Entry(is_folder=True) for path in folders},
        **{name: Entry(link=f"usr/{name}") for name in ("bin", "lib", "lib64")},
        **{_below_usr(path): file_entry(Path(path)) for path in [*needed.of_system, *_opened_by_name(needed)]},
        **{f"usr/bin/{path.name}": file_entry(path) for path in tools()},
        **_zones(),
        "etc/passwd": Entry(content=_PASSWD.encode()),
        "etc/group": Entry(content=_GROUP.encode()),
        "etc/nsswitch.conf": Entry(content=_NSSWITCH.encode()),
    }
    certificates = next((Path(path) for path in _CERTIFICATES_HERE if os.path.exists(path)), None)
    return found if certificates is None else {**found, CERTIFICATES: Entry(source=certificates)}


def libraries_of_the_interpreter(needed: Libraries, folder: Path) -> dict[str, Entry]:
    """Its own libraries, beside it; those of packages are within the environment `folder`."""
    own = [path for path in needed.elsewhere if not Path(os.path.realpath(path)).is_relative_to(folder.resolve())]
    return {f"{PYTHON}/lib/{posixpath.basename(path)}": file_entry(Path(path)) for path in own}


def tools() -> list[Path]:
    return [path for name in _TOOLS if (path := Path("/usr/bin") / name).exists()]


def programs(entries: Mapping[str, Entry]) -> Iterator[Path]:
    """The programs and libraries among these files."""
    for path, entry in entries.items():
        is_library = ".so" in posixpath.basename(path)
        if entry.source is not None and (is_library or entry.is_executable) and _is_program(entry.source):
            yield entry.source


def _is_program(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _opened_by_name(needed: Libraries) -> list[str]:
    beside = {posixpath.dirname(path) for path in needed.of_system if posixpath.basename(path).startswith("libc.so")}
    return [path for folder in sorted(beside) for name in _BY_NAME if os.path.exists(path := f"{folder}/{name}")]


def _below_usr(path: str) -> str:
    """/lib is a link to /usr/lib in the image, whatever it is on this machine."""
    return path[1:] if path.startswith("/usr/") else f"usr{path}"


def _zones() -> dict[str, Entry]:
    root = Path("/usr/share/zoneinfo")
    if not root.is_dir():
        return {}
    return {f"usr/share/zoneinfo/{name}": entry for name, entry in _tree(root, _NOT_OF_TIME_ZONES)}


def _tree(root: Path, left_out: re.Pattern[str]) -> Iterator[tuple[str, Entry]]:
    """All files and links below a folder; a link that leads outside of it is what it leads to.

    Paths that `left_out` finds are not looked at; those of folders end with `/`.
    """
    whole = os.path.realpath(root)
    folders = [""]
    while folders:
        folder = folders.pop()
        for found in os.scandir(os.path.join(root, folder)):
            name = f"{folder}{found.name}"
            if found.is_dir(follow_symlinks=False):
                if not left_out.search(f"{name}/"):
                    folders.append(f"{name}/")
            elif not left_out.search(name):
                leads_to = os.path.realpath(found.path) if found.is_symlink() else ""
                if leads_to.startswith(f"{whole}/"):
                    yield name, Entry(link=os.path.relpath(leads_to, os.path.join(whole, folder)))
                elif found.is_file():  # no link that leads nowhere or to a folder, no socket
                    yield name, file_entry(Path(found.path))
