"""`python -m benchmarks [--quick] [NAME …]`: measure, print tables, keep the results, compare them with the last ones.

`--quick` measures next to nothing and keeps no results: it shows that everything runs through.
`python -m benchmarks table` measures nothing: it puts the last results beside the targets and the peers, in README.md.
`python -m benchmarks peers [NAME …]` makes the environments of the other systems that take part.
"""

from __future__ import annotations

import sys
import time
import traceback

from benchmarks import house, peers, size, targets
from benchmarks.cases import CASES
from benchmarks.machine import where
from benchmarks.sample import compare, save, table


def main(names: list[str]) -> int:
    if names == ["table"]:
        print(targets.write())
        return 0
    if names[:1] == ["peers"]:
        return peers.install(names[1:])
    if "--quick" in names:
        size.QUICK = True
        names = [name for name in names if name != "--quick"]
    unknown = [name for name in names if name not in CASES]
    if unknown:
        print(f"no benchmark {unknown[0]!r}; there are: {', '.join(CASES)}", file=sys.stderr)
        return 2
    facts = where()
    print(f"{facts['cpu']}, {facts['cores']} cores, Python {facts['python']}, commit {facts['commit']}")
    print(f"load {facts['load']}; requests come from {facts['load generator']}")
    print("\n".join(peers.missing()))
    failed = []
    try:
        for name in names or CASES:
            try:
                _measure(name)
            except Exception:  # noqa: BLE001 -- the other cases take half an hour and do not depend on this one
                traceback.print_exc()
                failed.append(name)
    finally:
        house.clear()
    if failed:
        print(f"not measured, for the reasons above: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _measure(name: str) -> None:
    began = time.monotonic()
    samples = [sample for sample in CASES[name]() if sample.values]
    print(f"\n## {name}, measured in {time.monotonic() - began:.0f} s\n\n{table(samples)}", flush=True)
    if size.QUICK:
        return
    if changes := compare(name, samples):
        print(f"\nagainst the last result:\n{changes}")
    print(f"\n→ {save(name, samples)}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
