"""What an attempt saves is there for the next one, whole, whatever happened in between."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import flyte
from flyte._checkpoint import Checkpoint
from flyte.errors import RuntimeUserError


def test_the_first_attempt_finds_nothing(tmp_path: Path) -> None:
    first = Checkpoint(tmp_path / "a", 1)
    assert first.load_sync() is None
    assert not first.prev_exists()
    assert not (tmp_path / "a").exists()


def test_an_attempt_finds_what_the_one_before_it_saved_last(tmp_path: Path) -> None:
    first = Checkpoint(tmp_path, 1)
    first.save_sync(b"one")
    first.save_sync(b"two")
    assert first.load_sync() is None  # of earlier attempts
    second = Checkpoint(tmp_path, 2)
    assert second.prev_exists()
    found = second.load_sync()
    assert found is not None
    assert found.read_bytes() == b"two"


def test_an_attempt_that_saved_nothing_hands_on_what_it_found(tmp_path: Path) -> None:
    Checkpoint(tmp_path, 1).save_sync(b"one")
    assert Checkpoint(tmp_path, 11).prev_exists()
    Checkpoint(tmp_path, 9).save_sync(b"nine")
    found = Checkpoint(tmp_path, 11).load_sync()
    assert found is not None
    assert found.read_bytes() == b"nine"


def test_files_and_folders_come_back_under_their_names(tmp_path: Path) -> None:
    model = tmp_path / "model"
    (model / "deep").mkdir(parents=True)
    (model / "deep" / "last.ckpt").write_text("weights")
    (tmp_path / "state.json").write_text("{}")
    Checkpoint(tmp_path / "a", 1).save_sync(model)
    Checkpoint(tmp_path / "b", 1).save_sync(str(tmp_path / "state.json"))
    folder = Checkpoint(tmp_path / "a", 2).load_sync()
    file = Checkpoint(tmp_path / "b", 2).load_sync()
    assert folder is not None
    assert file is not None
    assert (folder.name, file.name) == ("model", "state.json")
    assert file.read_text() == "{}"
    last = flyte.latest_checkpoint(folder)
    assert last is not None
    assert last.read_text() == "weights"


def test_what_is_done_to_a_copy_leaves_what_was_saved_alone(tmp_path: Path) -> None:
    Checkpoint(tmp_path, 1).save_sync(b"one")
    second = Checkpoint(tmp_path, 2)
    copy = second.load_sync()
    assert copy is not None
    copy.write_bytes(b"changed")
    again = second.load_sync()
    assert again is not None
    assert again.read_bytes() == b"one"


def test_only_the_last_saves_are_kept(tmp_path: Path) -> None:
    for attempt in (1, 2, 3):
        checkpoint = Checkpoint(tmp_path / "a", attempt)
        checkpoint.load_sync()
        (checkpoint.path / "scrap").write_text("x")
        for n in range(3):
            checkpoint.save_sync(f"{attempt}.{n}".encode())
    names = {path.name for path in (tmp_path / "a").iterdir() if not path.name.startswith("loaded.3")}
    assert names == {"2.3", "3.3", "work.3"}


def test_a_path_where_nothing_is_leaves_the_save_before_it(tmp_path: Path) -> None:
    first = Checkpoint(tmp_path / "a", 1)
    first.save_sync(b"one")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        first.save_sync(tmp_path / "nowhere")
    found = Checkpoint(tmp_path / "a", 2).load_sync()
    assert found is not None
    assert found.read_bytes() == b"one"
    assert not [path for path in (tmp_path / "a").iterdir() if path.name.startswith("draft.")]


def test_a_process_that_is_killed_while_it_saves_leaves_the_save_before(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from flyte import _checkpoint\n"
        "checkpoint = _checkpoint.Checkpoint(Path(sys.argv[1]), 1)\n"
        "checkpoint.save_sync(b'whole')\n"
        "_checkpoint._flush_all = lambda folder: os.kill(os.getpid(), signal.SIGKILL)\n"
        "checkpoint.save_sync(b'cut off')\n"
    )
    source = str(Path(flyte.__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], env={"PYTHONPATH": source}, timeout=30)
    assert done.returncode == -9
    second = Checkpoint(tmp_path, 2)
    found = second.load_sync()
    assert found is not None
    assert found.read_bytes() == b"whole"
    second.save_sync(b"next")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("draft.")]


def test_the_newest_file_is_chosen_or_the_one_with_the_largest_key(tmp_path: Path) -> None:
    for at, name in enumerate(("b", "a")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "last.ckpt").write_text(name)
        os.utime(tmp_path / name / "last.ckpt", (1000 + at, 1000 + at))
    assert flyte.latest_checkpoint(tmp_path) == tmp_path / "a" / "last.ckpt"
    assert flyte.latest_checkpoint(tmp_path, key=str) == tmp_path / "b" / "last.ckpt"
    assert flyte.latest_checkpoint(tmp_path, "*.bin") is None


env = flyte.TaskEnvironment("checkpoints")


@env.task(retries=3)
async def count(to: int) -> list[int]:
    checkpoint = flyte.ctx().checkpoint
    assert checkpoint is not None
    assert flyte.ctx().checkpoint is checkpoint
    before = await checkpoint.load()
    start = int(before.read_text()) if before else 0
    await checkpoint.save(str(start + 1).encode())
    if start + 1 < to:
        raise RuntimeUserError("Early", f"at {start + 1}")
    return [start + 1, flyte.ctx().attempt]


@flyte.trace
async def traced() -> bool:
    return flyte.ctx().checkpoint is not None


@env.task
async def parent(to: int) -> list[int]:
    assert await traced()
    checkpoint = flyte.ctx().checkpoint
    assert checkpoint is not None
    await checkpoint.save(b"mine")
    return await count(to)


async def test_in_local_mode_a_retry_goes_on_where_the_attempt_before_it_was() -> None:
    flyte.init()
    run = await flyte.run.aio(count, 3)
    assert (await run.outputs.aio())[0] == [3, 3]


async def test_each_action_has_its_own() -> None:
    flyte.init()
    run = await flyte.run.aio(parent, 2)
    assert (await run.outputs.aio())[0] == [2, 2]


def test_outside_an_action_there_is_none() -> None:
    assert flyte.ctx().checkpoint is None
