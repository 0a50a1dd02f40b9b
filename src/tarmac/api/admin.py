"""The platform itself: health, who am I, secrets, keys, projects, and the code that opens the console."""

from __future__ import annotations

from typing import Any

from litestar import Request, Router, delete, get, post, put
from litestar.params import JSONBody

from flyte import wire
from flyte.errors import InvalidInputError
from flyte.wire import DEFAULT_DOMAIN, DEFAULT_PROJECT
from tarmac.api.parameters import Domain, Limit, Name, Project
from tarmac.api.plane import By, Control, Gatekeeper


@get("/health", summary="Is the platform well?", opt={"public": True}, sync_to_thread=False)
def health(control: Control) -> wire.Health:
    """The platform's version and its parts; the only route that needs no key."""
    return control.health()


@get("/me", summary="Who am I?", sync_to_thread=False)
def me(request: Request[Any, Any, Any]) -> wire.Me:
    """The caller's name and kind."""
    return wire.Me(subject=request.user.subject, kind=request.user.kind)


@get("/secrets", summary="List secrets")
async def list_secrets(
    control: Control, project: Project = DEFAULT_PROJECT, domain: Domain = DEFAULT_DOMAIN, limit: Limit = 100
) -> list[wire.SecretInfo]:
    """The names of all secrets; a value is never returned."""
    return (await control.secrets.list(project, domain))[:limit]


@post("/secrets", status_code=201, summary="Create a secret")
async def create_secret(data: JSONBody[wire.SecretRequest], control: Control, by: By) -> wire.SecretInfo:
    """Stores the value encrypted; an existing secret gets the new value."""
    return await control.secrets.create(data, by)


@get("/secrets/{name:str}", summary="Look at a secret")
async def get_secret(
    name: Name, control: Control, project: Project = DEFAULT_PROJECT, domain: Domain = DEFAULT_DOMAIN
) -> wire.SecretInfo:
    """When the secret was created and changed; its value is never returned."""
    return await control.secrets.get(project, domain, name)


@delete("/secrets/{name:str}", status_code=204, summary="Delete a secret")
async def delete_secret(
    name: Name, control: Control, by: By, project: Project = DEFAULT_PROJECT, domain: Domain = DEFAULT_DOMAIN
) -> None:
    """Running processes keep the value; processes that start later do not have it."""
    await control.secrets.delete(project, domain, name, by)


@get("/keys", summary="List API keys")
async def list_keys(control: Control, limit: Limit = 100) -> list[wire.KeyInfo]:
    """The names of all keys and when each was last used; a key itself is never returned again."""
    return (await control.keys.list())[:limit]


@post("/keys", status_code=201, summary="Create an API key")
async def create_key(data: JSONBody[wire.KeyRequest], control: Control, by: By) -> wire.KeyInfo:
    """The answer contains the key, which cannot be read again."""
    return await control.keys.create(data, by)


@delete("/keys/{id:str}", status_code=204, summary="Delete an API key")
async def delete_key(id: Name, control: Control, by: By) -> None:
    """The key is refused from now on."""
    await control.keys.delete(id, by)


@get("/projects", summary="List projects")
async def list_projects(control: Control, limit: Limit = 100) -> list[wire.Project]:
    return (await control.projects.list())[:limit]


@post("/projects", status_code=201, summary="Create a project")
async def create_project(data: JSONBody[wire.Project], control: Control, by: By) -> wire.Project:
    return await control.projects.create(data, by)


@put("/projects/{id:str}", status_code=200, summary="Change a project")
async def update_project(id: Name, data: JSONBody[wire.Project], control: Control, by: By) -> wire.Project:
    """The body replaces the project's record; an archived project is only left out of lists."""
    if data.id != id:
        raise InvalidInputError(
            f"the body is the project {data.id!r}, the address is of {id!r}; a project keeps its id"
        )
    return await control.projects.update(data, by)


@post("/login-codes", status_code=201, summary="Open the console")
async def create_login_code(
    request: Request[Any, Any, Any], control: Control, authenticator: Gatekeeper
) -> wire.LoginCode:
    """A code that opens a browser's session once, within a few minutes; `flyte console` opens its address."""
    code = authenticator.login_code(request.user)
    return wire.LoginCode(code=code, url=f"{control.endpoint}/login?code={code}")


ROUTES = Router(
    "/v1",
    route_handlers=[
        health,
        me,
        list_secrets,
        create_secret,
        get_secret,
        delete_secret,
        list_keys,
        create_key,
        delete_key,
        list_projects,
        create_project,
        update_project,
        create_login_code,
    ],
    tags=["platform"],
)
