"""What every test can ask for: a running platform, one of its own, an empty place for one, a browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.platform_fixture import Platform, place, running
from tests.seed.table import Table

LONGEST_FIRST = ("seed", "torture", "faults", "flows", "contract", "browser", "tarmac", "flyte")
"""The folders of tests, by how long their files take."""

ON_CI = os.environ.get("CI", "").lower() == "true"


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    """The platform that all tests share, started by `flyte up` once; nothing of it may be left at the end."""
    with running() as shared:
        yield shared


@pytest.fixture
def fresh_platform() -> Iterator[Platform]:
    """A platform for this test alone, which may break it."""
    with running() as own:
        yield own


@pytest.fixture
def empty_place() -> Iterator[Platform]:
    """A home in which no platform runs yet."""
    with place() as own:
        yield own


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """The browser that `scripts/test` found, or one on PATH."""
    names = (os.environ.get("TARMAC_TEST_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    found = next((path for path in map(shutil.which, filter(None, names)) if path), None)
    if found is None:
        pytest.skip("no Chromium was found; `scripts/test` says how to get one")
    return found


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "snippet(pattern, line_or_name): the row of the seed's table that a test shows")
    config.pluginmanager.register(Table())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first: where two processes share the files, neither is left with one at the end."""
    items.sort(key=lambda item: _place_of(item.path.parent.name))


def _place_of(folder: str) -> int:
    return LONGEST_FIRST.index(folder) if folder in LONGEST_FIRST else len(LONGEST_FIRST)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """On CI nothing may be skipped: what is skipped there has not been tested anywhere."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if ON_CI and reporter is not None and reporter.stats.get("skipped"):
        reporter.write_line("CI=true and tests were skipped: that is a failure (the reasons are below)", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
