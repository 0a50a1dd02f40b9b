"""The program of docs/reports.md shows what the page says, on a platform and in local mode."""

from __future__ import annotations

import re

import pytest

from tests.platform_fixture import ROOT, Platform

PROGRAM = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "reports.md").read_text(), re.M | re.S)[0]
DRIVER = """
import sys

import flyte
from reports_of_the_page import train

if sys.argv[1] == "platform":
    flyte.init_from_config()
run = flyte.run(train, epochs=3)
run.wait(quiet=True)
print(run.get_report())
"""


@pytest.mark.parametrize("where", ["platform", "local"])
def test_the_report_of_the_docs_has_its_tabs_and_what_was_flushed_last(platform: Platform, where: str) -> None:
    platform.write("reports_of_the_page.py", PROGRAM)
    platform.write("shows_a_report.py", DRIVER)
    said = platform.python("shows_a_report.py", where)
    assert said.code == 0, said.both
    assert "<p>epoch <b>3</b> of 3</p>" in said.out
    assert "epoch <b>2</b>" not in said.out
    assert "the loss of epoch 1" in said.out
    for tab in ("plots", "steps"):
        assert tab in said.out
