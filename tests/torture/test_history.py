"""Twenty seconds of clients whose answers are judged; scripts/torture --history goes on for as long as one likes."""

from __future__ import annotations

import pytest

from tests.platform_fixture import place
from tests.torture.history import record


@pytest.mark.timeout(240)
def test_an_order_exists_in_which_all_answers_are_right() -> None:
    with place({"spare_workers": "1"}) as platform:
        found = record(platform, seconds=20, seed=7)
        assert not found["violations"], "\n".join([*found["violations"][:20], platform.log_tails(40)])
    assert found["answered"] > 200
    assert sum(found["strikes"].values()) > 1
