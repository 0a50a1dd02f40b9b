"""Replicas: ASGI applications, `@server` functions and commands, in real processes forked by a real fork server."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from flyte import wire
from flyte.runtime import apphost, command
from tests import ports
from tests.flyte.fork_server_driver import Driver, ForkServers, lines
from tests.platform_fixture import wait_for


def get(port: int, path: str = "/", limit: float = 30) -> httpx.Response:
    """The answer of 127.0.0.1:`port`, once it accepts connections."""

    def ask() -> httpx.Response | None:
        try:
            return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=limit, trust_env=False)
        except httpx.ConnectError:
            return None

    answer: httpx.Response = wait_for(ask, f"port {port} answers", limit)
    return answer


APP = """
import asyncio, contextlib, os
from fastapi import FastAPI, Request, WebSocket
from flyte.app.extras import FastAPIAppEnvironment

@contextlib.asynccontextmanager
async def lifespan(app):
    print("lifespan begins in", os.environ.get("FLYTE_UNIT"))
    yield
    print("lifespan ends")

app = FastAPI(lifespan=lifespan)
env = FastAPIAppEnvironment(name="app", app=app)

@env.on_startup
async def begin(greeting):
    print("on_startup", greeting)

@env.on_shutdown
def end():
    print("on_shutdown")

@app.get("/")
async def hello():
    return {"pid": os.getpid(), "port": os.environ["PORT"], "app": os.environ["FLYTE_APP_NAME"]}

@app.post("/headers")
async def headers(request: Request):
    await request.body()
    return [[name.decode(), value.decode()] for name, value in request.headers.raw]

@app.get("/slow")
async def slow(seconds: float):
    print("slow begins")
    await asyncio.sleep(seconds)
    return "done"

@app.websocket("/echo")
async def echo(socket: WebSocket):
    await socket.accept()
    while True:
        await socket.send_bytes(await socket.receive_bytes())
"""
PARAMETERS = {"FLYTE_PARAMETERS": json.dumps({"greeting": "good morning", "unused": "x"})}


def serve_app(fork_server: ForkServers, root: Path, source: str = APP) -> tuple[Driver, int]:
    """A replica of the app in `source`; it is ready."""
    (root / "main.py").write_text(source)
    driver = fork_server()
    driver.load("main")
    assert driver.next(wire.PoolReady).forks
    port = driver.replica("asgi", "main:env", env=PARAMETERS)
    driver.next(wire.UnitReady)
    return driver, port


# ---------------------------------------------------------------------------------------------------------------- asgi


def test_a_fastapi_app_is_served_on_the_units_port(fork_server: ForkServers, root: Path) -> None:
    driver, port = serve_app(fork_server, root)
    answer = get(port).json()
    assert (answer["port"], answer["app"]) == (str(port), "app")
    driver.send(wire.SignalUnit(unit="r", signal=signal.SIGTERM))
    assert driver.next(wire.UnitExited) == wire.UnitExited(unit="r", code=0)


def test_what_follows_a_body_is_not_taken_for_headers(fork_server: ForkServers, root: Path) -> None:
    """Behind a chunked body a client may send trailers; the gateway cannot take them away."""
    driver, port = serve_app(fork_server, root)
    chunks = "3\r\nabc\r\n0\r\n"
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(
            b"POST /headers HTTP/1.1\r\nHost: x\r\nX-Flyte-Caller: anonymous\r\nTransfer-Encoding: chunked\r\n"
            b"Connection: close\r\n\r\n" + chunks.encode() + b"X-Flyte-Caller: owner\r\nX-Other: y\r\n\r\n"
        )
        answer = client.makefile("rb").read().partition(b"\r\n\r\n")[2]
    headers = json.loads(answer)
    assert [value for name, value in headers if name == "x-flyte-caller"] == ["anonymous"]
    assert "x-other" not in dict(headers)
    assert driver.process.poll() is None


def test_the_hooks_run_around_the_lifespan_in_the_replica_alone(fork_server: ForkServers, root: Path) -> None:
    driver, _ = serve_app(fork_server, root)
    driver.send(wire.SignalUnit(unit="r", signal=signal.SIGTERM))
    driver.next(wire.UnitExited)
    said = [line for line in driver.log.read_text().splitlines() if not line.startswith("INFO")]
    assert said == [
        "on_startup good morning",
        "lifespan begins in r",
        "lifespan ends",
        "on_shutdown",
    ], "the fork server has warmed up with an application of its own, not with the user's"


def test_after_the_warm_up_forks_are_still_safe(fork_server: ForkServers, root: Path) -> None:
    driver, first = serve_app(fork_server, root)
    threads = Path(f"/proc/{driver.process.pid}/task")
    if threads.exists():
        assert len(list(threads.iterdir())) == 1
    second = driver.replica("asgi", "main:env", unit="r2", env=PARAMETERS)
    driver.next(wire.UnitReady, "r2")
    assert get(first).json()["pid"] != get(second).json()["pid"]


def test_a_signal_lets_open_requests_finish(fork_server: ForkServers, root: Path) -> None:
    driver, port = serve_app(fork_server, root)
    answers: list[httpx.Response] = []
    caller = threading.Thread(target=lambda: answers.append(get(port, "/slow?seconds=0.5")))
    caller.start()
    lines(driver.log, lambda text: "slow begins" in text)
    driver.send(wire.SignalUnit(unit="r", signal=signal.SIGTERM))
    caller.join()
    assert answers[0].json() == "done"
    assert driver.next(wire.UnitExited).code == 0


def test_a_second_signal_gives_up_on_open_requests_and_still_shuts_down_in_order(
    fork_server: ForkServers, root: Path
) -> None:
    driver, port = serve_app(fork_server, root)
    errors: list[type[BaseException]] = []

    def call() -> None:
        try:
            get(port, "/slow?seconds=600")
        except httpx.HTTPError as error:
            errors.append(type(error))

    caller = threading.Thread(target=call)
    caller.start()
    lines(driver.log, lambda text: "slow begins" in text)
    driver.send(wire.SignalUnit(unit="r", signal=signal.SIGTERM))
    lines(driver.log, lambda text: "Waiting for connections to close" in text)
    driver.send(wire.SignalUnit(unit="r", signal=signal.SIGTERM))
    lines(driver.log, lambda text: "on_shutdown" in text)
    caller.join()
    assert errors == [httpx.RemoteProtocolError]
    assert driver.next(wire.UnitExited).code == 0


@pytest.mark.parametrize("place", ["on_startup", "lifespan"])
@pytest.mark.parametrize("wait", ["time.sleep(600)", "await asyncio.sleep(600)"])
def test_a_replica_that_has_not_started_yet_ends_at_the_first_signal(
    fork_server: ForkServers, root: Path, place: str, wait: str
) -> None:
    marker = 'print("on_startup", greeting)' if place == "on_startup" else 'print("lifespan begins in"'
    (root / "main.py").write_text(APP.replace(marker, f'print("begun"); import time; {wait}; {marker}'))
    driver = fork_server()
    driver.load("main")
    driver.replica("asgi", "main:env", env=PARAMETERS)
    lines(driver.log, lambda text: "begun" in text)
    driver.send(wire.SignalUnit(unit="r", signal=signal.SIGTERM))
    # 3: the exit was raised inside the lifespan, which has then failed
    assert driver.next(wire.UnitExited).code in (0, 3)


def test_large_websocket_messages_pass(fork_server: ForkServers, root: Path) -> None:
    _, port = serve_app(fork_server, root)
    with connect(f"ws://127.0.0.1:{port}/echo", max_size=None, proxy=None) as client:
        for size in (0, 1024 * 1024, 17 * 1024 * 1024):
            client.send(b"x" * size)
            assert len(client.recv()) == size


def test_a_websocket_client_may_be_silent_for_five_minutes() -> None:
    config = apphost._config(type("Env", (), {"app": apphost._small_app()}), 1)
    assert config.ws_ping_interval
    assert config.ws_ping_timeout is not None
    assert config.ws_ping_timeout >= 300
    assert config.access_log is False


def test_the_users_own_server_settings_are_kept_but_for_the_place(fork_server: ForkServers, root: Path) -> None:
    config = "uvicorn.Config(app, host='0.0.0.0', port=9, root_path='/x')"
    source = APP.replace("app=app)", f"app=app, uvicorn_config={config})")
    source += "\n@app.get('/root')\nasync def root(request: fastapi.Request): return request.scope['root_path']\n"
    _, port = serve_app(fork_server, root, "import fastapi, uvicorn\n" + source)
    assert get(port, "/root").json() == "/x"


def test_an_app_that_does_not_start_exits_with_its_traceback_in_the_log(fork_server: ForkServers, root: Path) -> None:
    (root / "main.py").write_text(APP.replace('print("lifespan begins in"', 'raise RuntimeError("no database"'))
    driver = fork_server()
    driver.load("main")
    driver.replica("asgi", "main:env", env=PARAMETERS)
    assert driver.next(wire.UnitExited).code == 3
    assert "RuntimeError: ('no database', 'r')" in driver.log.read_text()


def test_a_port_that_was_taken_meanwhile_has_an_exit_code_of_its_own(fork_server: ForkServers, root: Path) -> None:
    driver, port = serve_app(fork_server, root)
    spec = wire.ReplicaSpec(app="app", project="p", domain="d", version="v", kind="asgi", entry="main:env")
    driver.send(wire.ForkUnit(unit="late", kind="replica", replica=spec, port=port))
    assert driver.next(wire.UnitExited).code == apphost.PORT_TAKEN


def test_an_entry_that_is_not_there_is_named(fork_server: ForkServers, root: Path) -> None:
    (root / "main.py").touch()
    driver = fork_server()
    driver.load("main")
    driver.replica("asgi", "main:nothing")
    assert driver.next(wire.UnitExited).code == 1
    assert "module 'main' has no 'nothing'" in driver.log.read_text()


# ------------------------------------------------------------------------------------------------- a @server function

SERVER = """
import http.server, os
from flyte.app import AppEnvironment, Parameter
env = AppEnvironment(name="app", port=8080, parameters=[Parameter(name="word", value="x")])

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(env.word.encode())
    def log_message(self, *args): pass

@env.server
def serve(word):
    env.word = word
    http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()

@env.on_shutdown
async def bye():
    print("bye")
"""


def test_a_server_function_gets_its_parameters_and_the_units_port_for_the_declared_one(
    fork_server: ForkServers, root: Path
) -> None:
    (root / "main.py").write_text(SERVER)
    driver = fork_server()
    driver.load("main")
    taken = [
        driver.replica("server", "main:env", unit=f"r{n}", env={"FLYTE_PARAMETERS": json.dumps({"word": f"w{n}"})})
        for n in range(2)
    ]

    assert [get(port).text for port in taken] == ["w0", "w1"], "both bind 8080 and run side by side"
    driver.send(wire.SignalUnit(unit="r0", signal=signal.SIGTERM))
    assert driver.next(wire.UnitExited, "r0").code == 0
    assert "bye" in driver.log.read_text()


def test_an_async_server_function_shares_its_loop_with_the_hooks(fork_server: ForkServers, root: Path) -> None:
    (root / "main.py").write_text(
        "import asyncio\n"
        "from flyte.app import AppEnvironment\n"
        "env = AppEnvironment(name='app', port=8081)\n"
        "loops = []\n"
        "@env.on_startup\n"
        "async def begin(): loops.append(asyncio.get_running_loop())\n"
        "@env.server\n"
        "async def serve():\n"
        "    loops.append(asyncio.get_running_loop())\n"
        "    async def answer(reader, writer):\n"
        "        await reader.readuntil(b'\\r\\n\\r\\n')\n"
        "        writer.write(b'HTTP/1.0 200 OK\\r\\n\\r\\nhello')\n"
        "        writer.close()\n"
        "    await (await asyncio.start_server(answer, '', 8081)).serve_forever()\n"
        "@env.on_shutdown\n"
        "async def end(): print('loops', len({*loops, asyncio.get_running_loop()}))\n"
    )
    driver = fork_server()
    driver.load("main")
    port = driver.replica("server", "main:env", port=8081)
    assert get(port).text == "hello"
    driver.send(wire.SignalUnit(unit="r", signal=signal.SIGTERM))
    assert driver.next(wire.UnitExited).code == 0
    assert "loops 1" in driver.log.read_text()


def test_a_server_function_that_asks_for_more_than_there_is_says_so(fork_server: ForkServers, root: Path) -> None:
    (root / "main.py").write_text(SERVER.replace("def serve(word)", "def serve(word, colour)"))
    driver = fork_server()
    driver.load("main")
    driver.replica("server", "main:env", env={"FLYTE_PARAMETERS": '{"word": "w"}'})
    assert driver.next(wire.UnitExited).code == 1
    assert "serve() asks for colour; the app's parameters are: word." in driver.log.read_text()


# ------------------------------------------------------------------------------------------------------------ commands


def test_two_commands_that_declare_the_same_port_both_run(fork_server: ForkServers, root: Path) -> None:
    (root / "page.txt").write_text("the page")
    driver = fork_server()
    driver.load()
    argv = ["python", "-m", "http.server", "8080"]
    taken = [driver.replica("command", unit=f"r{n}", argv=argv) for n in range(2)]
    assert [get(port, "/page.txt").text for port in taken] == ["the page"] * 2


def test_a_program_that_says_its_port_itself_gets_the_units(fork_server: ForkServers, root: Path) -> None:
    (root / "serve.py").write_text(
        "import http.server, os\n"
        "http.server.HTTPServer(('', 8080), http.server.SimpleHTTPRequestHandler).serve_forever()\n"
    )
    driver = fork_server()
    driver.load()
    port = driver.replica("command", argv=["python", "serve.py"])
    assert get(port, "/serve.py").status_code == 200


def test_a_command_that_does_not_exist_is_named(fork_server: ForkServers, root: Path) -> None:
    driver = fork_server()
    driver.load()
    driver.replica("command", argv=["no-such-program"])
    assert driver.next(wire.UnitExited).code == 1
    assert "app 'app': there is no program 'no-such-program' on PATH" in driver.log.read_text()


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["streamlit", "run", "a.py", "--server.port", "8080"], ["streamlit", "run", "a.py", "--server.port", "41000"]),
        (["x", "--server.port=8080"], ["x", "--server.port=41000"]),
        (["x", "--port", "8080", "--timeout", "8080"], ["x", "--port", "41000", "--timeout", "8080"]),
        (["x", "-p", "8080"], ["x", "-p", "41000"]),
        (["x", "-p8080"], ["x", "-p41000"]),
        (["gunicorn", "--bind", "0.0.0.0:8080", "a:b"], ["gunicorn", "--bind", "127.0.0.1:41000", "a:b"]),
        (["gunicorn", "-b", ":8080", "a:b"], ["gunicorn", "-b", ":41000", "a:b"]),
        (["x", "--host=0.0.0.0", "--port=8080"], ["x", "--host=127.0.0.1", "--port=41000"]),
        (["x", "--host", "0.0.0.0"], ["x", "--host", "127.0.0.1"]),
        (["x", "--http-port", "8080"], ["x", "--http-port", "41000"]),
        (["manage.py", "runserver", "0.0.0.0:8080"], ["manage.py", "runserver", "127.0.0.1:41000"]),
        (["python", "-m", "http.server", "8080"], ["python", "-m", "http.server", "41000"]),
        (["x", "--upstream", "http://db:8080/a"], ["x", "--upstream", "http://db:8080/a"]),
        (["x", "$PORT", "$WORD", "${WORD}"], ["x", "41000", "w", "w"]),
        (["x", "a$WORD", "$"], ["x", "a$WORD", "$"]),
    ],
)
def test_the_words_of_a_command_name_the_real_port(argv: list[str], expected: list[str]) -> None:
    assert command.words(argv, 8080, 41000, {"PORT": "41000", "WORD": "w"}) == expected


def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(command.BadCommand, match=r"\$MISSING, which is not set"):
        command.words(["x", "$MISSING"], 8080, 41000, {})


def test_frameworks_are_told_the_real_port_unless_the_user_chose_another() -> None:
    env = command.variables(8080, 41000, {"PORT": "8080", "UVICORN_PORT": "9000", "GRADIO_SERVER_PORT": "8080"})
    assert env["PORT"] == env["GRADIO_SERVER_PORT"] == env["STREAMLIT_SERVER_PORT"] == "41000"
    assert env["UVICORN_PORT"] == "9000"
    assert env["STREAMLIT_SERVER_HEADLESS"] == "true"


# ------------------------------------------------------------------------------------------------------------ the shim


def run_shimmed(program: str, real: int, **env: str) -> str:
    """What `program` prints when it believes that it has port 8080."""
    shimmed = command.shimmed(8080, real, env)
    words = [sys.executable, "-c", program]
    return subprocess.run(words, env=shimmed, capture_output=True, text=True, timeout=30, check=True).stdout


@pytest.fixture
def real() -> Iterator[int]:
    """The port that the program really gets."""
    with ports.one() as port:
        yield port


SOCKETS = """
import socket
def bound(family, host, port=8080, v6only=None):
    s = socket.socket(family)
    if v6only is not None: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
    s.bind((host, port)); s.listen()
    return s
"""


@pytest.mark.parametrize("host", ["", "0.0.0.0", "127.0.0.1", "::", "::1"])
def test_whatever_address_is_bound_the_gateway_finds_it_on_the_loopback_interface(host: str, real: int) -> None:
    family = "AF_INET6" if ":" in host else "AF_INET"
    program = f"{SOCKETS}s = bound(socket.{family}, {host!r})\nsocket.create_connection(('127.0.0.1', {real}))\n"
    assert run_shimmed(program + "print(s.accept()[1][0])", real).strip() in ("127.0.0.1", "::ffff:127.0.0.1")


@pytest.mark.parametrize("order", ["46", "64"])
def test_a_server_with_a_socket_for_each_kind_of_address_starts(order: str, real: int) -> None:
    four, six = "a = bound(socket.AF_INET, '0.0.0.0')\n", "b = bound(socket.AF_INET6, '::', v6only=1)\n"
    program = SOCKETS + (four + six if order == "46" else six + four)
    program += f"socket.create_connection(('127.0.0.1', {real}))\nprint('reached')"
    assert run_shimmed(program, real) == "reached\n"


SERVERS = {
    "asyncio, any address": "await asyncio.start_server(answer, None, 8080)",
    "asyncio, a list": "await asyncio.start_server(answer, ['127.0.0.1', '::1'], 8080)",
    "asyncio, the other way round": "await asyncio.start_server(answer, ['::1', '127.0.0.1'], 8080)",
    "asyncio, whatever localhost is": "await asyncio.start_server(answer, 'localhost', 8080)",
    "asyncio, only IPv6": "await asyncio.start_server(answer, '::', 8080)",
    "asyncio, four": "await asyncio.start_server(answer, ['0.0.0.0', '::', '127.0.0.1', '::1'], 8080)",
    "asyncio, $PORT": "await asyncio.start_server(answer, None, int(os.environ['PORT']))",
    "aiohttp, a site": "await web.TCPSite(await runner(), None, 8080).start()",
    "aiohttp, run_app": "await web._run_app(web.Application(), port=8080, print=None)",
    "websockets, None": "await websockets.serve(talk, None, 8080)",
    "websockets, no name": "await websockets.serve(talk, '', 8080)",
    "websockets, localhost": "await websockets.serve(talk, 'localhost', 8080)",
}
BINDING = """
import asyncio, os, socket, sys
import websockets
from aiohttp import web

LOCALHOST = [(socket.AF_INET6, '::1'), (socket.AF_INET, '127.0.0.1')]
asked = socket.getaddrinfo

def both(host, port, *args, **kwargs):  # as most machines have it, and containers have not
    if host != 'localhost':
        return asked(host, port, *args, **kwargs)
    return [one for _, address in LOCALHOST for one in asked(address, port, *args, **kwargs)]

socket.getaddrinfo = both

async def answer(reader, writer):
    await reader.readline()
    writer.write(b"HTTP/1.0 200 OK\\r\\n\\r\\n")
    await writer.drain()
    writer.close()

async def talk(connection): ...

async def runner():
    runner = web.AppRunner(web.Application())
    await runner.setup()
    return runner

async def main():
    serving = asyncio.ensure_future(start())
    async with asyncio.timeout(20):
        while True:
            if serving.done():
                serving.result()
            try:
                reader, writer = await asyncio.open_connection('127.0.0.1', int(os.environ['PORT']))
            except OSError:
                await asyncio.sleep(0.01)
                continue
            break
    writer.write(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    print((await reader.readline()).split()[0].decode(), flush=True)
    os._exit(0)

"""


@pytest.mark.parametrize("uvloop", [False, True], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("server", SERVERS)
def test_whatever_a_framework_binds_by_default_answers(server: str, uvloop: bool, real: int) -> None:
    run = "import uvloop; uvloop.run(main())" if uvloop else "asyncio.run(main())"
    program = f"{BINDING}\nasync def start():\n    started = {SERVERS[server]}\n    return started\n\n{run}\n"
    assert run_shimmed(program, real, PORT=str(real)).startswith("HTTP/1.")


def test_all_sockets_of_a_server_have_one_port(real: int) -> None:
    program = f"{SOCKETS}sockets = [\n"
    for host in ("0.0.0.0", "::", "127.0.0.1", "::1"):
        program += f"    bound(socket.{'AF_INET6' if ':' in host else 'AF_INET'}, {host!r}),\n"
    program += "]\nprint({s.getsockname()[1] for s in sockets})"
    assert run_shimmed(program, real) == "{8080}\n"
    assert run_shimmed(program.replace("port=8080", f"port={real}"), real) == f"{{{real}}}\n"


def test_a_port_that_was_let_go_can_be_bound_again_and_one_that_is_held_cannot(real: int) -> None:
    program = f"""{SOCKETS}
bound(socket.AF_INET, '').close()
s = bound(socket.AF_INET, '')
socket.create_connection(('127.0.0.1', {real}))
try:
    bound(socket.AF_INET, '')
except OSError as error:
    print(error)
"""
    assert f"port {real} (for the declared 8080) is in use" in run_shimmed(program, real)


def test_a_server_reaches_itself_at_the_port_it_believes_in(real: int) -> None:
    program = f"{SOCKETS}s = bound(socket.AF_INET, '')\nsocket.create_connection(('localhost', 8080)); s.accept()"
    run_shimmed(program, real)


def test_other_ports_are_left_alone(real: int) -> None:
    program = f"{SOCKETS}s = bound(socket.AF_INET, '127.0.0.1', 0); print(s.getsockname()[1])"
    assert int(run_shimmed(program, real)) not in (0, 8080, real)


def test_a_port_in_use_is_named_both_ways() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        real = taken.getsockname()[1]
        with pytest.raises(subprocess.CalledProcessError) as failed:
            run_shimmed(f"{SOCKETS}bound(socket.AF_INET, '')", real)
    assert f"port {real} (for the declared 8080) is in use" in failed.value.stderr


def test_another_sitecustomize_is_imported_as_well(tmp_path: Path, real: int) -> None:
    (tmp_path / "sitecustomize.py").write_text("import builtins\nbuiltins.mark = __file__\n")
    said = run_shimmed("print(mark)", real, PYTHONPATH=str(tmp_path))
    assert said.strip() == str(tmp_path / "sitecustomize.py")
