"""Object stores by URL: S3 (`s3://`), Google Cloud Storage (`gs://`) and Azure (`az://`, `abfs://`, `abfss://`).

Both the platform and programs open stores here, so that one set of settings and one set of messages serves both. The
library `obstore` speaks the protocols; it is imported when the first store is opened. Credentials are the settings'
own, else those that the environment names (`AWS_ACCESS_KEY_ID`, `GOOGLE_APPLICATION_CREDENTIALS`,
`AZURE_STORAGE_ACCOUNT_KEY`, …), else those of the machine.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from flyte.errors import InitializationError, InvalidInputError, StorageError, SystemUnavailableError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SCHEMES = ("s3", "gs", "az", "abfs", "abfss")

_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
"""Scheme → the variables of the environment that hold its credentials; the other schemes are Azure's, too."""

_NO_ANSWER = ("error sending request", "connection", "timed out", "timeout", "Server returned 5", "status: 5")
"""Parts of obstore's messages for a store that did not answer, or that answered with a status from 500 on."""


@dataclass(frozen=True)
class Storage:
    """Settings of every kind of store."""

    retries: int = 3
    """How often a request is sent again that failed for reasons of the network or the server."""
    backoff: datetime.timedelta = datetime.timedelta(seconds=5)
    """The pause before the first repetition; each later pause is twice as long."""
    enable_debug: bool = False
    """Flyte's setting for more log lines."""
    attach_execution_metadata: bool = True
    """Flyte's setting for metadata of objects."""

    _VARIABLES: ClassVar[Mapping[str, str]] = {
        "retries": "FLYTE_STORAGE_RETRIES",
        "backoff": "FLYTE_STORAGE_BACKOFF_SECONDS",
        "enable_debug": "FLYTE_STORAGE_DEBUG",
    }
    """Field → the variable of the environment that `auto` reads it from."""
    _SECRET: ClassVar[tuple[str, ...]] = ()
    """Fields that `repr` does not show."""

    @classmethod
    def auto(cls) -> Self:
        """The settings that the environment names. Raises ValueError for a variable that is not of its type."""
        found = {field: os.environ[name] for field, name in cls._VARIABLES.items() if os.environ.get(name)}
        return cls(**{field: _typed(field, text) for field, text in found.items()})

    def get_fsspec_kwargs(self, anonymous: bool = False, **kwargs: Any) -> dict[str, Any]:
        """The settings as arguments of a file system of `obstore.fsspec`; `anonymous` signs no request."""
        config = {**self._config(), **kwargs.pop("config", {}), **({"skip_signature": True} if anonymous else {})}
        backoff = {
            "init_backoff": kwargs.pop("backoff", self.backoff),
            "max_backoff": datetime.timedelta(seconds=16),
            "base": 2,
        }
        retry = {
            "max_retries": kwargs.pop("retries", self.retries),
            "backoff": backoff,
            "retry_timeout": datetime.timedelta(minutes=3),
        }
        kwargs.setdefault("retry_config", retry)
        # the timeout is that of a whole request, and so of a file that takes hours
        kwargs.setdefault("client_options", {"timeout": "99999s", "connect_timeout": "10s", "allow_http": True})
        return {**kwargs, "config": config} if config else kwargs

    def _config(self) -> dict[str, Any]:
        """The settings under the names that obstore gives them."""
        return {}

    def __repr__(self) -> str:
        shown = (f"{name}={value!r}" for name, value in vars(self).items() if name not in self._SECRET)
        return f"{type(self).__name__}({', '.join(shown)})"


def _typed(field: str, text: str) -> Any:
    match field:
        case "retries":
            return int(text)
        case "backoff":
            return datetime.timedelta(seconds=float(text))
        case "enable_debug":
            return text.lower() in ("1", "true", "yes", "on")
        case _:
            return text


@dataclass(frozen=True, repr=False)
class S3(Storage):
    """Amazon S3, and servers that speak its protocol at an `endpoint`."""

    endpoint: str | None = None
    """The server's URL, `http://localhost:9000`; None is Amazon's."""
    access_key_id: str | None = None
    secret_access_key: str | None = None
    region: str | None = None
    addressing_style: str | None = None
    """`virtual` puts the bucket into the host name; None and `path` put it into the path."""

    _VARIABLES: ClassVar[Mapping[str, str]] = {
        "endpoint": "FLYTE_AWS_ENDPOINT",
        "access_key_id": "FLYTE_AWS_ACCESS_KEY_ID",
        "secret_access_key": "FLYTE_AWS_SECRET_ACCESS_KEY",
        "addressing_style": "FLYTE_AWS_S3_ADDRESSING_STYLE",
        **Storage._VARIABLES,
    }
    _SECRET = ("secret_access_key",)

    @classmethod
    def auto(cls, region: str | None = None) -> Self:
        """The settings that the environment names (`FLYTE_AWS_ENDPOINT`, …), and this `region`."""
        found = super().auto()
        return found if region is None else type(found)(**{**vars(found), "region": region})

    @classmethod
    def for_sandbox(cls) -> S3:
        """The settings of Flyte's own sandbox."""
        return cls(endpoint="http://localhost:4566", access_key_id="minio", secret_access_key="miniostorage")

    def _config(self) -> dict[str, Any]:
        given = {
            "endpoint": self.endpoint,
            "access_key_id": self.access_key_id,
            "secret_access_key": self.secret_access_key,
            "region": self.region,
        }
        config: dict[str, Any] = {name: value for name, value in given.items() if value}
        if self.addressing_style:
            config["virtual_hosted_style_request"] = self.addressing_style == "virtual"
        return config


@dataclass(frozen=True, repr=False)
class GCS(Storage):
    """Google Cloud Storage; its credentials are those that the environment names."""


@dataclass(frozen=True, repr=False)
class ABFS(Storage):
    """Azure's blob storage."""

    account_name: str | None = None
    account_key: str | None = None
    tenant_id: str | None = None
    client_id: str | None = None
    client_secret: str | None = None

    _VARIABLES: ClassVar[Mapping[str, str]] = {
        "account_name": "AZURE_STORAGE_ACCOUNT_NAME",
        "account_key": "AZURE_STORAGE_ACCOUNT_KEY",
        "tenant_id": "AZURE_TENANT_ID",
        "client_id": "AZURE_CLIENT_ID",
        "client_secret": "AZURE_CLIENT_SECRET",
        **Storage._VARIABLES,
    }
    _SECRET = ("account_key", "client_secret")

    def _config(self) -> dict[str, Any]:
        names = ("account_name", "account_key", "tenant_id", "client_id", "client_secret")
        return {name: value for name in names if (value := getattr(self, name))}


STORE_VARIABLES = frozenset(name for kind in (S3, ABFS) for name in kind._VARIABLES.values())
"""The variables of the environment that are settings of stores; the providers' own variables come besides."""


def scheme_of(url: str) -> str:
    """`s3` for `s3://bucket/key`; empty for a path."""
    scheme, separator, _ = url.partition("://")
    return scheme.lower() if separator else ""


def is_object(url: str) -> bool:
    """Whether `url` names something in an object store."""
    return scheme_of(url) in SCHEMES


def split(url: str) -> tuple[str, str]:
    """The store's own URL and the key in it: `s3://bucket/a/b` → `s3://bucket`, `a/b`.

    Raises InvalidInputError for a URL without a bucket, or of another kind.
    """
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    if not is_object(url) or not bucket:
        raise InvalidInputError(f"{url!r} does not name an object store; write s3://, gs:// or az://BUCKET/PREFIX")
    return f"{scheme.lower()}://{bucket}", key.strip("/")


def settings_for(url: str, given: Storage | None = None) -> Storage:
    """`given` if it is the settings of this kind of store, else what the environment names."""
    kind: type[Storage] = {"s3": S3, "gs": GCS}.get(scheme_of(url), ABFS)
    return given if isinstance(given, kind) else kind.auto()


def open_store(url: str, given: Storage | None = None, **options: Any) -> ObjectStore:
    """The store in which `url` lies, at its root; nothing is sent yet.

    Raises InvalidInputError for another kind of URL, and InitializationError where obstore is not installed.
    """
    root, _ = split(url)
    try:
        from obstore.store import from_url
    except ImportError:
        raise InitializationError(
            "NoObstore",
            "user",
            f"{root} needs the package obstore: pip install obstore, or name it in the task's image",
        ) from None
    opened: ObjectStore = from_url(root, **settings_for(url, given).get_fsspec_kwargs(**options))
    return opened


def explained(error: BaseException, url: str) -> Exception:
    """What to raise for an error of obstore at `url`: it names the bucket and the next step.

    FileNotFoundError for an object that does not exist, StorageError for a bucket that does not exist or refuses, and
    SystemUnavailableError for a store that does not answer, where the same call may succeed later.
    """
    text = " ".join(str(error).split())
    root, _ = split(url)
    name = type(error).__name__
    if "NoSuchBucket" in text or "ContainerNotFound" in text or "bucket does not exist" in text:
        return StorageError(f"{url}: the bucket {root} does not exist; create it, or name another one")
    if isinstance(error, FileNotFoundError) or name == "NotFoundError":
        return FileNotFoundError(f"{url} does not exist")
    if "169.254.169.254" in text or "metadata.google" in text:
        return StorageError(f"{url}: no credentials for {root} were found; set {_variables(root)}")
    if name in ("PermissionDeniedError", "UnauthenticatedError") or "AccessDenied" in text:
        return StorageError(
            f"{url}: access to {root} is denied; the credentials in {_variables(root)} must allow to read and write"
        )
    if "StorageFull" in text or "QuotaExceeded" in text or "507" in text:
        return StorageError(f"{url}: {root} is full; make room there, then do it again ({text[:200]})")
    if isinstance(error, TimeoutError) or any(part in text for part in _NO_ANSWER):
        return SystemUnavailableError(f"{url}: {root} does not answer; is its address right? ({text[:300]})")
    return StorageError(f"{url} cannot be used: {text[:400]}")


def _variables(root: str) -> str:
    return _CREDENTIALS.get(scheme_of(root), _CREDENTIALS["az"])
