"""Checkpoints: what an attempt of an action saves for the attempts that come after it.

`flyte.ctx().checkpoint` is the action's. What is saved lies in a folder of the action among the platform's files (in
local mode, in one of this process that goes with it), an entry for each save: `ATTEMPT.NUMBER`, which holds one file or
folder. An entry is made beside and renamed when it is whole and on disk, so that a process that is killed in the middle
of a save leaves the one before. `load` gives a copy of the newest entry of the *earlier* attempts; the newest of them
and the newest of this one are kept, and the control plane removes them all when the run is over.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flyte.atomic import sync

FOLDER = "checkpoints"
"""Beside the other files of actions: a folder for each run, in it one for each action."""


class Checkpoint:
    """What earlier attempts of this action saved, and where this one saves. From `flyte.ctx().checkpoint`."""

    def __init__(self, folder: Path, attempt: int) -> None:
        self._folder = folder
        self._attempt = attempt
        self._lock = threading.Lock()

    @property
    def path(self) -> Path:
        """A folder for this attempt to work in; empty at first, and of no meaning by itself."""
        return self._made(f"work.{self._attempt}")

    def prev_exists(self) -> bool:
        """Whether an earlier attempt saved anything."""
        return self._previous() is not None

    async def load(self) -> Path | None:
        """A copy of what an earlier attempt saved last: a file or a folder; None where there is nothing."""
        return await asyncio.to_thread(self.load_sync)

    async def save(self, data: bytes | str | os.PathLike[str]) -> None:
        """Keep bytes, or a copy of a file or folder, for the next attempt; it takes the place of what was saved before.

        It is on disk when this returns. Raises FileNotFoundError for a path where nothing is.
        """
        await asyncio.to_thread(self.save_sync, data)

    def load_sync(self) -> Path | None:
        """`load`, for code that is not async."""
        previous = self._previous()
        if previous is None:
            return None
        (saved,) = previous.iterdir()
        copy = Path(tempfile.mkdtemp(prefix=f"loaded.{self._attempt}.", dir=self._folder)) / saved.name
        _copy(saved, copy)
        return copy

    def save_sync(self, data: bytes | str | os.PathLike[str]) -> None:
        """`save`, for code that is not async."""
        with self._lock:
            draft = Path(tempfile.mkdtemp(prefix=f"draft.{self._attempt}.", dir=self._made("")))
            try:
                if isinstance(data, bytes | bytearray | memoryview):
                    (draft / "checkpoint").write_bytes(data)
                else:
                    _copy(Path(data), draft / (Path(data).resolve().name or "checkpoint"))
                _flush_all(draft)
                own = self._entries(lambda attempt: attempt == self._attempt)
                number = int(own[-1].suffix[1:]) + 1 if own else 1
                draft.rename(self._folder / f"{self._attempt}.{number}")
            except BaseException:
                shutil.rmtree(draft, ignore_errors=True)
                raise
            sync(self._folder)
            self._tidy()

    def _previous(self) -> Path | None:
        earlier = self._entries(lambda attempt: attempt < self._attempt)
        return earlier[-1] if earlier else None

    def _entries(self, wanted: Callable[[int], bool]) -> list[Path]:
        """The saves of the attempts that are wanted, oldest first."""
        if not self._folder.is_dir():
            return []
        found = [path for path in self._folder.iterdir() if path.stem.isdecimal() and wanted(int(path.stem))]
        return sorted(found, key=lambda path: (int(path.stem), int(path.suffix[1:])))

    def _tidy(self) -> None:
        """Remove what a later save has replaced, and what earlier attempts worked in."""
        earlier = self._entries(lambda attempt: attempt < self._attempt)[:-1]
        own = self._entries(lambda attempt: attempt == self._attempt)[:-1]
        scraps = [
            path
            for path in self._folder.iterdir()
            if path.name.startswith(("work.", "loaded.", "draft.")) and int(path.name.split(".")[1]) < self._attempt
        ]
        for path in (*earlier, *own, *scraps):
            shutil.rmtree(path, ignore_errors=True)

    def _made(self, name: str) -> Path:
        folder = self._folder / name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder


BaseCheckpoint = Checkpoint
"""Flyte's name for what all of them have in common; there is one kind here."""


def latest_checkpoint(
    root: str | os.PathLike[str], glob: str = "**/last.ckpt", *, key: Callable[[Path], Any] | None = None
) -> Path | None:
    """Of the files below `root` that fit `glob` the one with the largest `key`, by default the newest; None if none."""
    found = [path for path in Path(root).glob(glob) if path.is_file()]
    return max(found, key=key or _changed) if found else None


def _changed(path: Path) -> float:
    return path.stat().st_mtime


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copy2(source, target)


def _flush_all(folder: Path) -> None:
    """Everything in the folder is on disk when this returns."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if not path.is_symlink():
                sync(path)
        sync(Path(parent))
