"""The collector: what nobody refers to goes, what is in use stays, whatever is killed in between."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flyte import wire
from flyte.errors import InvalidInputError, RunNotFoundError
from flyte.wire import INLINE_LIMIT, ActionPhase, CacheSpec
from tarmac.control.collector import Collector
from tests.tarmac.fake_agent import Act
from tests.tarmac.house import House, open_house, task

OLD = 1_000_000.0
"""A time of change that is before everything."""


class Worker:
    """What workers do: return what `gives` says."""

    def __init__(self) -> None:
        self.gives: Any = None

    async def __call__(self, act: Act) -> Any:
        return self.gives


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as house:
        tasks = [task("cached", cache=CacheSpec(version="1"))]
        await house.control.deployments.start(wire.DeployRequest(version="c1", root="/", tasks=tasks), "owner")
        house.behave = Worker()
        yield house


async def blob(house: House, data: bytes) -> str:
    """A blob that was stored long ago."""
    digest = await house.control.blobs.put(data)
    os.utime(house.home.blobs / digest, (OLD, OLD))
    return digest


def file(house: House, content: str = "content") -> Path:
    """A file in the platform's folder that was written long ago."""
    number = hashlib.md5(os.urandom(8)).hexdigest()
    folder = house.home.files / number
    folder.mkdir()
    path = folder / "data.csv"
    path.write_text(content)
    for each in (path, folder):
        os.utime(each, (OLD, OLD))
    return path


async def prune(house: House, **wanted: Any) -> wire.PrunedStorage:
    return await house.control.storage.prune(wire.PruneStorageRequest(**{"grace": 0.0, **wanted}), "owner")


def removed(pruned: wire.PrunedStorage) -> dict[str, int]:
    return {use.kind: use.items for use in pruned.removed}


async def run_that_gives(house: House, value: Any, task_name: str = "env.add", x: int = 1) -> wire.Run:
    assert isinstance(house.behave, Worker)
    house.behave.gives = value
    run = await house.result(task_name, x=x)
    assert run.phase is ActionPhase.SUCCEEDED
    return run


async def test_what_nobody_refers_to_goes_and_what_is_named_stays(house: House) -> None:
    lost, kept, listed = await blob(house, b"lost"), await blob(house, b"kept"), await blob(house, b"listed")
    folder = await blob(house, json.dumps({"a.txt": listed}).encode())
    lost_file, kept_file = file(house), file(house)
    await run_that_gives(house, [f"blob://{folder}/name", f"blob://{kept}/other", str(kept_file)])
    assert removed(await prune(house, dry_run=True)) == {"values": 1, "files": 1}
    assert lost_file.exists()
    assert removed(await prune(house)) == {"values": 1, "files": 1}
    assert not await house.control.blobs.has(lost)
    assert not lost_file.parent.exists()
    assert all([await house.control.blobs.has(digest) for digest in (kept, listed, folder)])
    assert kept_file.read_text() == "content"
    assert removed(await prune(house)) == {}


async def test_a_value_that_is_a_blob_keeps_what_it_names(house: House) -> None:
    kept = file(house)
    value = json.dumps({"file": str(kept), "filling": "x" * INLINE_LIMIT}).encode()
    digest = await blob(house, value)
    request = wire.RunRequest(task="env.add", inputs=msgspec.Raw(b"{}"), inputs_blob=digest)
    run, _ = await house.control.runs.create(request, "owner")
    await house.control.runs.wait(run.name, 10)
    os.utime(house.home.blobs / digest, (OLD, OLD))
    assert removed(await prune(house)) == {}
    assert kept.exists()


async def test_a_result_in_the_cache_keeps_its_blobs_when_its_run_is_removed(house: House) -> None:
    kept = await blob(house, b"content of a file")
    run = await run_that_gives(house, f"blob://{kept}/name", "env.cached")
    pruned = await prune(house, runs=[run.name])
    assert (pruned.runs, removed(pruned)) == ([run.name], {})
    assert await house.control.blobs.has(kept)
    await house.control.cache.delete("flytesnacks", "development")
    os.utime(house.home.blobs / kept, (OLD, OLD))
    assert removed(await prune(house)) == {"values": 1}


async def test_a_run_is_removed_with_its_logs_and_files_and_the_others_stay(house: House) -> None:
    own, shared = file(house), file(house)
    first = await run_that_gives(house, [str(own), str(shared)])
    second = await run_that_gives(house, str(shared))
    for run in (first, second):
        house.home.run_logs(run.name).mkdir(parents=True)
        (house.home.run_logs(run.name) / "a0.1.log").write_text("printed")
    pruned = await prune(house, runs=[first.name])
    assert (pruned.runs, removed(pruned)) == ([first.name], {"files": 1})
    assert (own.exists(), shared.exists()) == (False, True)
    assert [
        run.name for run in await house.control.runs.list(wire.Scope("flytesnacks", "development"), wire.RunFilter())
    ] == [second.name]
    with pytest.raises(RunNotFoundError):
        await house.control.runs.get(first.name)
    assert sorted(path.name for path in house.home.run_logs("x").parent.iterdir()) == [second.name]
    await house.restart()
    assert (await house.control.runs.get(second.name)).phase is ActionPhase.SUCCEEDED


async def test_runs_are_removed_by_age(house: House) -> None:
    run = await run_that_gives(house, 1)
    assert (await prune(house, older=3600)).runs == []
    assert (await prune(house, older=0, dry_run=True)).runs == [run.name]
    assert (await prune(house, older=0)).runs == [run.name]
    assert (await prune(house, older=0)).runs == []


async def test_the_numbers_of_events_that_were_removed_are_not_given_again(house: House) -> None:
    run = await run_that_gives(house, 1)
    before = house.control.journal.seq
    await prune(house, runs=[run.name])
    await house.restart()
    assert house.control.journal.seq > before


async def test_a_run_under_way_is_refused_and_so_is_one_that_does_not_exist(house: House) -> None:
    await house.agent.close()
    run = await house.run("env.add")
    with pytest.raises(InvalidInputError, match=f"run '{run.name}' is under way; abort it first"):
        await prune(house, runs=[run.name])
    with pytest.raises(RunNotFoundError, match="nobody"):
        await prune(house, runs=["nobody"])


async def test_what_is_newer_than_the_oldest_run_under_way_stays(house: House) -> None:
    await house.agent.close()
    await house.run("env.add")
    digest = await house.control.blobs.put(b"an action holds its digest in memory")
    path = file(house)
    os.utime(path)
    os.utime(await _aged(house, b"older"), (OLD, OLD))
    assert removed(await prune(house)) == {"values": 1}
    assert await house.control.blobs.has(digest)
    assert path.exists()


async def _aged(house: House, data: bytes) -> Path:
    return house.home.blobs / await house.control.blobs.put(data)


async def test_an_upload_under_way_is_younger_than_the_grace(house: House) -> None:
    await house.control.blobs.put(b"just sent")
    os.utime(being_written := file(house))
    assert removed(await prune(house, grace=3600)) == {}
    assert being_written.exists()


async def test_a_blob_that_is_asked_for_while_it_is_removed_stays(house: House) -> None:
    digest = await blob(house, b"known to a client")
    assert await house.control.blobs.has(digest), "the client does not send it again"
    assert removed(await prune(house, grace=3600)) == {}
    assert await house.control.blobs.get(digest) == b"known to a client"


@pytest.mark.parametrize("step", ["rows", "blobs", "files"])
async def test_a_kill_in_the_middle_leaves_what_the_next_one_removes(
    house: House, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, own, kept = await blob(house, b"lost"), file(house), file(house)
    first = await run_that_gives(house, str(own))
    second = await run_that_gives(house, str(kept))

    async def killed(*_: Any) -> Any:
        raise KeyboardInterrupt(step)

    with monkeypatch.context() as broken:
        if step == "rows":
            broken.setattr(Collector, "_unused", killed)
        elif step == "blobs":
            broken.setattr(type(house.control.blobs), "remove", killed)
        else:
            broken.setattr("tarmac.control.folders._delete", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            await prune(house, runs=[first.name])
    await house.restart()
    await prune(house)
    assert not await house.control.blobs.has(lost)
    assert (own.exists(), kept.exists()) == (False, True)
    assert sorted(path.name for path in house.home.files.iterdir()) in (
        [kept.parent.name],
        sorted([kept.parent.name, f".removed-{own.parent.name}"]),
    )
    assert (await house.control.runs.get(second.name)).phase is ActionPhase.SUCCEEDED


async def test_code_goes_when_no_version_needs_it(house: House) -> None:
    for name in (digest := await blob(house, b"\x1f\x8b a bundle"), other := await blob(house, b"\x1f\x8b another")):
        (house.home.code / name).mkdir()
        os.utime(house.home.code / name, (OLD, OLD))
    await house.control.deployments.start(
        wire.DeployRequest(version="b1", bundle=digest, tasks=[task("with_code")]), "owner"
    )
    os.utime(house.home.blobs / digest, (OLD, OLD))
    assert removed(await prune(house)) == {"values": 1, "code": 1}
    assert (house.home.code / digest).exists()
    assert not (house.home.code / other).exists()


async def test_the_use_of_the_disk_is_told(house: House) -> None:
    await house.control.blobs.put(b"x" * 100_000)
    file(house, "y" * 50_000)
    use = await house.control.storage.use()
    sizes = {each.kind: each.bytes for each in use.use}
    assert use.place == str(house.home.path)
    assert sizes["values"] >= 100_000
    assert sizes["files"] >= 50_000
    assert sizes["database"] > 0
    assert use.free > 0
    assert time.time() > OLD
