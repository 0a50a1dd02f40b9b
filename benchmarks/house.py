"""A platform of the benchmarks' own: started from the outside with the installed command, ended with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"


def flyte(*arguments: str, env: dict[str, str], check: bool = True) -> str:
    """Run the `flyte` command of this environment; returns what it printed."""
    command = [str(Path(sys.executable).parent / "flyte"), *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def environment(home: Path) -> dict[str, str]:
    """This process's, with a home of its own; and without a certificate bundle that was set for it: that
    would take precedence over what the platform gives its processes.
    """
    own = {name: value for name, value in os.environ.items() if name not in ("SSL_CERT_FILE", "SSL_CERT_DIR")}
    return {**own, "TARMAC_HOME": str(home), "HOME": str(home)}


@contextmanager
def running(**settings: str) -> Iterator[dict[str, str]]:
    """The environment of a running platform."""
    with tempfile.TemporaryDirectory(prefix="tarmac-bench-") as folder:
        env = environment(Path(folder)) | {f"TARMAC_{name.upper()}": value for name, value in settings.items()}
        flyte("up", "--port", "0", env=env)
        try:
            yield env
        finally:
            flyte("down", env=env, check=False)


def endpoint(env: dict[str, str]) -> str:
    return str(json.loads(Path(env["TARMAC_HOME"], "platform.json").read_text())["endpoint"])


def token(env: dict[str, str]) -> str:
    return Path(env["TARMAC_HOME"], "token").read_text().strip()


def client(script: str, env: dict[str, str], *arguments: str) -> list[float]:
    """Run `script` in a client process; it prints a JSON list of milliseconds."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=env,
        cwd=PROGRAMS,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return [float(value) for value in json.loads(done.stdout.splitlines()[-1])]


def resident(env: dict[str, str]) -> float:
    """Megabytes (PSS) of all processes of the platform."""
    pid = json.loads(Path(env["TARMAC_HOME"], "platform.json").read_text())["pid"]
    import psutil

    everyone = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(process.memory_full_info().pss for process in everyone) / 1e6
