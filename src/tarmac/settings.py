"""Every setting of the platform, one row each: the command line, the environment and the docs are made from them.

A setting is read from the environment variable `TARMAC_<NAME>`, else from `settings.yaml` in the platform's folder,
else it is the default.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

from flyte.errors import InitializationError, InvalidInputError
from flyte.object_store import split


@dataclass(frozen=True, slots=True)
class Setting:
    name: str
    default: Any
    help: str
    choices: tuple[str, ...] = ()


SETTINGS: tuple[Setting, ...] = (
    Setting("port", 30080, "Port of the front door: console, API, and apps by host name. 0 takes a free one."),
    Setting("host", "127.0.0.1", "Address the front door and the apps' ports listen on."),
    Setting("app_ports", "", "Range of the apps' own ports, `first-last`; empty: 500 ports that start at port + 20."),
    Setting("domain", "flyte.localhost", "Apps are also served at `<app>.<domain>` on the front door."),
    Setting("database_url", "", "`postgresql://…`; empty: SQLite in the platform's folder."),
    Setting(
        "fsync",
        "full",
        "SQLite: `full` is on disk at every commit; `normal` may lose the last moments at a power cut.",
        ("full", "normal"),
    ),
    Setting(
        "storage_url",
        "",
        "`s3://BUCKET/PREFIX`, `gs://…` or `az://…`: large values, code bundles and new files lie there; empty: in the "
        "platform's folder. It takes the package obstore, and credentials in the environment (docs/storage.md).",
    ),
    Setting("slots", 0, "Actions that run at once; 0: four for each core, at least 8. Waiting parents do not count."),
    Setting("spare_workers", 2, "Processes kept ready ahead of need for each environment in use."),
    Setting("pool_idle", 600, "Seconds after which an unused environment's processes are ended."),
    Setting(
        "pool_age",
        3600,
        "Seconds after which code is imported anew for the next run or replica, so that what a module computes at its "
        "top level is never older; 0: only when a file that the import read has changed.",
    ),
    Setting("grace", 5, "Seconds between SIGTERM and SIGKILL when an action or a replica is stopped."),
    Setting(
        "lease",
        60,
        "Seconds without a heartbeat after which a worker, a fork server or a part of the platform counts as lost.",
    ),
    Setting("start_timeout", 60, "Seconds an app has to become ready."),
    Setting("drain_timeout", 30, "Seconds the old version's open requests have to finish after a switch."),
    Setting(
        "scaledown_after",
        300,
        "Seconds without a request after which an app sleeps whose `Scaling` asks for no replica at least and names no "
        "time of its own.",
    ),
    Setting("hold_timeout", 60, "Seconds a request is held while its app wakes."),
    Setting("value_limit", 100 * 1024 * 1024, "Bytes of one encoded input or output above which it is refused."),
    Setting("threads", 1, "Threads of HAProxy."),
    Setting(
        "connections",
        0,
        "Connections that HAProxy takes at once, 100 at least; 0: 12,800, or what the limit on open files allows. A "
        "quarter is the front door's, five eighths are the apps', the rest is HAProxy's own.",
    ),
    Setting(
        "connections_per_address",
        0,
        "Connections that one address of another machine may have to the front door, and as many to the apps; 0: a "
        "quarter of each. Programs on this machine share an address and have no such limit.",
    ),
    Setting(
        "trusted_proxies",
        "",
        "Addresses and networks of proxies in front, `10.0.0.5, 10.1.0.0/16`: their X-Forwarded-For, -Proto and -Host "
        "headers are believed, everybody else's are not.",
    ),
    Setting(
        "app_hosts",
        "",
        "Names under which the apps' ports answer besides addresses, localhost, `domain` and the apps' own names, "
        "`mybox, mybox.lan`; `*`: every name, also one that a stranger's page has pointed at this machine.",
    ),
    Setting("haproxy", "", "Path of the HAProxy program (2.8 or newer); empty: the wheel's, else the one on PATH."),
    Setting("tls_cert", "", "File with certificate and key (PEM); the front door then also speaks TLS on tls_port."),
    Setting("tls_port", 30443, "Port of the TLS listener, when tls_cert is set."),
    Setting(
        "system_certificates",
        True,
        "Processes trust the system's certificate folder (SSL_CERT_DIR) where there is one and they set nothing else: "
        "making an HTTP client then takes 2 ms instead of 25.",
    ),
    Setting(
        "isolation",
        "tidy",
        "`tidy`: every action and replica has a working directory and a folder for temporary files of its own, or what "
        "comes nearest to that on this machine; `flyte status` names it. `open`: all of a version share one folder.",
        ("tidy", "open"),
    ),
    Setting(
        "warm",
        True,
        "Processes are forked from one that has imported their code; `false`: each imports it when it is needed, which "
        "a single environment says with `TARMAC_FRESH_IMPORT=1` in its `env_vars`.",
    ),
    Setting(
        "images",
        "auto",
        "`auto`: an environment of its own is made for an image that the platform's own Python does not satisfy; "
        "`always`: for every image that names packages or a Python; `never`: what is missing is an error.",
        ("auto", "always", "never"),
    ),
    Setting(
        "missed",
        "latest",
        "What becomes of the times at which a trigger was due while the platform was down: `latest`: the last of them "
        "is made up for; `all`: each of the last 100; `skip`: none.",
        ("latest", "all", "skip"),
    ),
    Setting("image_timeout", 600, "Seconds that it may take to make one environment."),
    Setting("log_level", "WARNING", "How much the platform's own processes write into logs/."),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """The effective settings; the fields are the rows of SETTINGS."""

    port: int
    host: str
    app_ports: str
    domain: str
    database_url: str
    fsync: str
    storage_url: str
    slots: int
    spare_workers: int
    pool_idle: float
    pool_age: float
    grace: float
    lease: float
    start_timeout: float
    drain_timeout: float
    scaledown_after: float
    hold_timeout: float
    value_limit: int
    threads: int
    connections: int
    connections_per_address: int
    trusted_proxies: str
    app_hosts: str
    haproxy: str
    tls_cert: str
    tls_port: int
    system_certificates: bool
    isolation: str
    warm: bool
    images: str
    missed: str
    image_timeout: float
    log_level: str

    def port_range(self, main: int | None = None) -> range:
        """The apps' own ports, given the front door's real port."""
        if not self.app_ports:
            first = (main or self.port) + 20
            return range(first, min(first + 500, 65536))
        first_text, _, last_text = self.app_ports.partition("-")
        if not (first_text.isdecimal() and last_text.isdecimal() and 0 < int(first_text) <= int(last_text) <= 65535):
            raise _bad(f"TARMAC_APP_PORTS is {self.app_ports!r}; write `first-last`, such as 30100-30599")
        return range(int(first_text), int(last_text) + 1)

    def certificates(self) -> str | None:
        """The system's folder of trusted certificates; None if it is empty, or if processes are not to use it.

        With this folder an HTTP client reads single certificates when it needs them. Without it many clients read a
        bundle of all certificates at their creation, which takes some 20 ms: most of the time of a call from app to app
        that creates a client.
        """
        if not self.system_certificates:
            return None
        folder = ssl.get_default_verify_paths().capath or "/etc/ssl/certs"
        try:
            with os.scandir(folder) as entries:
                hashed = any(re.fullmatch(r"[0-9a-f]{8}\.\d+", entry.name) for entry in entries)
        except OSError:
            return None
        return folder if hashed else None

    def worker_slots(self) -> int:
        return self.slots or max(8, 4 * (os.cpu_count() or 2))


def load(home: Path, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings for the platform in `home`. Raises InitializationError naming the setting that cannot be used."""
    path = home / "settings.yaml"
    written = _written(path)
    types = get_type_hints(Settings)
    values: dict[str, Any] = {}
    for row in SETTINGS:
        variable = f"TARMAC_{row.name.upper()}"
        raw, where = (environ[variable], variable) if variable in environ else (written.get(row.name), str(path))
        values[row.name] = row.default if raw is None else _value(row, types[row.name], raw, where)
    return Settings(**values)


def _written(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    import yaml  # 30 ms, which most platforms save: they have no such file

    try:
        written = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise _bad(f"{path} is not valid YAML: {error}") from None
    if not isinstance(written, dict):
        raise _bad(f"{path} must hold lines like `port: 30080`")
    unknown = sorted(set(map(str, written)) - {row.name for row in SETTINGS})
    if unknown:
        raise _bad(f"{path}: there is no setting {unknown[0]!r}; docs/settings.md lists them")
    return written


_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def _value(row: Setting, wanted: type, raw: object, where: str) -> object:
    """`raw` as the setting's type, in the setting's range."""
    text = str(raw).strip()
    try:
        if wanted is bool:
            if text.lower() not in (*_TRUE, *_FALSE):
                raise ValueError
            return text.lower() in _TRUE
        value = wanted(text)
    except ValueError:
        raise _bad(f"{where}: {row.name} is {text!r}, not a {wanted.__name__}") from None
    if isinstance(value, int | float) and not 0 <= value < float("inf"):
        raise _bad(f"{where}: {row.name} is {text}; it cannot be negative or without end")
    if row.name.endswith("port") and not value <= 65535:
        raise _bad(f"{where}: {row.name} is {text}; ports go up to 65535")
    _check_words(row, str(value), where)
    if row.name == "storage_url" and value:
        _check_store(str(value), where)
    if row.choices and text not in row.choices:
        raise _bad(f"{where}: {row.name} is {text!r}; write one of {', '.join(row.choices)}")
    return value


def words(text: str) -> list[str]:
    """The words between commas or spaces."""
    return text.replace(",", " ").split()


def _check_words(row: Setting, text: str, where: str) -> None:
    """Raises InitializationError for a list with a word that HAProxy would refuse."""
    for word in words(text):
        if row.name == "trusted_proxies":
            try:
                ipaddress.ip_network(word, strict=False)
            except ValueError:
                raise _bad(f"{where}: {word!r} is not an address or a network such as 10.1.0.0/16") from None
        elif row.name == "app_hosts" and not re.fullmatch(r"\*|[A-Za-z0-9._-]{1,253}", word):
            raise _bad(f"{where}: {word!r} is not a host name (letters, digits, dots and hyphens, without a port)")


def _check_store(url: str, where: str) -> None:
    """Raises InitializationError for a URL that names no object store, or where the package for it is not installed."""
    try:
        split(url)
    except InvalidInputError as error:
        raise _bad(f"{where}: {error}") from None
    if importlib.util.find_spec("obstore") is None:
        raise _bad(f"{where}: {url} needs the package obstore; install it beside Tarmac: pip install 'flyte[storage]'")


def _bad(message: str) -> InitializationError:
    return InitializationError("BadSetting", "user", message)


assert [row.name for row in SETTINGS] == [f.name for f in fields(Settings)]
