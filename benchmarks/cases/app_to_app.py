"""The document's own app → app code, an `httpx.AsyncClient` for every call; and the same code "as it stands", where the
platform does not give its processes the system's certificates.
"""

from __future__ import annotations

from benchmarks import house, load, size
from benchmarks.sample import Sample, Samples, interleave

_REQUEST = load.Request(expect='"Hello, Ann!"')


def app_to_app() -> list[Sample]:
    sample = Samples("app-to-app")
    with house.running() as ours, house.running(system_certificates="false") as plain:
        urls = {}
        for who, env in (("ours", ours), ("as it stands", plain)):
            house.deploy(env, "webapp.py", "env")
            urls[who] = f"{house.app(env, 'bench-app')['url']}/greeting/Ann"
        for connections in (1, 16):
            what = f"app → app as the document writes it, {connections} at a time"

            def measure(who: str, connections: int = connections, what: str = what) -> None:
                rate = sample(f"{who}: {what}", "1/s")
                load.ask(urls[who], _REQUEST, connections, size.seconds(3), sample(f"{who}: {what}, latency"), rate)

            interleave(size.rounds(3), {who: lambda who=who, measure=measure: measure(who) for who in urls})
    return sample.all()
