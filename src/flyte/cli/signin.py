"""A link that opens the console signed in."""

from __future__ import annotations

import os
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit

if TYPE_CHECKING:
    from flyte._client.client import Client


async def signed_in_url(client: Client, run: str | None = None) -> str:
    """An address that signs a browser in, once, and leads to the run's page or the list of runs.

    Raises RunNotFoundError for an unknown run, before anything is opened.
    """
    place = urlsplit((await client.get_run(run)).url).path if run else "/"
    url = (await client.create_login_code()).url
    joint = "&" if "?" in url else "?"
    return url if place == "/" else f"{url}{joint}{urlencode({'next': place})}"


def page_for(url: str) -> Path:
    """A page that only this user can read, and that signs in at `url` when a browser opens it.

    A browser is started with the page's name on its command line, which every user of the machine can read; the code
    stands in the file. The file takes the place of the last one.
    """
    parts = urlsplit(url)
    fields = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' for name, value in parse_qsl(parts.query)
    )
    target = escape(f"{parts.scheme}://{parts.netloc}{parts.path}")
    file = Path.home() / ".flyte" / "sign-in.html"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)  # its mode, or a link in its place, is not taken over
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as page:
        page.write(
            f'<!doctype html><meta charset="utf-8"><title>Signing in</title><form method="post" action="{target}">'
            f"{fields}<button>Open the console</button></form><script>document.forms[0].submit()</script>\n"
        )
    return file
