"""The queries of queries.sql in the dialect of one database."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from flyte.wire import TERMINAL, ActionPhase
from tarmac.store.tables import TABLES

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_COMMENT = re.compile(r"^\s*--.*\n?", re.MULTILINE)
_WORD = re.compile(r"\{(\w+)(?: (\w+))?(?: (\w+))?\}")
_PARAMETER = re.compile(r"(?<![:\w]):([a-z_]\w*)")


def _listed(phases: list[ActionPhase]) -> str:
    return ", ".join(f"'{phase.value}'" for phase in sorted(phases))


_PHASES = {
    "terminal": _listed([phase for phase in ActionPhase if phase in TERMINAL]),
    "live": _listed([phase for phase in ActionPhase if phase not in TERMINAL]),
}


@functools.cache
def templates() -> dict[str, str]:
    """Name → text, as queries.sql has them."""
    parts = _NAME.split(Path(__file__).with_name("queries.sql").read_text())
    return {name: _COMMENT.sub("", text).strip() for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def part(name: str, **words: str) -> str:
    """A filter, for `Queries.compose`."""
    return fill(templates()[name], **words)


def fill(template: str, **words: str) -> str:
    for word, value in words.items():
        template = template.replace(f"{{{word}}}", value)
    return template


class Queries:
    """Every query by name, for one database.

    `words` replace the names in braces, `parameter` is the form of a parameter, such as `%({})s`.
    """

    def __init__(self, words: Mapping[str, str], parameter: str) -> None:
        self._words = {**_PHASES, **words}
        self._parameter = parameter
        self._texts: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        """The text of a query without filters."""
        text = self._texts.get(name)
        if text is None:
            text = self._texts[name] = self._translated(templates()[name])
        return text

    def compose(self, name: str, filters: Iterable[str] = (), **words: str) -> str:
        """A query with filters (see `part`) and words that the caller chooses."""
        text = fill(templates()[name], filters=" ".join(filters))
        return self._translated(fill(text, **words))

    def _translated(self, template: str) -> str:
        return _PARAMETER.sub(lambda found: self._parameter.format(found[1]), self.words(template))

    def words(self, template: str) -> str:
        """`template` with this database's words; its parameters are left as they are."""
        return _WORD.sub(lambda found: self._word(found[1], found[2], found[3]), template)

    def _word(self, word: str, table: str | None, prefix: str | None) -> str:
        if table is None:
            return self._words[word]
        if word == "columns":
            return ", ".join(f"{prefix}.{column}" if prefix else column for column in TABLES[table].columns)
        if word == "values":
            return ", ".join(f":{parameter}" for parameter in TABLES[table].parameters)
        return ", ".join(f"{column} = excluded.{column}" for column in TABLES[table].replaced)
