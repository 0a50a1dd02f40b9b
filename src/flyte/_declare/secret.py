"""`Secret`: which of the platform's secrets a process gets, and how."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from flyte import rules, wire

_ENV_NAME = re.compile(r"[A-Z_][A-Z0-9_]*\Z")
_SECRET_MOUNT = Path(rules.SECRETS_FOLDER)


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret by its name, given to the process as an environment variable.

    The variable is KEY in upper case with `_` for `-` (with GROUP_ in front where there is a group), or `as_env_var`.
    """

    key: str
    group: str | None = None
    mount: Path | None = None
    """`/etc/flyte/secrets`: the value is also a file there, named KEY (GROUP/KEY with a group). Only processes of
    environments that mount the secret can see it. There is no file in local mode, nor where the platform's machine has
    no mount namespaces: a warning says so."""
    as_env_var: str | None = None

    def __post_init__(self) -> None:
        if self.mount is not None and Path(self.mount) != _SECRET_MOUNT:
            raise ValueError(f"a secret can be mounted at {_SECRET_MOUNT} only, not at {self.mount}")
        for name in (self.key, self.group):
            if name is not None:
                rules.SECRET_NAME.check(name)
        if self.as_env_var is not None and not _ENV_NAME.match(self.as_env_var):
            raise ValueError(
                f"{self.as_env_var!r} is not a valid name for a secret's variable: upper-case letters, digits and _"
            )

    @property
    def env_var(self) -> str:
        """The environment variable that gets the value."""
        if self.as_env_var:
            return self.as_env_var
        whole = f"{self.group}_{self.key}" if self.group else self.key
        return re.sub(r"[^A-Z0-9_]", "_", whole.upper())

    @property
    def file(self) -> str:
        """The file's path within the folder where it is mounted."""
        return f"{self.group}/{self.key}" if self.group else self.key

    def is_file_here(self) -> bool:
        """Whether this machine has the file that a mount is to make."""
        return (_SECRET_MOUNT / self.file).is_file()

    def to_wire(self) -> wire.SecretSpec:
        mount = str(self.mount) if self.mount else None
        return wire.SecretSpec(key=self.key, group=self.group, env=self.env_var, mount=mount)


SecretRequest = str | Secret | list[str | Secret]
"""What `secrets=` takes: a name, a Secret, or a list of either."""


def secrets_of(request: SecretRequest | Iterable[str | Secret] | None) -> tuple[Secret, ...]:
    """The secrets that `secrets=` names. Raises TypeError for anything else."""
    if request is None:
        return ()
    if not isinstance(request, str | Secret | Iterable):
        raise TypeError(f"Expected secrets to be of type SecretRequest, got {type(request)}")
    items = [request] if isinstance(request, str | Secret) else list(request)
    for item in items:
        if not isinstance(item, str | Secret):
            raise TypeError(f"Expected secrets to be of type SecretRequest, got {type(item)} among them")
    return tuple(Secret(item) if isinstance(item, str) else item for item in items)
