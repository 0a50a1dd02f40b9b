"""Imports each program that is named on the command line, in a process of its own, and prints what came of it as JSON.

What all of them need is imported once, before the forks; that is what makes sixteen imports a matter of a second.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import sys
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

import fastapi


def _import(file: Path, answer: Connection) -> None:
    sys.path.insert(0, str(file.parent))
    try:
        module = importlib.import_module(file.stem)
    except BaseException:  # noqa: BLE001 - a program may end in any way; the test shows how
        answer.send({"error": traceback.format_exc()})
    else:
        apps = {name: value for name, value in vars(module).items() if isinstance(value, fastapi.FastAPI)}
        routes = {name: [getattr(route, "path", "") for route in app.routes] for name, app in apps.items()}
        answer.send({"names": sorted(vars(module)), "routes": routes})


def main(files: list[str]) -> None:
    for name in ("flyte", "flyte.app.extras", "flyte.remote", "httpx", "websockets"):
        importlib.import_module(name)
    fork = multiprocessing.get_context("fork")
    found = {}
    for file in files:
        mine, theirs = fork.Pipe(duplex=False)
        child = fork.Process(target=_import, args=(Path(file), theirs))
        child.start()
        theirs.close()
        try:
            found[Path(file).stem] = mine.recv() if mine.poll(30) else {"error": "the import does not end"}
        except EOFError:
            found[Path(file).stem] = {"error": "the process ended in the import"}
        finally:
            child.kill()
            child.join()
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
