"""POST → task → result in the answer, one and sixteen at a time. Ours is asked through the gateway, the peers' FastAPI
directly.
"""

from __future__ import annotations

from benchmarks import house, load, peers, size
from benchmarks.sample import Sample, Samples, interleave

_REQUEST = load.Request(expect='"outputs":[2]', method="POST", body='{"x": 1}')


def webhook() -> list[Sample]:
    sample = Samples("webhook")
    with house.running() as env:
        house.deploy(env, "trivial.py")
        house.deploy(env, "webapp.py", "env")
        url = house.app(env, "bench-app")["url"]
        ours = {
            "ours, reused": f"{url}/run/bench-reused.add_again",
            "ours, fresh": f"{url}/run/bench-fresh.add",
        }
        for who in (*ours, *(peer.name for peer in peers.present() if peer.web)):
            _samples(sample, who)

        def turn_of_ours(who: str) -> None:
            _measure(sample, who, ours[who])

        def turn_of_peer(peer: peers.Peer) -> None:
            with peers.webhook(peer) as address:
                _measure(sample, peer.name, address)

        contenders = {who: lambda who=who: turn_of_ours(who) for who in ours}
        contenders |= {peer.name: lambda peer=peer: turn_of_peer(peer) for peer in peers.present() if peer.web}
        interleave(size.rounds(3), contenders)
    return sample.all()


def _samples(sample: Samples, who: str) -> list[tuple[int, Sample, Sample]]:
    """Connections, and what is measured with so many."""
    return [
        (
            count,
            sample(f"{who}: webhook, {count} at a time, latency"),
            sample(f"{who}: webhook, {count} at a time", "1/s"),
        )
        for count in (1, 16)
    ]


def _measure(sample: Samples, who: str, url: str) -> None:
    warm_up = Sample("webhook", who, "ms")
    load.ask(url, _REQUEST, 16, size.seconds(2), warm_up, warm_up)
    for connections, latency, rate in _samples(sample, who):
        load.ask(url, _REQUEST, connections, size.seconds(4), latency, rate)
