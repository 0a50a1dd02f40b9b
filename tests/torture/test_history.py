"""Some seconds of clients whose answers are judged; scripts/torture --history goes on for as long as one likes."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.contract.conftest import unavailable
from tests.platform_fixture import Platform, place
from tests.postgres_server import can_run
from tests.torture.disk import small_disk
from tests.torture.fail_over import pair
from tests.torture.history import Hazards, on_small_disk, on_two_servers, record


def judged(platform: Platform, seconds: float, hazards: Hazards) -> dict[str, Any]:
    found = record(platform, seconds, seed=7, hazards=hazards)
    assert not found["violations"], "\n".join([*found["violations"][:20], platform.log_tails(40)])
    assert found["answered"] > 100
    assert sum(found["strikes"].values()) > 1
    return found


@pytest.mark.timeout(240)
def test_an_order_exists_in_which_all_answers_are_right_though_the_disk_is_full_or_slow() -> None:
    if os.getuid() != 0:
        unavailable("a small disk needs root")
    with place({"spare_workers": "1"}) as platform, small_disk(platform.home, 96) as disk:
        found = judged(platform, 14, on_small_disk(platform, disk))
    assert found["hazards"]["disk full"] >= 1


@pytest.mark.timeout(240)
def test_nothing_acknowledged_is_lost_when_a_standby_takes_over_the_database() -> None:
    if not can_run():
        unavailable("there is no PostgreSQL: `apt install postgresql`")
    with pair() as servers, place({"spare_workers": "1", "database_url": servers.url}) as platform:
        found = judged(platform, 11, on_two_servers(servers))
    assert found["hazards"]["fail-over"] >= 1
