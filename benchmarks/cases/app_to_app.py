"""The document's own app → app code, an `httpx.AsyncClient` for every call; and the same code "as it stands", where the
platform does not give its processes the system's certificates.
"""

from __future__ import annotations

import json
import urllib.request

from benchmarks import house, load, size
from benchmarks.sample import Sample, Samples, interleave

_REQUEST = load.Request(expect='"Hello, Ann!"')


def app_to_app() -> list[Sample]:
    sample = Samples("app-to-app")
    with house.running() as ours, house.running(system_certificates="false") as plain:
        urls = {}
        for who, env in (("ours", ours), ("as it stands", plain)):
            house.deploy(env, "webapp.py", "env")
            url = house.app(env, "bench-app")["url"]
            _is_as_said(url, given=who == "ours")
            urls[who] = f"{url}/greeting/Ann"
        for connections in (1, 16):
            what = f"app → app as the document writes it, {connections} at a time"

            def measure(who: str, connections: int = connections, what: str = what) -> None:
                rate = sample(f"{who}: {what}", "1/s")
                load.ask(urls[who], _REQUEST, connections, size.seconds(3), sample(f"{who}: {what}, latency"), rate)

            interleave(size.rounds(3), {who: lambda who=who, measure=measure: measure(who) for who in urls})
    return sample.all()


def _is_as_said(url: str, given: bool) -> None:
    """Whether the app has the system's certificates; without a difference there is nothing to compare."""
    with urllib.request.urlopen(f"{url}/certificates", timeout=60) as answer:
        folder = json.load(answer)
    if (folder is not None) != given:
        raise RuntimeError(f"system_certificates is {given} and the app has SSL_CERT_DIR={folder}")
