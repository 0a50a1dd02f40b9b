"""`Card`: a page or picture that describes an artifact."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flyte._sync import syncable_classmethod
from flyte.io import File

CardType = Literal["model", "data", "generic"]
CardFormat = Literal["html", "md", "json", "yaml", "csv", "tsv", "png", "jpg", "jpeg"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A file by its path or address."""

    uri: str
    format: CardFormat = "html"
    card_type: CardType = "generic"

    @syncable_classmethod
    @classmethod
    async def create_from(
        cls,
        *,
        content: str | None = None,
        local_path: Path | str | None = None,
        format: CardFormat = "html",
        card_type: CardType = "generic",
    ) -> Card:
        """A card of a text, or of a file of this machine, which is kept where the platform finds it.

        Raises ValueError without either, and FileNotFoundError.
        """
        if content is not None:
            return await asyncio.to_thread(_of_text, content, format, card_type)
        if local_path is None:
            raise ValueError("a card is made of content= or local_path=")
        file = await File[str].from_local(local_path)
        return Card(uri=file.path, format=format, card_type=card_type)


def _of_text(content: str, format: CardFormat, card_type: CardType) -> Card:
    with tempfile.TemporaryDirectory(prefix="flyte-card-") as folder:
        path = Path(folder, f"{card_type}.{format}")
        path.write_text(content)
        kept: File[str] = File.from_local_sync(path, str(File.new_remote(path.name).path) if _is_local() else None)
    return Card(uri=kept.path, format=format, card_type=card_type)


def _is_local() -> bool:
    """Whether `from_local` would leave the file where it is, as it does in local mode."""
    from flyte._session import state

    return state.current().client is None
