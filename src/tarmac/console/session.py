"""Signing in and out: the owner's token or an API key becomes a session cookie; so does a code, once."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

from litestar import Request, Response, get, post
from litestar.datastructures import Cookie
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter, SkipValidation
from litestar.response import Redirect

from flyte.errors import NotAllowedError, NotAuthenticatedError
from tarmac.api.authentication import SESSION_COOKIE, check_origin
from tarmac.api.plane import Gatekeeper
from tarmac.auth import SESSION
from tarmac.console.places import local
from tarmac.console.rendering import render
from tarmac.console.submitted import LARGEST_FORM, form

AnyRequest = Request[Any, Any, Any]
_Next = Annotated[str | None, QueryParameter(name="next")]
_App = Annotated[int | None, QueryParameter(name="app")]

AppPorts = NamedDependency[SkipValidation[range]]
"""The apps' ports, as a route's dependency."""

_LARGEST_SIGN_IN = 8192
"""Bytes of the sign-in form, the only form that is read before the caller's key is known."""


@get("/login", opt={"public": True}, include_in_schema=False, sync_to_thread=False)
def login_page(
    request: AnyRequest,
    authenticator: Gatekeeper,
    app_ports: AppPorts,
    code: FromQuery[str | None] = None,
    to: _Next = None,
    app: _App = None,
) -> Response[Any]:
    """The sign-in form; a valid code signs in at once. `app` is the port of the app to which `next` belongs."""
    if code is None:
        return _form(to, app)
    return _redeemed(request, authenticator, code, _place(request, app_ports, app, to))


@post("/login", opt={"public": True}, include_in_schema=False, dto=None, request_max_body_size=_LARGEST_SIGN_IN)
async def login(request: AnyRequest, authenticator: Gatekeeper, app_ports: AppPorts) -> Response[Any]:
    """Sign in with the key from the form, or with a code from `flyte console`."""
    fields = await form(request)
    to, app = fields.get("next"), _port(fields.get("app"))
    place = _place(request, app_ports, app, to)
    if code := fields.get("code"):  # only who has it can send it, wherever the form lay
        return _redeemed(request, authenticator, code, place)
    check_origin(request)
    try:
        principal = authenticator.authenticate(fields.get("token", "").strip() or None, None)
        session = authenticator.session(principal)
    except (NotAuthenticatedError, NotAllowedError) as error:
        return _form(to, app, str(error), 401)
    return _signed_in(request, session, place)


@post("/logout", include_in_schema=False, request_max_body_size=LARGEST_FORM)
async def logout(request: AnyRequest, authenticator: Gatekeeper) -> Redirect:
    """End the session; every copy of its cookie is refused from now on."""
    authenticator.end_session(request.cookies.get(SESSION_COOKIE, ""))
    return Redirect("/login", status_code=303, cookies=[Cookie(key=SESSION_COOKIE, value="", path="/", max_age=0)])


def _redeemed(request: AnyRequest, authenticator: Gatekeeper, code: str, place: str) -> Response[Any]:
    try:
        principal = authenticator.redeem(code)
    except NotAuthenticatedError as error:
        return _form(None, None, str(error), 401)
    return _signed_in(request, authenticator.session(principal), place)


def _port(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) <= 5 else None


def _place(request: AnyRequest, app_ports: range, app: int | None, to: str | None) -> str:
    """The page after signing in: a path of the console, or of the app on its port of the same host."""
    if app is None or app not in app_ports:
        return local(to)
    host = urlsplit(f"//{request.headers['host']}").hostname or ""
    return f"http://{f'[{host}]' if ':' in host else host}:{app}{local(to)}"


def _form(to: str | None, app: int | None, error: str = "", status: int = 200) -> Response[str]:
    page = render("login.html", to=local(to), app=app, error=error)
    return Response(page, status_code=status, media_type="text/html")


def _signed_in(request: AnyRequest, session: str, place: str) -> Response[Any]:
    cookie = Cookie(
        key=SESSION_COOKIE,
        value=session,
        path="/",
        max_age=int(SESSION),
        httponly=True,
        samesite="lax",
        secure=request.scope["scheme"] == "https",
    )
    if place.startswith("/"):
        return Redirect(place, status_code=303, cookies=[cookie])
    # a redirect after a form may not lead to another origin (`form-action 'self'`), a page that goes on may
    return Response(render("onward.html", place=place), status_code=200, media_type="text/html", cookies=[cookie])
