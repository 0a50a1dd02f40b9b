from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.world import World
from tests.platform_fixture import Platform, running


@pytest.fixture(scope="module")
def hurt(request: pytest.FixtureRequest) -> Iterator[World]:
    """A platform that the tests of one module hurt one after the other; each leaves it whole.

    A module's SETTINGS are the platform's.
    """
    with running({"spare_workers": "1", **getattr(request.module, "SETTINGS", {})}) as platform:
        world = World(platform)
        yield world
        world.http.close()


@pytest.fixture
def world(hurt: World) -> World:
    """The same platform for each test, with nothing noted yet."""
    hurt.notes.unlink(missing_ok=True)
    return hurt


@pytest.fixture
def fresh(fresh_platform: Platform) -> Iterator[World]:
    """A platform for this test alone."""
    world = World(fresh_platform)
    yield world
    world.http.close()
