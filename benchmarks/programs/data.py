"""What goes from one task to the next: a large file, and a frame of a million rows."""

import os
import shutil
import subprocess
import tempfile
import time

import numpy
import pandas

import flyte
from flyte.io import DataFrame, File

env = flyte.TaskEnvironment(name="bench-data")

PIECE = 1 << 20


@env.task
def send(size: int) -> tuple[File[bytes], float, float]:
    """The file, when it began to be sent, and the seconds that `cp` takes for it."""
    folder = tempfile.mkdtemp()
    path = os.path.join(folder, "large.bin")
    with open(path, "wb") as file:
        for _ in range(size // PIECE):
            file.write(os.urandom(PIECE))
    os.sync()
    began = time.time()
    subprocess.run(["cp", "--reflink=never", path, f"{path}.copy"], check=True)
    copied = time.time() - began
    os.remove(f"{path}.copy")
    os.sync()
    began = time.time()
    sent: File[bytes] = File.from_local_sync(path)
    shutil.rmtree(folder)
    return sent, began, copied


@env.task
async def receive(file: File[bytes]) -> tuple[int, float]:
    """The number of bytes, and when the last was read."""
    count = 0
    async with file.open("rb") as opened:
        while piece := await opened.read(PIECE):
            count += len(piece)
    return count, time.time()


@env.task
async def file(size: int) -> list[float]:
    """Seconds from the sender's call to the receiver's last byte, and of `cp`."""
    sent, began, copied = await send.aio(size)
    count, ended = await receive(sent)
    assert count == size // PIECE * PIECE
    return [ended - began, copied]


@env.task
async def make_frame(rows: int) -> tuple[DataFrame, float]:
    numbers = numpy.random.default_rng(1)
    made = pandas.DataFrame({"id": range(rows), **{name: numbers.random(rows) for name in "abc"}})
    return DataFrame.wrap_df(made), time.time()


@env.task
async def read_frame(df: DataFrame) -> tuple[int, float]:
    read = await df.open(pandas.DataFrame).all()
    return int(read["id"].sum()), time.time()


@env.task
async def frame(rows: int) -> float:
    """Seconds from the frame of one task to the frame of the next."""
    made, began = await make_frame(rows)
    total, ended = await read_frame(made)
    assert total == rows * (rows - 1) // 2
    return ended - began
