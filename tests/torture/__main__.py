"""`python -m tests.torture`: see scripts/torture."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from tests.platform_fixture import place
from tests.torture.figures import figures
from tests.torture.history import record
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
    """No runs of every kind, but a few kinds of calls, each of which is written down."""
    settings = {"spare_workers": "1", **({"database_url": given.database_url} if given.database_url else {})}
    with place(settings) as platform:
        found = {"minutes": given.minutes, "seed": given.seed, **record(platform, given.minutes * 60, given.seed)}
    text = json.dumps(found, indent=2, ensure_ascii=False)
    print(text)
    if given.out:
        given.out.write_text(text + "\n")
    return 1 if found["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
