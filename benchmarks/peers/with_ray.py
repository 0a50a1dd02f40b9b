"""Ray on this machine alone: two CPUs, no dashboard, workers that are there before anything is measured."""

import os
import sys

import ray
import turns


@ray.remote
def add(x: int) -> int:
    return x + 1


def begin() -> None:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=f"{os.environ['BENCH_HOME']}/r")


def run() -> int:
    return ray.get(add.remote(1))


def fan(number: int) -> int:
    return sum(ray.get([add.remote(i) for i in range(number)]))


def web(port: int) -> None:
    import uvicorn
    from fastapi import Body, FastAPI

    app = FastAPI()

    @app.post("/run")
    async def run_and_wait(x: int = Body(embed=True)) -> dict:
        return {"status": "succeeded", "outputs": [await add.remote(x)]}

    uvicorn.run(app, port=port, log_level="error")


if __name__ == "__main__":
    begin()
    try:
        if sys.argv[1] == "web":
            turns.warm_up(run, fan)
            web(int(sys.argv[2]))
        else:
            turns.serve(run, fan)
    finally:
        ray.shutdown()
