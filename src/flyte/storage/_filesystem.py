"""The file systems of fsspec, with the settings in force."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flyte._session import state as _state
from flyte.errors import InitializationError
from flyte.object_store import SCHEMES, Storage, scheme_of, settings_for

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


def settings_in_force() -> Storage | None:
    """What `flyte.init(storage=)` was given."""
    return _state.current().storage


def get_configured_fsspec_kwargs(protocol: str | None = None, anonymous: bool = False) -> dict[str, Any]:
    """The arguments of a file system of that protocol (`s3`, `gs`, `abfs`, …): the settings in force.

    Without a protocol those of `flyte.init(storage=)`; none for protocols that have no settings.
    """
    given = settings_in_force()
    if protocol is None:
        return {} if given is None else given.get_fsspec_kwargs(anonymous)
    if protocol not in SCHEMES:
        return {}
    return settings_for(f"{protocol}://", given).get_fsspec_kwargs(anonymous)


def get_underlying_filesystem(
    protocol: str | None = None, anonymous: bool = False, path: str | None = None, **kwargs: Any
) -> AbstractFileSystem:
    """The file system of fsspec for a protocol, or for that of a path. `anonymous` sends no credentials.

    S3, GCS and Azure are obstore's. Raises InitializationError where fsspec or obstore is not installed.
    """
    protocol = protocol or scheme_of(path or "") or "file"
    try:
        import fsspec

        if protocol in SCHEMES:
            from obstore.fsspec import register

            register(SCHEMES)
    except ImportError as error:
        raise InitializationError(
            "NoFsspec",
            "user",
            f"the file system of {protocol}:// needs the package {error.name}: pip install 'flyte[storage]', or name "
            "fsspec and obstore in the task's image",
        ) from None
    return fsspec.filesystem(protocol, **{**get_configured_fsspec_kwargs(protocol, anonymous), **kwargs})
