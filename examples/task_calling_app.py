"""A task that calls an app: the app adds one, the task asks it to.

    flyte run examples/task_calling_app.py add_one_task --x 41

`depends_on` brings the app up before the task can run; `app_env.endpoint` is its address wherever it is asked.
"""

import pathlib

import httpx
from fastapi import FastAPI

import flyte
from flyte.app.extras import FastAPIAppEnvironment

image = flyte.Image.from_debian_base().with_pip_packages("fastapi", "uvicorn", "httpx")
app = FastAPI(title="Add one")
app_env = FastAPIAppEnvironment(
    name="add-one-app",
    app=app,
    description="Adds one to x",
    image=image,
    resources=flyte.Resources(cpu=1, memory="512Mi"),
    requires_auth=False,
)
task_env = flyte.TaskEnvironment(
    name="add_one_task_env",
    image=image,
    resources=flyte.Resources(cpu=1, memory="512Mi"),
    depends_on=[app_env],
)


@app.get("/")
async def add_one(x: int) -> dict[str, int]:
    return {"result": x + 1}


@task_env.task
async def add_one_task(x: int) -> int:
    """Ask the app for x + 1."""
    print(f"asking {app_env.endpoint} for {x} + 1")
    async with httpx.AsyncClient() as client:
        response = await client.get(app_env.endpoint, params={"x": x})
    response.raise_for_status()
    result: int = response.json()["result"]
    return result


if __name__ == "__main__":
    flyte.init_from_config(root_dir=pathlib.Path(__file__).parent)
    deployment = flyte.deploy(task_env)[0]
    print(deployment.summary_repr())
    run = flyte.run(add_one_task, x=41)
    print(run.url)
    run.wait()
    print(run.outputs()[0])
