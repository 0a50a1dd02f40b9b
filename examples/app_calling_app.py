"""Two apps: `menu` knows the prices, `till` asks it.

    flyte deploy examples/app_calling_app.py till_env
    curl "$(flyte get app till -o url)/total?item=tea&count=3"

`till` finds `menu` twice, to show both ways: by `menu_env.endpoint`, and as the parameter `menu_url`, which arrives in
the environment variable MENU_URL.
"""

import os
import pathlib

import httpx
from fastapi import FastAPI, HTTPException

import flyte
from flyte.app.extras import FastAPIAppEnvironment

PRICES = {"tea": 250, "coffee": 320}
"""Cents for one piece."""

image = flyte.Image.from_debian_base().with_pip_packages("fastapi", "uvicorn", "httpx")
menu = FastAPI(title="Menu")
menu_env = FastAPIAppEnvironment(name="menu", app=menu, image=image, requires_auth=False)
till = FastAPI(title="Till")
till_env = FastAPIAppEnvironment(
    name="till",
    app=till,
    image=image,
    requires_auth=False,
    depends_on=[menu_env],
    parameters=[flyte.app.Parameter(name="menu_url", value=flyte.app.AppEndpoint(app_name="menu"))],
)


@menu.get("/price/{item}")
async def price(item: str) -> int:
    if item not in PRICES:
        raise HTTPException(404, f"no such item: {item!r}")
    return PRICES[item]


@till.get("/total")
async def total(item: str, count: int = 1) -> dict[str, int]:
    """The price of `count` pieces, in cents."""
    async with httpx.AsyncClient(base_url=menu_env.endpoint) as client:
        response = await client.get(f"/price/{item}")
    if response.status_code == 404:
        raise HTTPException(404, response.json()["detail"])
    response.raise_for_status()
    return {"cents": response.json() * count}


@till.get("/menu-url")
async def menu_url() -> dict[str, str]:
    return {"endpoint": menu_env.endpoint, "parameter": os.environ["MENU_URL"]}


if __name__ == "__main__":
    flyte.init_from_config(root_dir=pathlib.Path(__file__).parent)
    print(flyte.deploy(till_env)[0].summary_repr())
