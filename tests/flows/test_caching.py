"""The program of docs/caching.md: on a platform, in local mode, and hits as the command line shows them."""

from __future__ import annotations

import json
import re

import pytest

from tests.platform_fixture import ROOT, Platform

PROGRAM = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "caching.md").read_text(), re.M | re.S)[0]
WORDS = ("cached_report.py", "report", "--days", '["mon", "fri"]')


def test_the_program_of_the_docs_finds_its_results(platform: Platform) -> None:
    platform.write("cached_report.py", PROGRAM)
    said = [platform.cli("run", *WORDS, "-o", "json") for _ in range(2)]
    assert [done.code for done in said] == [0, 0], said[0].both + said[1].both
    name = json.loads(platform.cli("get", "run", "--task-name", "report.report", "-o", "json", "--limit", "1").out)[0]
    listed = platform.cli("get", "action", name["name"]).out
    assert len(re.findall(r"total .*cached: the result of \w+/\w+, \d+\.\d s saved", listed)) == 2, listed
    assert [row.split()[1] for row in platform.cli("get", "cache", "report.total").out.splitlines()[-2:]] == (
        ["report.total"] * 2
    )
    assert platform.cli("delete", "cache", "--task", "report.total").err.endswith("2 cached results are gone\n")
    again = platform.cli("delete", "cache", "--task", "report.total")
    assert (again.code, "flyte get cache" in again.err) == (2, True)


@pytest.mark.parametrize("words", [(), ("abc",), ("0123456789", "--all"), ("--all", "--task", "t")])
def test_what_is_to_be_deleted_is_named_in_one_way(platform: Platform, words: tuple[str, ...]) -> None:
    assert platform.cli("delete", "cache", *words).code == 2


def test_the_program_of_the_docs_finds_its_results_in_local_mode(platform: Platform) -> None:
    platform.write("cached_report.py", PROGRAM)
    said = [platform.cli("run", "--local", *WORDS, *more) for more in ((), (), ("--disable-run-cache",))]
    assert [done.out.splitlines()[-1] for done in said] == ["6"] * 3
    assert [done.both.count("computing") for done in said] == [2, 0, 2]
    assert "2 cached results are gone" in platform.cli("delete", "local-cache").err
