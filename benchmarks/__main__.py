"""`python -m benchmarks [NAME …]`: measure, print tables, keep the results and say how they stand against the last.

`python -m benchmarks table` measures nothing: it puts the last results beside the targets, in README.md.
"""

from __future__ import annotations

import sys

from benchmarks import targets
from benchmarks.cases import CASES
from benchmarks.sample import compare, save, table, where


def main(names: list[str]) -> int:
    if names == ["table"]:
        print(targets.write())
        return 0
    unknown = [name for name in names if name not in CASES]
    if unknown:
        print(f"no benchmark {unknown[0]!r}; there are: {', '.join(CASES)}", file=sys.stderr)
        return 2
    facts = where()
    print(f"{facts['cpu']}, {facts['cores']} cores, Python {facts['python']}, commit {facts['commit']}")
    for name in names or CASES:
        samples = [sample for sample in CASES[name]() if sample.values]
        print(f"\n## {name}\n\n{table(samples)}")
        if changes := compare(name, samples):
            print(f"\nagainst the last result:\n{changes}")
        print(f"\n→ {save(name, samples)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
