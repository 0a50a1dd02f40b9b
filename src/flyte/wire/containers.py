"""Container images: what `flyte build --oci` and `--push` order from the program that makes them, and what it answers.

Both are lines of JSON between two processes of one user; the platform takes no part in it.
"""

from __future__ import annotations

from msgspec import field

from flyte.wire.specs import EnvironmentSpec, Record

__all__ = ["ContainerImage", "ContainerNews", "ContainerOrder", "ContainerSpec"]


class ContainerSpec(Record, frozen=True, kw_only=True):
    """One image, as a container engine is to run it."""

    environment: EnvironmentSpec
    files: dict[str, str] = field(default_factory=dict)
    """Absolute path in the container → file of this machine."""
    workdir: str = "/root"
    command: list[str] = field(default_factory=list)
    """What runs where the engine is told nothing else."""
    port: int | None = None
    """What an app listens on."""


class ContainerOrder(Record, frozen=True, kw_only=True):
    images: list[ContainerSpec]
    layout: str = ""
    """The folder of the OCI layout; empty: it is kept only until it was pushed."""
    base: str = ""
    """The folder of the OCI layout whose image is built on; empty: the images hold files of this machine alone."""
    push: str = ""
    """`HOST/NAME:TAG` of the registry that gets the image; empty: none."""
    force: bool = False
    """Find the newest versions, also for what was resolved before."""
    parent: int
    """The process that ordered it, without which the program ends."""


class ContainerImage(Record, frozen=True, kw_only=True):
    """One image that was made."""

    environment: str
    digest: str
    """Of its manifest: `sha256:…`."""
    python: str
    """Version of its interpreter."""
    bytes: int
    """Of its layers, compressed."""
    reference: str = ""
    """Where it was pushed, with its digest; empty: nowhere."""


class ContainerNews(Record, frozen=True, kw_only=True):
    """One line of the answer: progress, a warning, an image that was made, or, at last, an error."""

    message: str = ""
    warning: str = ""
    image: ContainerImage | None = None
    error: str = ""
