"""A link that opens the console signed in."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

if TYPE_CHECKING:
    from flyte._client import Client


async def signed_in_url(client: Client, run: str | None = None) -> str:
    """An address that signs a browser in, once, and leads to the run's page or the list of runs.

    Raises RunNotFoundError for a run that is not there, before anything is opened.
    """
    place = urlsplit((await client.get_run(run)).url).path if run else "/"
    url = (await client.create_login_code()).url
    joint = "&" if "?" in url else "?"
    return url if place == "/" else f"{url}{joint}{urlencode({'next': place})}"
