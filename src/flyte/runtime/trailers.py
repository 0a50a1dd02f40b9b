"""HTTP as an app's server reads it: what a client sends behind a body does not count as headers.

A chunked body may be followed by *trailers*. uvicorn adds them to the request's headers, where they could say who the
caller is; the gateway, which keeps clients from saying that, passes them on as they are.
"""

from __future__ import annotations

from typing import Any


def without_trailers(config: Any) -> None:
    """Have the server of this `uvicorn.Config` ignore trailers, if it would read them as headers.

    That is its default protocol, `httptools`; `h11` and others that the user names do not.
    """
    if config.http not in ("auto", "httptools"):
        return
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    except ImportError:  # without httptools `auto` is h11
        return

    class Protocol(HttpToolsProtocol):
        def on_headers_complete(self) -> None:
            super().on_headers_complete()
            if "path" in self.scope:  # else it is a WebSocket's handshake, whose headers are read later
                self.headers = []  # the request has the other list; what comes from now on is a trailer

    config.http = Protocol
