"""`python -m tests.torture`: see scripts/torture."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
from pathlib import Path

from tests.platform_fixture import place
from tests.torture.disk import small_disk
from tests.torture.fail_over import pair
from tests.torture.figures import figures
from tests.torture.history import on_small_disk, on_two_servers, record
from tests.torture.killing import WEIGHTS
from tests.torture.kinds import KINDS
from tests.torture.round import SETTINGS, Plan, torture


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/torture", description="Hurt a platform, and see that nothing is lost."
    )
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database-url", default="", help="postgresql://… (an empty database); else SQLite")
    parser.add_argument("--out", type=Path, help="write the figures into this file, too")
    parser.add_argument(
        "--only", action="append", choices=sorted(KINDS), help="only runs of this kind; may be repeated"
    )
    parser.add_argument("--kill", action="append", choices=sorted(WEIGHTS), help="only these strikes; may be repeated")
    parser.add_argument("--history", action="store_true", help="clients of the API whose answers are judged")
    parser.add_argument(
        "--fail-over", action="store_true", help="with --history: on a PostgreSQL server that dies, and its standby"
    )
    parser.add_argument("--keep", type=Path, help="leave a copy of all that was written in this new folder")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    if given.history:
        return history(given)
    settings = {**SETTINGS, **({"database_url": given.database_url} if given.database_url else {})}
    plan = Plan(given.minutes * 60, given.seed, given.only or KINDS, given.kill or WEIGHTS)
    with place(settings) as platform:
        try:
            found = figures(torture(platform, plan), given.database_url)
        except BaseException:
            print(platform.log_tails(40), file=sys.stderr)
            raise
        if given.keep:
            shutil.copytree(platform.home.parent, given.keep, ignore=shutil.ignore_patterns("*.sock"))
        if found["violations"]:
            print(platform.log_tails(40), file=sys.stderr)
    found = {"minutes": given.minutes, "seed": given.seed, **found}
    text = json.dumps(found, indent=2, ensure_ascii=False)
    print(text)
    if given.out:
        given.out.write_text(text + "\n")
    return 1 if found["violations"] else 0


def history(given: argparse.Namespace) -> int:
    """No runs of every kind, but a few kinds of calls, each of which is written down.

    The database is hurt, too: SQLite by a disk that is full or slow, where we are root, and PostgreSQL by a fail-over.
    """
    with contextlib.ExitStack() as stack:
        servers = stack.enter_context(pair()) if given.fail_over else None
        url = servers.url if servers else given.database_url
        platform = stack.enter_context(place({"spare_workers": "1", **({"database_url": url} if url else {})}))
        hazards = on_two_servers(servers) if servers else {}
        if not url and os.getuid() == 0:
            disk = stack.enter_context(small_disk(platform.home, 64 + round(24 * given.minutes)))
            hazards = on_small_disk(platform, disk)
        found = record(platform, given.minutes * 60, given.seed, hazards)
    found = {"minutes": given.minutes, "seed": given.seed, **found}
    text = json.dumps(found, indent=2, ensure_ascii=False)
    print(text)
    if given.out:
        given.out.write_text(text + "\n")
    return 1 if found["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
