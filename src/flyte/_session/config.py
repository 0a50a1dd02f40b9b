"""Config files and FLYTE_* variables: where the platform is, and as whom and where in it we work.

A value is looked for in this order: the argument of `init…`, the environment, the config file. The environment counts
with no file at all. The file is the first of: the given path, `./config.yaml`, `./.flyte/config.yaml`,
`.flyte/config.yaml` at the root of the git repository, `$UCTL_CONFIG`, `$FLYTECTL_CONFIG`, `~/.union/config.yaml`,
`~/.flyte/config.yaml`.

A file that merely lies in the folder one works in may be anybody's: it runs no command, and is not sent the
environment's key, unless it is named or FLYTE_TRUST_CONFIG is set.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flyte.errors import InitializationError

TRUST = "FLYTE_TRUST_CONFIG"
"""The variable that says that config files may be trusted which lie in the folder one works in."""

SECTIONS = ("admin", "console", "image", "task", "local")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"", "0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class Config:
    """What the environment and a config file say together; None where neither says anything."""

    endpoint: str | None = None
    api_key: str | None = None
    org: str | None = None
    project: str | None = None
    domain: str | None = None
    insecure: bool | None = None
    insecure_skip_verify: bool | None = None
    ca_cert_file_path: str | None = None
    http_proxy_url: str | None = None
    auth_type: str | None = None
    command: tuple[str, ...] | None = None
    """A program that prints the key, for `auth_type: ExternalCommand`."""
    console_endpoint: str | None = None
    image_builder: str | None = None
    image_registry: str | None = None
    image_refs: Mapping[str, str] | None = None
    source: Path | None = None
    """The file that was read."""
    distrust: str | None = None
    """Why this config must not be used for a key; None where it may."""

    @classmethod
    def auto(cls, config_file: str | Path | None = None) -> Config:
        """The config in force: `config_file`, or the first file of the lookup order, under the environment."""
        return load(config_file)


@dataclass(frozen=True, slots=True)
class Key:
    """One row: the field of Config, its place in the file, and the variables that override it, strongest first."""

    field: str
    place: str
    variables: tuple[str, ...]


KEYS: tuple[Key, ...] = (
    Key("endpoint", "admin.endpoint", ("FLYTE_ENDPOINT", "FLYTE_ADMIN_ENDPOINT", "_U_EP_OVERRIDE")),
    Key("api_key", "admin.api_key", ("FLYTE_API_KEY", "FLYTE_ADMIN_API_KEY", "EAGER_API_KEY", "_UNION_EAGER_API_KEY")),
    Key("org", "task.org", ("FLYTE_TASK_ORG", "FLYTE_ORG", "_U_ORG_NAME")),
    Key("project", "task.project", ("FLYTE_TASK_PROJECT", "FLYTE_PROJECT", "FLYTE_INTERNAL_EXECUTION_PROJECT")),
    Key("domain", "task.domain", ("FLYTE_TASK_DOMAIN", "FLYTE_DOMAIN", "FLYTE_INTERNAL_EXECUTION_DOMAIN")),
    Key("insecure", "admin.insecure", ("FLYTE_ADMIN_INSECURE", "_U_INSECURE")),
    Key(
        "insecure_skip_verify",
        "admin.insecureSkipVerify",
        ("FLYTE_ADMIN_INSECURESKIPVERIFY", "FLYTE_ADMIN_INSECURE_SKIP_VERIFY", "_U_INSECURE_SKIP_VERIFY"),
    ),
    Key(
        "ca_cert_file_path",
        "admin.caCertFilePath",
        ("FLYTE_ADMIN_CACERTFILEPATH", "FLYTE_ADMIN_CA_CERT_FILE_PATH"),
    ),
    Key("http_proxy_url", "admin.httpProxyURL", ("FLYTE_ADMIN_HTTPPROXYURL", "FLYTE_ADMIN_HTTP_PROXY_URL")),
    Key("auth_type", "admin.authType", ("FLYTE_AUTH_TYPE", "FLYTE_ADMIN_AUTHTYPE", "FLYTE_ADMIN_AUTH_TYPE")),
    Key("command", "admin.command", ("FLYTE_AUTH_COMMAND", "FLYTE_ADMIN_COMMAND")),
    Key("console_endpoint", "console.endpoint", ("FLYTE_CONSOLE_ENDPOINT",)),
    Key("image_builder", "image.builder", ("FLYTE_IMAGE_BUILDER",)),
    Key("image_registry", "image.registry", ("FLYTE_IMAGE_REGISTRY",)),
    Key("image_refs", "image.image_refs", ()),
)


def load(path: str | Path | None = None, root_dir: Path | None = None) -> Config:
    """The config in force. An explicit `path` must exist, and is relative to `root_dir` where that is given.

    Raises InitializationError, code `ConfigFileNotFoundError` or `ConfigFileError`.
    """
    source = _explicit(path, root_dir) if path is not None else find()
    written = _read(source) if source else {}
    config = replace(from_mapping(written, os.environ), source=source)
    if source is None or path is not None or _is_the_users(source) or os.environ.get(TRUST, "").lower() in _TRUE:
        return config
    return replace(config, distrust=_distrust(source, config, from_mapping({}, os.environ)))


def _is_the_users(source: Path) -> bool:
    """Whether the user put the file into force, by its place in the home folder or by a variable."""
    named = [os.environ.get(variable) for variable in ("UCTL_CONFIG", "FLYTECTL_CONFIG")]
    own = [Path.home() / folder / "config.yaml" for folder in (".union", ".flyte")]
    return source in own or str(source) in [str(Path(name).expanduser()) for name in named if name]


def _distrust(source: Path, config: Config, environment: Config) -> str | None:
    """Why a file that merely lies in the folder one works in must not run a program, or be given a key."""
    runs = config.api_key is None and config.command is not None and environment.command is None
    sends = environment.api_key is not None and environment.endpoint is None and config.endpoint is not None
    if not runs and not sends:
        return None
    does = f"runs the command {' '.join(config.command or ())!r}" if runs else f"sends your key to {config.endpoint}"
    return (
        f"{source} was found in the folder you work in, and {does}. If you trust it, name it (flyte -c FILE, "
        f"init_from_config(FILE)) or set {TRUST}=1"
    )


def from_mapping(written: Mapping[str, Any], environ: Mapping[str, str]) -> Config:
    """The config that the content of a file and an environment make."""
    values: dict[str, Any] = {}
    for key in KEYS:
        values[key.field] = _from_environ(key, environ)
        if values[key.field] is None:
            values[key.field] = _at(written, key.place)
    if values["api_key"] is None and isinstance(written.get("api_key"), str):
        values["api_key"] = written["api_key"]
    return Config(**{name: _typed(name, value) for name, value in values.items()})


def find() -> Path | None:
    """The config file that counts here when none is named, or None."""
    for path in _candidates():
        if path.is_file() and (path.name != "config.yaml" or path.parent != Path.cwd() or _is_ours(path)):
            return path
    return None


def _candidates() -> Iterator[Path]:
    here = Path.cwd()
    yield here / "config.yaml"
    yield here / ".flyte" / "config.yaml"
    for folder in (here, *here.parents):
        if (folder / ".git").exists():
            yield folder / ".flyte" / "config.yaml"
            break
    for variable in ("UCTL_CONFIG", "FLYTECTL_CONFIG"):
        if named := os.environ.get(variable):
            yield Path(named).expanduser()
    yield Path.home() / ".union" / "config.yaml"
    yield Path.home() / ".flyte" / "config.yaml"


def _is_ours(path: Path) -> bool:
    """`config.yaml` is anybody's name: only a file with one of our sections counts."""
    try:
        return any(section in _read(path) for section in SECTIONS)
    except InitializationError:
        return False


def _explicit(path: str | Path, root_dir: Path | None) -> Path:
    wanted = Path(path).expanduser()
    if root_dir is not None and not wanted.is_absolute():
        wanted = root_dir / wanted
    if not wanted.is_file():
        raise InitializationError("ConfigFileNotFoundError", "user", f"there is no config file at {wanted.absolute()}")
    return wanted


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise InitializationError("ConfigFileError", "user", f"{path} cannot be read as YAML: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InitializationError(
            "ConfigFileError",
            "user",
            f"{path} holds a {type(content).__name__}; it must hold sections such as `admin:`",
        )
    return content


def _at(written: Mapping[str, Any], place: str) -> Any:
    section, _, name = place.partition(".")
    values = written.get(section)
    return values.get(name) if isinstance(values, dict) else None


def _from_environ(key: Key, environ: Mapping[str, str]) -> str | None:
    return next((environ[name] for name in key.variables if environ.get(name)), None)


def _typed(name: str, value: Any) -> Any:
    """`value` as the type of the field; a file and a variable both may write it as text."""
    if value is None:
        return None
    if name in ("insecure", "insecure_skip_verify"):
        return _bool(name, value)
    if name == "command":
        return _words(value)
    if name == "image_refs":
        return dict(value) if isinstance(value, dict) else None
    return str(value)


def _bool(name: str, value: Any) -> bool:
    text = str(value).strip().lower()
    if text not in _TRUE | _FALSE:
        raise InitializationError("ConfigFileError", "user", f"{name} is {value!r}; write true or false")
    return text in _TRUE


def _words(value: Any) -> tuple[str, ...]:
    import shlex

    return tuple(shlex.split(value)) if isinstance(value, str) else tuple(str(word) for word in value)


def normal_endpoint(endpoint: str, insecure: bool | None = None) -> str:
    """`endpoint` as `http://…`, `https://…` or `unix:///path`, with no slash at its end.

    `dns:///host` and a bare `host:port` are read as Flyte writes them: https, unless `insecure` says otherwise or the
    host is this machine. Raises InitializationError for an invalid address.
    """
    text = endpoint.strip()
    if text.startswith("/"):
        text = f"unix://{text}"
    if text.startswith("unix://"):
        return text
    text = text.removeprefix("dns:///")
    if "://" not in text:
        host = urlsplit(f"//{text}").hostname or ""
        plain = insecure if insecure is not None else host in _LOOPBACK
        text = f"{'http' if plain else 'https'}://{text}"
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InitializationError(
            "BadEndpoint",
            "user",
            f"{endpoint!r} is not the address of a platform; write it like http://127.0.0.1:30080",
        )
    return text.rstrip("/")


@dataclass(frozen=True, slots=True)
class ApiKey:
    token: str
    endpoint: str | None = None
    org: str | None = None


def read_api_key(text: str) -> ApiKey:
    """An API key: our own (`tk_…`), or Flyte's form, base64 of `endpoint:client_id:client_secret:org`."""
    import base64
    import binascii

    text = text.strip()
    try:
        plain = base64.b64decode(text + "=" * (-len(text) % 4), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return ApiKey(text)
    parts = plain.rsplit(":", 3)
    if len(parts) != 4 or not all(parts[:3]):
        return ApiKey(text)
    endpoint, _, secret, org = parts
    return ApiKey(secret, endpoint, None if org in ("", "None") else org)


assert {key.field for key in KEYS} == {field.name for field in fields(Config)} - {"source", "distrust"}
