"""Deploying what has not changed, and one changed file until the new version answers."""

from __future__ import annotations

import urllib.request

from benchmarks import house, size
from benchmarks.sample import Sample, Samples

_VERSION = """

@backend_app.get("/version")
async def version() -> int:
    return {number}
"""


def deploy() -> list[Sample]:
    sample = Samples("deploy")
    unchanged, changed = sample("unchanged"), sample("one changed file until the new version answers")
    folder = house.new_home()
    source = (house.PROGRAMS / "webapp.py").read_text()
    with house.running() as env:
        for number in range(size.of(8, 2)):
            (folder / "webapp.py").write_text(source + _VERSION.format(number=number))
            changed.values += house.client("deployed.py", env, cwd=folder)
            _answers(env, number)
            unchanged.values += house.client("deployed.py", env, cwd=folder)
    changed.values = changed.values[1:]  # the first found nothing there
    return sample.all()


def _answers(env: dict[str, str], number: int) -> None:
    """See that the version that was deployed is the one that answers."""
    with urllib.request.urlopen(f"{house.app(env, 'bench-sleeper')['url']}/version", timeout=60) as answer:
        assert answer.read() == b"%d" % number
