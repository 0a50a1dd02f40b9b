"""A large file and a data frame from one task to the next."""

from __future__ import annotations

from benchmarks import house, size
from benchmarks.sample import Sample, Samples, interleave

GIB = 1 << 30
ROWS = 1_000_000


def data() -> list[Sample]:
    sample = Samples("data")
    large, rows = size.of(GIB, 16 << 20), size.of(ROWS, 10_000)
    ours = sample(f"ours: a File of {large >> 20:,} MiB, task → task", "MB/s")
    cp = sample(f"cp: {large >> 20:,} MiB", "MB/s")
    frame = sample(f"ours: a frame of {rows:,} rows, task → task")

    def move() -> None:
        took, copied = house.run(env, "bench-data.file", {"size": large})["outputs"][0]
        ours.values.append(large / took / 1e6)
        cp.values.append(large / copied / 1e6)

    def pass_on() -> None:
        frame.values.append(house.run(env, "bench-data.frame", {"rows": rows})["outputs"][0] * 1e3)

    with house.running() as env:
        house.deploy(env, "data.py")
        house.run(env, "bench-data.frame", {"rows": 10})  # the code is imported
        interleave(size.rounds(5), {"file": move, "frame": pass_on})
    return sample.all()
