"""Half a minute of torture: scripts/torture goes on for as long as one likes."""

from __future__ import annotations

import pytest

from tests.platform_fixture import place
from tests.torture.figures import figures
from tests.torture.round import SETTINGS, Plan, torture

SEED = 51
"""Its strikes are of many kinds, an orderly end of each part among them."""


@pytest.mark.timeout(240)
def test_half_a_minute_of_torture_breaks_no_promise() -> None:
    with place(SETTINGS) as platform:
        plan = Plan(seconds=28, seed=SEED, haste=2)
        found = figures(torture(platform, plan), "")
        assert not found["violations"], "\n".join([*found["violations"], platform.log_tails(40)])
    assert sum(found["kills"].values()) > 5
    assert found["runs"] > 20
