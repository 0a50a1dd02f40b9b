"""The links of an action, with the names that were not known when it was submitted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import quote

import msgspec

from flyte import wire
from tarmac.store import ActionRow, AttemptRow


def links_of(
    declared: Iterable[wire.ActionLink], run: wire.Run, row: ActionRow, attempts: Sequence[AttemptRow]
) -> list[wire.ActionLink]:
    """The declared links of an action as they can be opened. `{{.podName}}` is the process of its last attempt."""
    unit = attempts[-1].unit if attempts else None
    names = (row.run, row.name, row.parent or "", unit or "", run.project, run.domain)
    values = dict(zip(wire.LINK_WORDS, names, strict=True))
    return [msgspec.structs.replace(link, uri=_replaced(link.uri, values)) for link in declared]


def _replaced(uri: str, values: dict[str, str]) -> str:
    for word, value in values.items():
        uri = uri.replace(f"{{{{.{word}}}}}", quote(value, safe=""))
    return uri
