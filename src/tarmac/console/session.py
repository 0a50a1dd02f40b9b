"""Signing in and out: the owner's token or an API key becomes a session cookie; so does a code, once."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.datastructures import Cookie
from litestar.params import FromQuery, QueryParameter
from litestar.response import Redirect

from flyte.errors import NotAuthenticatedError
from tarmac.api.authentication import SESSION_COOKIE, check_origin
from tarmac.api.plane import Gatekeeper
from tarmac.auth import SESSION
from tarmac.console.places import local
from tarmac.console.rendering import render

AnyRequest = Request[Any, Any, Any]
_Next = Annotated[str | None, QueryParameter(name="next")]


@get("/login", opt={"public": True}, include_in_schema=False, sync_to_thread=False)
def login_page(
    request: AnyRequest, authenticator: Gatekeeper, code: FromQuery[str | None] = None, to: _Next = None
) -> Response[Any]:
    """The form; with a code that is still good, straight in."""
    if code is None:
        return _form(to)
    try:
        principal = authenticator.redeem(code)
    except NotAuthenticatedError as error:
        return _form(to, str(error), 401)
    return _signed_in(request, authenticator.session(principal), to)


@post("/login", opt={"public": True}, include_in_schema=False, dto=None)
async def login(request: AnyRequest, authenticator: Gatekeeper) -> Response[Any]:
    check_origin(request)
    form = await request.form()
    to = str(form.get("next", ""))
    try:
        principal = authenticator.authenticate(str(form.get("token", "")).strip() or None, None)
    except NotAuthenticatedError as error:
        return _form(to, str(error), 401)
    return _signed_in(request, authenticator.session(principal), to)


@post("/logout", include_in_schema=False)
async def logout() -> Redirect:
    """Forget the session."""
    return Redirect("/login", status_code=303, cookies=[Cookie(key=SESSION_COOKIE, value="", path="/", max_age=0)])


def _form(to: str | None, error: str = "", status: int = 200) -> Response[str]:
    page = render("login.html", to=local(to), error=error)
    return Response(page, status_code=status, media_type="text/html")


def _signed_in(request: AnyRequest, session: str, to: str | None) -> Redirect:
    cookie = Cookie(
        key=SESSION_COOKIE,
        value=session,
        path="/",
        max_age=int(SESSION),
        httponly=True,
        samesite="lax",
        secure=request.scope["scheme"] == "https",
    )
    return Redirect(local(to), status_code=303, cookies=[cookie])
