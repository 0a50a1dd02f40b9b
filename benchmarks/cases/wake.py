"""A sleeping app → its first answer: FastAPI against a cold uvicorn, Streamlit against a cold one."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from benchmarks import house, size
from benchmarks.sample import Sample, Samples, interleave

_COLD_APP = "from fastapi import FastAPI\napp = FastAPI()\n@app.get('/')\nasync def f(): return 'Hello, Ann!'\n"
_COLD_PAGE = "import streamlit\nstreamlit.title('Hello')\n"


def wake() -> list[Sample]:
    sample = Samples("wake")
    fastapi, cold_fastapi = sample("ours: FastAPI → first 200"), sample("cold uvicorn: FastAPI → first 200")
    page, cold_page = sample("ours: Streamlit → first page"), sample("cold streamlit: Streamlit → first page")
    with house.running() as env:
        house.deploy(env, "webapp.py", "sleeper")
        house.deploy(env, "page.py", "env")
        app_url, page_url = (house.app(env, name)["url"] for name in ("bench-sleeper", "bench-page"))
        folder = house.new_home()
        (folder / "cold.py").write_text(_COLD_APP)
        (folder / "page.py").write_text(_COLD_PAGE)
        uvicorn = ["-m", "uvicorn", "cold:app", "--log-level", "error", "--port"]
        streamlit = ["-m", "streamlit", "run", "page.py", "--server.headless", "true"]
        streamlit += ["--browser.gatherUsageStats", "false", "--server.port"]
        interleave(
            size.of(10, 2),
            {
                "FastAPI": lambda: _woken(env, "bench-sleeper", fastapi, f"{app_url}/greeting/Ann", b"Hello, Ann!"),
                "cold FastAPI": lambda: _cold(folder, uvicorn, cold_fastapi, b"Hello, Ann!"),
                "Streamlit": lambda: _woken(env, "bench-page", page, f"{page_url}/", b"Streamlit"),
                "cold Streamlit": lambda: _cold(folder, streamlit, cold_page, b"Streamlit"),
            },
        )
    return sample.all()


def _woken(env: dict[str, str], name: str, sample: Sample, url: str, expect: bytes) -> None:
    house.await_sleep(env, name)
    with sample.timed():
        _first_answer(url, expect)


def _cold(folder: Path, command: list[str], sample: Sample, expect: bytes) -> None:
    port = house.free_port()
    with sample.timed():
        process = subprocess.Popen(
            [sys.executable, *command, str(port)], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        _until_there(lambda: _first_answer(f"http://127.0.0.1:{port}/", expect))
    process.kill()
    process.wait()


def _until_there(ask: Callable[[], None]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            return ask()
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)


def _first_answer(url: str, expect: bytes) -> None:
    with urllib.request.urlopen(url, timeout=90) as answer:
        body = answer.read()
    assert expect in body, body[:500]
