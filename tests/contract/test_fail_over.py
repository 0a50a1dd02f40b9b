"""A PostgreSQL server dies in the middle of a commit, and its standby takes over."""

from __future__ import annotations

from pathlib import Path

import pytest

from tarmac.store import Change, open_store
from tarmac.store.postgres import PostgresSession
from tarmac.store.rows import ProjectRow
from tests.contract.conftest import unavailable
from tests.postgres_server import can_run
from tests.torture.fail_over import pair


async def test_a_commit_of_which_the_standby_never_heard_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The standby gives the numbers of transactions that it never heard of to others. The URL names both servers."""
    if not can_run():
        unavailable("there is no PostgreSQL: `apt install postgresql`")
    commit = PostgresSession.commit
    with pair() as servers:
        hosts = f"{servers.server.folder},{servers.standby.folder}"
        url = f"postgresql://postgres@/postgres?host={hosts}&target_session_attrs=read-write"
        store = await open_store(url, tmp_path / "unused", patience=60)

        def commit_on_a_server_that_dies(session: PostgresSession) -> None:
            monkeypatch.setattr(PostgresSession, "commit", commit)
            servers.fail_over()
            commit(session)

        try:
            await store.write(Change(projects=(ProjectRow("before"),)))
            monkeypatch.setattr(PostgresSession, "commit", commit_on_a_server_that_dies)
            await store.write(Change(projects=(ProjectRow("during"),)))
            assert {row.id for row in await store.projects()} >= {"before", "during"}
        finally:
            await store.close()
