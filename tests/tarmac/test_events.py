"""The journal: what follows a commit, and what becomes of a change that cannot be written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flyte.errors import InvalidInputError
from tarmac.events import Journal
from tarmac.store import Change, Conflict, KeyRow, RunRow, Store, StoreError, Unwritable, open_store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await open_store("", tmp_path / "tarmac.db", "normal")
    yield opened
    await opened.close()


@pytest.fixture
def failures() -> list[BaseException]:
    """What ended the control plane."""
    return []


@pytest.fixture
def journal(store: Store, failures: list[BaseException]) -> Journal:
    return Journal(store, failures.append)


def key(name: str, digest: object = "abc") -> Change:
    return Change(keys=(KeyRow("k1", name, digest, 1.0, None, ()),))  # type: ignore[arg-type]


def run(name: str) -> Change:
    return Change(runs=(RunRow(name, "p", "d", "t", "v", 1.0, "me", None, b"{}", {}),))


async def test_what_follows_a_commit_has_happened_when_it_is_told(journal: Journal) -> None:
    seen: list[str] = []
    await journal.write(key("mine"), lambda: seen.append("known"))
    assert seen == ["known"]


async def test_what_the_database_refuses_is_told_to_who_asked_and_to_nobody_else(
    journal: Journal, store: Store, failures: list[BaseException]
) -> None:
    seen: list[str] = []
    with pytest.raises(InvalidInputError, match="cannot be stored"):
        await journal.write(key("mine", digest=object()), lambda: seen.append("known"))
    assert (seen, failures) == ([], [])
    await journal.write(key("another"))
    assert [row.name for row in await store.keys()] == ["another"]


async def test_where_memory_is_ahead_of_it_a_refusal_ends_the_control_plane(
    journal: Journal, failures: list[BaseException]
) -> None:
    with pytest.raises(Unwritable):
        await journal.commit(key("mine", digest=object()))
    journal.post(run("r1"))
    await journal.commit(Change())
    with pytest.raises(Conflict):
        await journal.commit(run("r1"))
    assert [type(failure) for failure in failures] == [Unwritable, Conflict]
    assert all(isinstance(failure, StoreError) for failure in failures)


async def test_what_breaks_off_after_a_commit_ends_the_control_plane(
    journal: Journal, failures: list[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """What was to be done in memory is half done, and nobody would ever do the rest."""

    def breaks() -> None:
        raise LookupError("halfway")

    journal.post(run("r1"), breaks)
    await journal.commit(Change())
    assert [repr(failure) for failure in failures] == ["LookupError('halfway')"]
    assert "halfway" in caplog.text  # with its traceback
