"""In the place of the page's `fastapi/task_calling_app.py`: an app that counts one up, and a task that asks it to."""

import pathlib

import httpx
from fastapi import FastAPI

import flyte
from flyte.app.extras import FastAPIAppEnvironment

image = flyte.Image.from_debian_base(python_version=(3, 12)).with_pip_packages("fastapi", "uvicorn", "httpx")
small = flyte.Resources(cpu=1, memory="512Mi")

app = FastAPI(title="Counting up", version="1.0.0")
app_env = FastAPIAppEnvironment(
    name="add-one-app",
    app=app,
    description="Counts its input up by one",
    image=image,
    resources=small,
    requires_auth=False,
)
task_env = flyte.TaskEnvironment(name="add_one_task_env", image=image, resources=small, depends_on=[app_env])


@app.get("/")
async def add_one(x: int) -> dict[str, int]:
    return {"result": x + 1}


@task_env.task
async def add_one_task(x: int) -> int:
    """Ask the app, by its endpoint, what comes after x."""
    print(f"the app is at {app_env.endpoint}")
    async with httpx.AsyncClient() as http:
        answer = await http.get(app_env.endpoint, params={"x": x})
    answer.raise_for_status()
    following: int = answer.json()["result"]
    return following


if __name__ == "__main__":
    flyte.init_from_config(root_dir=pathlib.Path(__file__).parent)
    for deployment in flyte.deploy(task_env):
        print(deployment.summary_repr())
