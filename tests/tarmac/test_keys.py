"""API keys as the control plane keeps them: their names, their end, and when they were used."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flyte import wire
from flyte.errors import AlreadyExistsError, InvalidInputError, NotFoundError, SystemUnavailableError
from flyte.wire import KeyRequest
from tarmac.control import gateway as gateway_link
from tarmac.control.keys import USE_WRITTEN_EVERY, Keys
from tarmac.store import Change, KeyRow
from tests.tarmac.house import House, open_house


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as house:
        yield house


@contextlib.asynccontextmanager
async def gateway(house: House) -> AsyncIterator[list[wire.Keys]]:
    """A gateway that applies what it is told; the keys that it was told."""
    reader, writer = await asyncio.open_unix_connection(str(house.home.link_socket))
    told: list[wire.Keys] = []

    async def live() -> None:
        unpacker = wire.Unpacker()
        while data := await reader.read(65536):
            for frame in unpacker.feed(data):
                if isinstance(frame, wire.Keys):
                    told.append(frame)
                if isinstance(frame, wire.Barrier):
                    writer.write(wire.pack(wire.Applied(number=frame.number)))

    writer.write(wire.pack(wire.Hello(kind="gateway", name="gateway", token=house.home.token(), pid=1)))
    living = asyncio.create_task(live())
    try:
        yield told
    finally:
        writer.close()
        await living


async def make(house: House, name: str) -> wire.KeyInfo:
    return await house.control.keys.create(KeyRequest(name=name), "owner")


@pytest.mark.parametrize("name", ["owner", "Owner", "anonymous", "w-1", "r-42", "W-x", "r-"])
async def test_no_key_is_called_as_the_owner_or_a_unit_is(house: House, name: str) -> None:
    with pytest.raises(InvalidInputError, match="a key cannot be called"):
        await make(house, name)
    assert await house.control.keys.list() == []


async def test_a_name_is_given_once_also_to_two_who_ask_at_the_same_time(house: House) -> None:
    made = await asyncio.gather(*(make(house, "ci") for _ in range(3)), return_exceptions=True)
    assert [type(each) for each in made].count(AlreadyExistsError) == 2
    with pytest.raises(AlreadyExistsError, match="there is an API key 'ci'"):
        await make(house, "ci")
    assert [key.name for key in await house.control.keys.list()] == ["ci"]


async def test_scopes_are_refused_until_they_mean_something(house: House) -> None:
    with pytest.raises(InvalidInputError, match="keys have no scopes yet"):
        await house.control.keys.create(KeyRequest(name="ci", scopes=["read"]), "owner")


async def test_a_revoked_key_is_gone_when_the_gateway_refuses_it_and_its_name_is_free(house: House) -> None:
    async with gateway(house) as told:
        key = await make(house, "ci")
        await house.control.keys.delete("ci", "owner")
        assert key.key is not None
        assert told[-1].keys == {hashlib.sha256(house.home.token().encode()).hexdigest(): "owner"}
        assert (await make(house, "ci")).id != key.id


async def test_a_revocation_that_the_gateway_has_not_confirmed_says_so(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_link, "GATEWAY_PATIENCE", 0.05)
    await make(house, "ci")
    with pytest.raises(SystemUnavailableError, match=r"the API refuses it, but the gateway has not confirmed"):
        await house.control.keys.delete("ci", "owner")
    assert await house.control.keys.list() == []
    with pytest.raises(SystemUnavailableError, match=r"apps may still take the key"):  # clients ask again by themselves
        await house.control.keys.delete("ci", "owner")
    async with gateway(house):
        await house.control.keys.delete("ci", "owner")
        with pytest.raises(NotFoundError):
            await house.control.keys.delete("ci", "owner")


async def test_of_keys_from_before_names_were_unique_one_is_deleted_by_its_id(house: House) -> None:
    rows = [KeyRow(f"k{number}", "ci", f"{number}" * 64) for number in range(2)]
    await house.control.journal.commit(Change(keys=tuple(rows)))
    await house.restart()
    with pytest.raises(InvalidInputError, match="2 keys are called 'ci'; delete one by its id: k"):
        await house.control.keys.delete("ci", "owner")
    async with gateway(house):
        await house.control.keys.delete("k0", "owner")
    assert [key.id for key in await house.control.keys.list()] == ["k1"]


async def test_when_a_key_was_used_is_shown_at_once_and_written_down_once_a_minute(house: House) -> None:
    now = 1000.0
    keys = Keys(house.store, house.control.journal, "tk", gateway_link.Gateway(lambda: [], 1), lambda: now)
    made = await keys.create(KeyRequest(name="ci"), "owner")
    assert (await keys.list())[0].last_used is None
    digest = hashlib.sha256((made.key or "").encode()).hexdigest()
    now += 10
    keys.used(digest)
    assert (await keys.list())[0].last_used == 1010
    await keys.write_use()
    assert (await house.store.keys())[0].last_used is None
    now += USE_WRITTEN_EVERY
    await keys.write_use()
    assert (await house.store.keys())[0].last_used == 1010
    assert (await keys.list())[0].last_used == 1010


async def test_that_an_app_was_called_with_a_key_counts_as_use(house: House) -> None:
    await make(house, "ci")
    house.control._apps.gateway.frame(wire.KeysUsed(callers=["ci", "owner", "r-1"]))
    [key] = await house.control.keys.list()
    assert key.last_used is not None
    assert key.last_used >= key.created


async def test_use_that_is_written_down_does_not_bring_a_deleted_key_back(house: House) -> None:
    async with gateway(house):
        keys = house.control.keys
        made = await make(house, "ci")
        keys.used(hashlib.sha256((made.key or "").encode()).hexdigest())
        keys._written = 0
        await asyncio.gather(house.control.keys.delete("ci", "owner"), keys.write_use())
    assert await house.store.keys() == []
