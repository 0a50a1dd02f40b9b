"""The code that is shipped: which files, and the archive that they make.

A bundle is a tar.gz that depends on nothing but the names, the contents and the execute bits of its files; its id is
the sha256 of its bytes. So the same code is sent once, ever, and a version that is derived from it stays the same.

`loaded_modules` ships what this process has imported from below the root folder, what those files import by name (an
`import` inside a function has not happened yet), and what the environments `include`. `all` ships the whole folder,
less what `ignore` keeps at home. Installed packages, the standard library and ourselves are never shipped.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import os
import sys
import sysconfig
import tarfile
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from flyte._ship import ignore as _ignore
from flyte._ship.import_statements import files_of, imports_of
from flyte.errors import CodeBundleError

CopyStyle = Literal["loaded_modules", "all", "none"]

LIMIT = 100 * 1024 * 1024
"""Bytes of a bundle above which it is refused: data does not travel with the code."""

MOST_FILES = 20_000
"""Files of a bundle above which it is refused; the platform unpacks no more (`flyte.archive.Limits`)."""

_OURS = Path(__file__).resolve().parents[1]
_NOT_SHIPPED = frozenset({"site-packages", "dist-packages", "__pycache__"})


@dataclass(frozen=True, slots=True)
class Bundle:
    digest: str
    """sha256 of `data`, in hex."""
    data: bytes
    names: tuple[str, ...]
    """The files in it, relative to the root, in order."""
    sys_path: tuple[str, ...] = ()
    """Folders in it that were on `sys.path` here, relative to the root."""


def build(
    root: Path,
    copy_style: CopyStyle = "loaded_modules",
    include: Iterable[Path] = (),
    sync_sys_path: bool = True,
    copied: Mapping[str, Path] | None = None,
) -> Bundle | None:
    """The bundle of the code below `root`, with the files in `include`; None for `copy_style="none"`.

    `copied` are files from anywhere with their names in the bundle; the code's own files come before them. Raises
    CodeBundleError when there is nothing to ship, a file to include is elsewhere, or the bundle is too large.
    """
    check_style(copy_style)
    if copy_style == "none":
        return None
    included, elsewhere = tuple(include), dict(copied or {})
    if copy_style == "all":
        root = root.resolve()
        files = elsewhere | everything(root) | _included(included, root)
        _warn_of_ignored(files, root)
        return _archived(root, files, sync_sys_path)
    key = (str(root), included, tuple(elsewhere.items()), sync_sys_path)
    known = _remembered.get(key)
    if known is None or not known.is_current():
        if len(_remembered) >= 8:
            _remembered.clear()
        known = _remembered[key] = _of_loaded(root.resolve(), included, elsewhere, sync_sys_path)
    return known.bundle


def _warn_of_ignored(files: Mapping[str, Path], root: Path) -> None:
    """Name each module below `root` that this process or its modules import, and that is not among `files`."""
    from flyte._declare.no_effect import say

    imported = {name: path for name, path in loaded(root).items() if name in files}
    left_out = sorted(set(_named(imported, root)[0]) - set(files))
    say(
        f"{name} is imported and is not shipped: {_why_left_out(name, root)}; name it in the environment, "
        f'include=["{name}"], or use copy_style="loaded_modules"'
        for name in left_out
    )


def _why_left_out(name: str, root: Path) -> str:
    for folder in Path(name).parents:
        if (root / folder).is_symlink() and folder.parts:
            return f"{folder} is a link to a folder, which is not followed"
    return "ignored by .gitignore or .flyteignore"


def _included(include: Iterable[Path], root: Path) -> dict[str, Path]:
    return {_below(path, root): path for path in include if "__pycache__" not in path.parts}


def _of_loaded(root: Path, include: Iterable[Path], copied: dict[str, Path], sync_sys_path: bool) -> Remembered:
    """The bundle of the modules that are loaded, and what it was made of."""
    before = _process()
    files = copied | loaded(root) | _included(include, root)
    named, folders = _named(files, root)
    files |= named
    stats = {str(path): _stat(str(path)) for path in files.values()}
    stats |= {folder: _stat(folder) for folder in folders}
    return Remembered(_archived(root, files, sync_sys_path), before, stats)


@dataclass(frozen=True, slots=True)
class Remembered:
    """A bundle, and what has to be as it was for the next one to be the same."""

    bundle: Bundle
    process: tuple[object, ...]
    stats: dict[str, tuple[int, ...] | None]
    """Of its files, and of the folders in which the modules that they import were looked for."""

    def is_current(self) -> bool:
        return self.process == _process() and all(_stat(path) == stat for path, stat in self.stats.items())


_remembered: dict[tuple[object, ...], Remembered] = {}
"""What was built last, by root folder, files to include and to copy, and whether `sys.path` goes along."""


def _process() -> tuple[object, ...]:
    """The modules that are loaded, and where modules are looked for."""
    return tuple(sys.modules), tuple(map(id, sys.modules.values())), tuple(sys.path), os.getcwd()


def _stat(path: str) -> tuple[int, ...] | None:
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_mode, stat.st_ino


def check_style(copy_style: str) -> None:
    if copy_style not in get_args(CopyStyle):
        raise ValueError(f"copy_style is {copy_style!r}; it is one of {', '.join(get_args(CopyStyle))}")


def loaded(root: Path) -> dict[str, Path]:
    """The files below `root` that this process has imported."""
    files: dict[str, Path] = {}
    for module in list(sys.modules.values()):
        file = getattr(module, "__dict__", {}).get("__file__")
        if isinstance(file, str) and (name := _own_name(os.path.abspath(file), str(root))) and os.path.isfile(file):
            files[name] = Path(os.path.abspath(file))
    return files


def everything(root: Path) -> dict[str, Path]:
    """The files below `root`, less those that stay at home."""
    if root == Path.home() or root.parent == root:
        warnings.warn(f"copy_style='all' ships all of {root}; pass root_dir= for a smaller folder", stacklevel=2)
    return {name: root / name for name in _ignore.files(root) if own_name(root / name, root)}


def own_name(file: Path, root: Path) -> str | None:
    """`file` relative to `root`, with `/`; None where it is elsewhere, or not the user's own."""
    return _own_name(os.path.abspath(file), str(root))


@functools.lru_cache(65536)
def _own_name(path: str, root: str) -> str | None:
    name = _name_below(path, root)
    return None if name is None or _is_foreign(os.path.dirname(path), root) else name


def _relative(path: Path, root: Path) -> str | None:
    """`path` relative to `root`, with `/`, as it is or with its links followed; None where it is elsewhere."""
    return _name_below(os.path.abspath(path), str(root))


def _name_below(path: str, root: str) -> str | None:
    prefix = root.rstrip(os.sep) + os.sep
    for place in (path, os.path.realpath(path)):
        if place.startswith(prefix):
            return place[len(prefix) :].replace(os.sep, "/")
    return None


@functools.cache
def _is_foreign(folder: str, root: str) -> bool:
    """Whether `folder` belongs to an installation: a package folder, a virtual environment, the stdlib, or us."""
    path = Path(folder)
    if path.is_relative_to(_OURS) or path.is_relative_to(_OURS.parent / "tarmac"):
        return True
    if any(path.is_relative_to(stdlib) for stdlib in _stdlib()):
        return True
    below = path.relative_to(root).parts if path.is_relative_to(root) else ()
    if _NOT_SHIPPED.intersection(below):
        return True
    return any((Path(root, *below[:depth]) / "pyvenv.cfg").exists() for depth in range(1, len(below) + 1))


@functools.cache
def _stdlib() -> tuple[Path, ...]:
    return tuple({Path(os.path.realpath(sysconfig.get_path(name))) for name in ("stdlib", "platstdlib")})


def _below(path: Path, root: Path) -> str:
    name = _relative(path, root)
    if name is None:
        raise CodeBundleError(f"{path} is to be included, but it is not below {root}; pass a root_dir that holds both")
    if not path.is_file():
        raise CodeBundleError(f"{path} is to be included, but there is no such file")
    return name


# ------------------------------------------------------------------------------------------ what the files import


def _named(files: Mapping[str, Path], root: Path) -> tuple[dict[str, Path], set[str]]:
    """The files below `root` that `files` import by name, and so on, which are not among them.

    Also the folders in which they were looked for: a file that is added there may be one of them.
    """
    bases = [root, *(root / folder for folder in sys_path(root))]
    folders: set[str] = set()
    found: dict[str, Path] = {}
    waiting = list(files.items())
    while waiting:
        name, path = waiting.pop()
        if not name.endswith(".py"):
            continue
        for imported in imports_of(path):
            for file in files_of(imported, path, bases, folders):
                other = own_name(file, root)
                if other and other not in files and other not in found:
                    found[other] = file
                    waiting.append((other, file))
    return found, folders


def sys_path(root: Path) -> list[str]:
    """The folders below `root` that are on `sys.path`, relative to it, in order."""
    found: list[str] = []
    for entry in sys.path:
        path = Path(os.path.abspath(entry or os.curdir))
        name = _relative(path, root)
        if name and name not in found and path.is_dir() and not _is_foreign(str(path), str(root)):
            found.append(name)
    return found


# ---------------------------------------------------------------------------------------------------- the archive

_last: dict[tuple[object, ...], Bundle] = {}


def _archived(root: Path, files: Mapping[str, Path], sync_sys_path: bool) -> Bundle:
    """The bundle of `files`; the one that was made of the very same files before, where there is one.

    Raises CodeBundleError when there are none.
    """
    if not files:
        raise CodeBundleError(f"there is no code to ship below {root}; is root_dir the folder of your own modules?")
    stats = {name: path.stat() for name, path in sorted(files.items())}
    folders = tuple(name for name in sys_path(root) if _holds(name, files)) if sync_sys_path else ()
    key = (str(root), folders, tuple((name, s.st_mtime_ns, s.st_size, s.st_mode) for name, s in stats.items()))
    if key not in _last:
        _check_size({name: stat.st_size for name, stat in stats.items()})
        data = pack({name: (files[name].read_bytes(), bool(stat.st_mode & 0o100)) for name, stat in stats.items()})
        if len(_last) >= 8:
            _last.clear()
        _last[key] = Bundle(hashlib.sha256(data).hexdigest(), data, tuple(stats), folders)
    return _last[key]


def _holds(folder: str, files: Mapping[str, Path]) -> bool:
    return any(name.startswith(folder + "/") for name in files)


def pack(files: Mapping[str, tuple[bytes, bool]]) -> bytes:
    """A tar.gz of `files` (name → content and whether it may be executed), equal for equal files."""
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=buffer, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, (content, executable) in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mode = 0o755 if executable else 0o644
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _check_size(sizes: Mapping[str, int]) -> None:
    if len(sizes) > MOST_FILES:
        folders = Counter(name.partition("/")[0] for name in sizes).most_common(3)
        shown = ", ".join(f"{folder} ({count:,})" for folder, count in folders)
        raise CodeBundleError(
            f"the code to ship is {len(sizes):,} files, the limit {MOST_FILES:,}; most are in {shown}. "
            "Name what is not code in .flyteignore"
        )
    total = sum(sizes.values())
    if total <= LIMIT:
        return
    largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
    shown = ", ".join(f"{name} ({sizes[name] / 2**20:.0f} MiB)" for name in largest)
    raise CodeBundleError(
        f"the code to ship is {total / 2**20:.0f} MiB, the limit {LIMIT / 2**20:.0f}; the largest files are {shown}. "
        "Name them in .flyteignore, and pass data as inputs"
    )


# ------------------------------------------------------------------------------------------------------- entries


def require(bundle: Bundle, root: Path, entries: Iterable[str]) -> None:
    """Check that every entry (`module:variable`) can be imported from the bundle, or is installed.

    Raises CodeBundleError, which names the module, where it is, and what helps.
    """
    names = set(bundle.names)
    for module in sorted({entry.partition(":")[0] for entry in entries}):
        wanted = [f"{module.replace('.', '/')}{end}" for end in (".py", "/__init__.py")]
        places = [f"{folder}/{name}" if folder else name for folder in ("", *bundle.sys_path) for name in wanted]
        if names.isdisjoint(places) and not _is_installed(module):
            raise CodeBundleError(_missing(module, root.resolve(), wanted[0]))


def _is_installed(module: str) -> bool:
    """Whether the platform's interpreter finds the module by itself."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return False
    path = Path(os.path.abspath(file))
    if path.is_relative_to(_OURS) or _NOT_SHIPPED.intersection(path.parts):
        return True
    import importlib.metadata

    return module.partition(".")[0] in importlib.metadata.packages_distributions()


def _missing(module: str, root: Path, wanted: str) -> str:
    file = getattr(sys.modules.get(module), "__file__", None)
    if file and _relative(Path(file), root) is None:
        return f"the module {module} is at {file}, which is not below {root}; pass a root_dir that holds it"
    if (root / wanted).is_file():
        return f"{wanted} is not shipped: a .gitignore or .flyteignore in {root} leaves it out"
    return (
        f"the module {module} is not a file below {root}, so it cannot be shipped; put it into one, or pass root_dir="
    )
