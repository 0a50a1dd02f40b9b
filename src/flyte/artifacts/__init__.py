"""Artifacts: files, folders and data frames that a platform knows by a name and a version.

A task marks what it returns with `new`, and is declared with `produces_artifacts=True`. When it has succeeded, the
platform has the artifact; `flyte.remote.Artifact` finds it, and is an input of later runs.
"""

from __future__ import annotations

from typing import Any

from flyte._absent import missing
from flyte.artifacts._card import Card, CardFormat, CardType
from flyte.artifacts._metadata import KIND_KEY, Kind, Metadata
from flyte.artifacts._new import Artifact, new

__all__ = ["KIND_KEY", "Artifact", "Card", "CardFormat", "CardType", "Kind", "Metadata", "new"]


def __getattr__(name: str) -> Any:
    raise missing("flyte.artifacts", name)
