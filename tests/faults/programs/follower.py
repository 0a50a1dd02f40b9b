"""A client that goes on while the platform is hurt: `follower.py WHAT WHERE …`, one line for each thing it has seen."""

from __future__ import annotations

import sys
from pathlib import Path

import faulty  # type: ignore[import-not-found]

import flyte


def say(*words: object) -> None:
    print(*words, flush=True)


def main(what: str, where: str, more: list[str]) -> None:
    flyte.init_from_config(root_dir=Path(__file__).parent)
    match what:
        case "wait":
            run = flyte.run(faulty.gate, where=where, opens=more[0])
        case "stream":
            run = flyte.run(faulty.fan, where=where, width=int(more[0]), seconds=float(more[1]))
        case "logs":
            run = flyte.run(faulty.talk, where=where, lines=int(more[0]), pause=float(more[1]))
        case _:
            run = flyte.run(faulty.leaf, where=where, n=int(more[0]))
    say("started", run.name)
    if what == "stream":
        for update in run.stream(actions="all"):
            say("update", update.seq, update.action, update.phase.value)
    if what == "logs":
        for line in run.get_logs(follow=True):
            say("log", line)
    run.wait(quiet=True)
    say("ended", run.phase.value)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
