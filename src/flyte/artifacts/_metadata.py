"""`Metadata`: what is said of an artifact by those who make it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from flyte import wire
from flyte.artifacts._card import Card

KIND_KEY = "flyte.io/kind"
"""The key of `attrs` that says the kind, before `kind=` does."""

Kind = Literal["model", "data", "generic"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """The name of an artifact, its version, and what else is known of it.

    Raises ValueError for a name or version that is not allowed. Without a version the platform chooses one.
    """

    name: str
    version: str | None = None
    description: str | None = None
    attrs: Mapping[str, str] | None = None
    card: Card | None = None
    kind: Kind | None = None

    def __post_init__(self) -> None:
        wire.ARTIFACT_NAME.check(self.name)
        if self.version is not None:
            wire.ARTIFACT_VERSION.check(self.version)
        if self.effective_kind not in ("model", "data", "generic"):
            raise ValueError(f"kind={self.effective_kind!r} of the artifact {self.name!r} is model, data or generic")

    @property
    def effective_kind(self) -> Any:
        """The kind that `attrs` or `kind=` says; "generic" without either."""
        return (self.attrs or {}).get(KIND_KEY) or self.kind or "generic"

    @classmethod
    def create_model_metadata(
        cls,
        *,
        name: str,
        version: str | None = None,
        description: str | None = None,
        card: Card | None = None,
        framework: str | None = None,
        model_type: str | None = None,
        architecture: str | None = None,
        task: str | None = None,
        modality: tuple[str, ...] = ("text",),
        serial_format: str = "safetensors",
        attrs: Mapping[str, str] | None = None,
    ) -> Metadata:
        """The metadata of a model: its facts become `attrs`, before those that are given."""
        facts = {
            KIND_KEY: "model",
            "framework": framework or "",
            "model_type": model_type or "",
            "architecture": architecture or "",
            "task": task or "",
            "modality": ",".join(modality),
            "serial_format": serial_format,
        }
        merged = {**(attrs or {}), **facts}
        return cls(name=name, version=version, description=description, card=card, attrs=merged)

    def to_wire(self) -> wire.ArtifactSpec:
        card = None
        if self.card is not None:
            card = wire.ArtifactCard(uri=self.card.uri, format=self.card.format, card_type=self.card.card_type)
        return wire.ArtifactSpec(
            name=self.name,
            version=self.version,
            description=self.description or "",
            kind=self.effective_kind,
            attrs={**({KIND_KEY: self.kind} if self.kind else {}), **(self.attrs or {})},
            card=card,
        )
