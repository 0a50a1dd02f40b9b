"""Scripts as people write them: what a worker imports is what the author meant, or the run says what to change."""

from __future__ import annotations

from tests.platform_fixture import Platform

WITHOUT_GUARD = """
import flyte

print("imported as", __name__, flush=True)
env = flyte.TaskEnvironment(name="unguarded"{fork})


@env.task
def f(x: int) -> int:
    return x + 1


flyte.init_from_config()
run = flyte.run(f, x=1)
run.wait()
print(run.status, run.error_info.message)
"""

FACTORY = """
from fastapi import FastAPI
from flyte.app.extras import FastAPIAppEnvironment


def made(name):
    app = FastAPI()
    app.get("/")(lambda: name)
    return FastAPIAppEnvironment(name=name, app=app, requires_auth=False)


def double(x: int) -> int:
    return 2 * x
"""

USER_OF_THE_FACTORY = """
import urllib.request

import flyte
from factory_of_apps import double, made

site = made("factory-made")
env = flyte.TaskEnvironment(name="factory_tasks")
twice = env.task(double)

if __name__ == "__main__":
    flyte.init_from_config()
    run = flyte.run(twice, x=4)
    run.wait()
    site = flyte.serve(site)
    print(run.outputs()[0], urllib.request.urlopen(site.endpoint).read().decode())
    site.deactivate()
"""


def test_a_script_without_a_guard_starts_one_run_which_names_the_guard(platform: Platform) -> None:
    """Also where each process imports the code for itself, with a key of its own."""
    for name, fork in (("forked", ""), ("imported", ', env_vars={"TARMAC_FRESH_IMPORT": "1"}')):
        done = platform.python(platform.write(f"unguarded_{name}.py", WITHOUT_GUARD.format(fork=fork)))
        assert f"failed cannot import module 'unguarded_{name}': flyte.run is called while" in done.out, done.both
        assert 'put the call under `if __name__ == "__main__":`' in done.out
    runs = platform.cli("get", "run", "-o", "json").out
    assert runs.count('"unguarded.f"') == 2


def test_what_a_factory_in_another_module_made_runs_and_answers(platform: Platform) -> None:
    platform.write("factory_of_apps.py", FACTORY)
    done = platform.python(platform.write("uses_factory.py", USER_OF_THE_FACTORY))
    assert done.out.splitlines()[-1] == '8 "factory-made"', done.both
