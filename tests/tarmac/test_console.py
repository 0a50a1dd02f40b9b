"""The console's pages: what they show, what they never let through, and that they work without a script."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import msgspec
import pytest

from flyte.errors import InvalidInputError
from flyte.moments import ago
from flyte.wire import (
    Action,
    ActionDetails,
    ActionLink,
    ActionPhase,
    App,
    AppStatus,
    ArtifactRequest,
    ArtifactSpec,
    CacheUse,
    EnvironmentSpec,
    ErrorInfo,
    ImageRecord,
    LinkSpec,
    Replica,
    TaskSpec,
    TriggerRequest,
    TriggerSpec,
)
from tarmac.console import rendering
from tarmac.console.places import Place, local
from tarmac.console.run_pages import outputs_shown

from .api_server import ADD, KEY, OWNER, Server, add, serving

HOME = "/v2/domain/development/project/flytesnacks"
EVIL = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(tmp_path) as running:
        yield running


def put(path: Path, text: str) -> None:
    path.write_text(text)


class Page(HTMLParser):
    """A page as a browser reads it: its elements with their attributes, and its text."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__()
        assert answer.headers["content-type"].startswith("text/html"), answer.text
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(answer.text)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [found for name, found in self.elements if name == tag and wanted.items() <= found.items()]

    def links(self) -> list[str]:
        return [str(link["href"]) for link in self.all("a")]

    def part(self, id: str) -> bool:
        return any(found.get("id") == id and "data-part" in found for _, found in self.elements)


async def page(server: Server, path: str) -> Page:
    answer = await server.browser().get(path if path.startswith("/v2") else HOME + path)
    assert answer.status_code == 200, answer.text
    return Page(answer)


def app(name: str = "adder", **more: object) -> App:
    more = {"status": AppStatus.ACTIVE, "url": "http://127.0.0.1:30100", "version": "v1"} | more
    return App(project="flytesnacks", domain="development", name=name, **more)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------- signing in


async def test_a_page_without_a_session_leads_to_the_login_and_back(server: Server) -> None:
    browser = server.client(None, Accept="text/html", Origin=server.address)
    answer = await browser.get(f"{HOME}/runs?phase=failed")
    assert answer.status_code == 303
    target = urlsplit(answer.headers["location"])
    assert (target.path, parse_qs(target.query)["next"]) == ("/login", [f"{HOME}/runs?phase=failed"])
    form = Page(await browser.get(answer.headers["location"]))
    assert "flyte console" in form.text
    (hidden,) = form.all("input", type="hidden")
    answer = await browser.post("/login", data={"token": OWNER, "next": hidden["value"]})
    assert (answer.status_code, answer.headers["location"]) == (303, f"{HOME}/runs?phase=failed")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert OWNER not in cookie
    assert (await browser.get(f"{HOME}/runs")).status_code == 200


async def test_an_api_key_signs_in_too_and_anything_else_does_not(server: Server) -> None:
    browser = server.client(None, Origin=server.address)
    assert (await browser.post("/login", data={"token": f" {KEY}\n"})).status_code == 303
    wrong = await browser.post("/login", data={"token": "tk_wrong"})
    assert wrong.status_code == 401
    assert "set-cookie" not in wrong.headers
    assert "does not know this key" in Page(wrong).text
    assert (await browser.post("/login", data={})).status_code == 401


async def test_a_login_code_signs_in_once(server: Server) -> None:
    url = (await server.client().post("/v1/login-codes")).json()["url"]
    browser = server.client(None, Accept="text/html")
    first = await browser.get(url)
    assert (first.status_code, first.headers["location"]) == (303, "/")
    assert (await browser.get(f"{HOME}/runs")).status_code == 200
    again = await server.client(None, Accept="text/html").get(url)
    assert again.status_code == 401
    assert "flyte console" in Page(again).text


async def test_nobody_is_signed_in_by_a_page_of_a_stranger(server: Server) -> None:
    answer = await server.client(None, Origin="http://evil.example").post("/login", data={"token": OWNER})
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "path", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", ""]
)
async def test_signing_in_leads_nowhere_else(server: Server, path: str) -> None:
    browser = server.client(None, Origin=server.address)
    answer = await browser.post("/login", data={"token": OWNER, "next": path})
    assert answer.headers["location"] == "/"
    assert local(path) == "/"


async def test_signing_out_forgets_the_session(server: Server) -> None:
    browser = server.browser()
    answer = await browser.post("/logout")
    assert answer.status_code == 303
    assert "max-age=0" in answer.headers["set-cookie"].lower()
    assert (await server.client(None, Origin=server.address).post("/logout")).status_code == 401


async def test_the_first_page_is_the_runs(server: Server) -> None:
    for path in ("/", "/v2", HOME):
        answer = await server.browser().get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, f"{HOME}/runs")


# ------------------------------------------------------------------------------------------------------------- runs


async def test_the_runs_are_listed_with_their_phases_and_errors(server: Server) -> None:
    name = await add(server)
    failed = await add(server)
    server.control.move(failed, ActionPhase.FAILED, error=ErrorInfo(code="ValueError", message="no such column"))
    found = await page(server, "/runs")
    assert {f"{HOME}/runs/{name}", f"{HOME}/runs/{failed}"} <= set(found.links())
    assert "no such column" in found.text
    assert [span["class"] for span in found.all("span") if "phase" in (span.get("class") or "")] == [
        "phase failed",
        "phase queued",
    ]
    only = await page(server, "/runs?phase=failed")
    assert f"{HOME}/runs/{name}" not in only.links()
    assert "No run fits; without the filters there are 2" in (await page(server, "/runs?task=env.other")).text


async def test_runs_are_found_by_part_of_a_name_several_phases_and_how_long_ago(server: Server) -> None:
    name, failed = await add(server), await add(server)
    server.control.move(failed, ActionPhase.FAILED, error=ErrorInfo(code="ValueError", message="no"))
    both = {f"{HOME}/runs/{name}", f"{HOME}/runs/{failed}"}
    for query in ("task=ADD", "phase=failed&phase=queued", "since=1h", "since=today&task=env"):
        assert both <= set((await page(server, f"/runs?{query}")).links()), query
    boxes = [box["value"] for box in (await page(server, "/runs?phase=failed")).all("input") if "checked" in box]
    assert boxes == ["failed"]
    answer = await server.browser().get(f"{HOME}/runs?since=soon")
    assert answer.status_code == 422
    assert "2026-01-31T12:00" in answer.text


def test_an_error_is_shown_with_the_users_frames_and_its_sentence_once() -> None:
    text = f"""Traceback (most recent call last):
  File "/usr/lib/python3.11/asyncio/base_events.py", line 653, in run_until_complete
    return future.result()
  File "/home/me/.tarmac/code/{"0a" * 32}/report.py", line 9, in daily
    raise ValueError("no station")
ValueError: no station
"""
    shown = rendering.frames(ErrorInfo(code="ValueError", message="no station", traceback=text))
    assert shown.splitlines() == [
        "Traceback (most recent call last):",
        '  File "report.py", line 9, in daily',
        '    raise ValueError("no station")',
    ]


async def test_an_empty_list_says_what_to_do(server: Server) -> None:
    assert "flyte run" in (await page(server, "/runs")).text
    assert "flyte serve" in (await page(server, "/apps")).text
    assert "flyte deploy" in (await page(server, "/v2/domain/staging/project/flytesnacks/tasks")).text


async def test_a_long_list_of_runs_has_pages(server: Server) -> None:
    names = []
    for _ in range(60):
        server.control.now += 1
        names.append(await add(server))
    first = await page(server, "/runs")
    (older,) = [link for link in first.links() if "created_before" in link]
    assert f"{HOME}/runs/{names[9]}" not in first.links()
    second = await page(server, older)
    assert {f"{HOME}/runs/{name}" for name in names[:10]} <= set(second.links())
    assert not [link for link in second.links() if "created_before" in link]


async def test_a_run_shows_what_went_in_and_what_came_out(server: Server) -> None:
    name = await add(server, labels={"team": "search"})
    server.control.move(name, ActionPhase.RUNNING)
    server.control.now += 2.5
    server.control.move(name, ActionPhase.SUCCEEDED, outputs=[{"sum": 42}])
    found = await page(server, f"/runs/{name}")
    assert '"sum": 42' in found.text
    assert "x int 41" in found.text
    assert "2.5 s" in found.text
    assert "search" in found.text
    assert not found.all("form", action=f"{HOME}/runs/{name}/abort")


async def test_a_failed_run_shows_its_error_and_traceback(server: Server) -> None:
    name = await add(server)
    error = ErrorInfo(code="ValueError", message="no such column", traceback="Traceback:\n  File x.py, line 3")
    server.control.move(name, ActionPhase.FAILED, error=error)
    found = await page(server, f"/runs/{name}")
    assert "ValueError" in found.text
    assert "File x.py, line 3" in found.text


async def test_a_value_in_the_blob_store_is_a_link(server: Server) -> None:
    name = await add(server)
    details = await server.control.actions.get(name, "a0")

    async def large(run: str, action: str) -> ActionDetails:
        return msgspec.structs.replace(details, inputs=None, inputs_blob="b" * 64)

    server.control.actions.get = large  # type: ignore[method-assign,assignment]
    assert "/v1/blobs/" + "b" * 64 in (await page(server, f"/runs/{name}")).links()


async def test_a_very_long_value_is_cut(server: Server) -> None:
    name = await add(server)
    server.control.move(name, ActionPhase.RUNNING)
    server.control.move(name, ActionPhase.SUCCEEDED, outputs=["y" * (2 * rendering.LONGEST_VALUE)])
    found = await page(server, f"/runs/{name}")
    assert "more characters" in found.text
    assert len(found.text) < 2 * rendering.LONGEST_VALUE


async def test_a_run_is_aborted_with_a_button(server: Server) -> None:
    name = await add(server)
    (form,) = (await page(server, f"/runs/{name}")).all("form", action=f"{HOME}/runs/{name}/abort")
    answer = await server.browser("github").post(str(form["action"]))
    assert (answer.status_code, answer.headers["location"]) == (303, f"{HOME}/runs/{name}")
    assert (await server.control.runs.get(name)).phase is ActionPhase.ABORTED
    assert server.control.did[-1][1] == "github"


async def test_an_action_is_aborted_with_a_button(server: Server) -> None:
    name = await add(server)
    server.control.child(name, "c1")
    found = await page(server, f"/runs/{name}?action=c1")
    assert found.all("form", action=f"{HOME}/runs/{name}/actions/c1/abort")
    await server.browser().post(f"{HOME}/runs/{name}/actions/c1/abort")
    assert (await server.control.actions.get(name, "c1")).action.phase is ActionPhase.ABORTED


async def test_a_run_of_another_project_is_shown_at_its_own_address(server: Server) -> None:
    name = await add(server)
    answer = await server.browser().get(f"/v2/domain/production/project/other/runs/{name}")
    assert (answer.status_code, answer.headers["location"]) == (303, f"{HOME}/runs/{name}")


async def test_a_live_page_names_its_events_and_its_log_and_a_finished_one_is_quiet(server: Server) -> None:
    name = await add(server)
    (live,) = (await page(server, f"/runs/{name}")).all("div", id="live")
    events = urlsplit(str(live["data-events"]))
    assert events.path == f"/v1/runs/{name}/events"
    assert parse_qs(events.query)["after"] == [str(server.control.journal.seq)]
    before = (await page(server, f"/runs/{name}")).all("pre", class_="log")
    server.control.move(name, ActionPhase.ABORTED)
    over = await page(server, f"/runs/{name}")
    (quiet,) = over.all("div", id="live")
    assert "data-events" not in quiet
    assert [urlsplit(str(pre["data-log"])).path for pre in before] == [f"/v1/runs/{name}/actions/a0/logs"]
    assert over.all("pre", class_="log") == before, "the end of a run does not make its log be read again"


async def test_a_fragment_is_the_pages_changing_parts_and_nothing_else(server: Server) -> None:
    name = await add(server)
    for path, parts in (
        ("/runs", ["live", "list"]),
        (f"/runs/{name}", ["live", "runhead", "tree", "detail", "log"]),
        ("/tasks", ["live", "list"]),
        ("/tasks/env.add", ["live", "recent"]),
        ("/apps", ["live", "list"]),
    ):
        whole, fragment = await page(server, path), await page(server, f"{path}?fragment=1")
        assert all(whole.part(part) and fragment.part(part) for part in parts), path
        assert not fragment.all("html")
        assert not fragment.all("script")
        assert not fragment.all("h1") or "runhead" in parts


# ------------------------------------------------------------------------------------------------------------- tree


def rows(found: Page) -> list[str]:
    """The names of the actions that the tree shows, in order."""
    return [str(link["id"])[2:] for link in found.all("a", class_="name")]


async def grown(server: Server, children: int) -> str:
    name = await add(server)
    for n in range(children):
        server.control.child(name, f"c{n}")
    server.control.child(name, "g0", parent="c0")
    return name


async def test_the_tree_unfolds_where_the_address_says(server: Server) -> None:
    name = await grown(server, 3)
    assert rows(await page(server, f"/runs/{name}")) == ["a0", "c0", "c1", "c2"]
    assert rows(await page(server, f"/runs/{name}?open=,")) == ["a0"]
    assert rows(await page(server, f"/runs/{name}?open=a0,c0")) == ["a0", "c0", "g0", "c1", "c2"]


async def test_each_row_folds_and_unfolds_with_a_link(server: Server) -> None:
    name = await grown(server, 3)
    found = await page(server, f"/runs/{name}")
    twists = {str(link["id"]): str(link["href"]) for link in found.all("a", class_="twist")}
    assert set(twists) == {"t-a0", "t-c0"}
    assert rows(await page(server, twists["t-c0"])) == ["a0", "c0", "g0", "c1", "c2"]
    assert rows(await page(server, twists["t-a0"])) == ["a0"]


async def test_a_hundred_thousand_children_are_shown_page_by_page(server: Server) -> None:
    name = await add(server)
    held = server.control.known_runs[name]
    server.control.child(name, "c0")
    root, child = held.actions["a0"], held.actions["c0"]
    for n in range(1, 100_000):
        held.actions[f"c{n}"] = type(child)(msgspec.structs.replace(child.action, name=f"c{n}"))
    root.action = msgspec.structs.replace(root.action, children=100_000)
    first = await page(server, f"/runs/{name}")
    assert rows(first) == ["a0", *(f"c{n}" for n in range(100))]
    assert "1–100 of 100,000" in first.text
    (after,) = [str(link["href"]) for link in first.all("a", id="n-a0")]
    assert rows(await page(server, after))[1] == "c100"
    last = await page(server, f"/runs/{name}?open=a0~999")
    assert rows(last)[-1] == "c99999"
    assert not last.all("a", id="n-a0")
    (live,) = last.all("div", id="live")
    assert "actions=root" in str(live["data-events"])


async def test_actions_of_one_phase_are_a_flat_list(server: Server) -> None:
    name = await grown(server, 3)
    server.control.move(name, ActionPhase.FAILED, action="g0")
    assert rows(await page(server, f"/runs/{name}?phase=failed")) == ["g0"]
    assert "No action is running" in (await page(server, f"/runs/{name}?phase=running")).text


async def test_a_selected_action_shows_its_own_log_and_details(server: Server) -> None:
    name = await grown(server, 2)
    found = await page(server, f"/runs/{name}?action=c1")
    (log,) = found.all("pre", class_="log")
    assert urlsplit(str(log["data-log"])).path == f"/v1/runs/{name}/actions/c1/logs"


async def test_an_action_that_does_not_exist_is_said_so(server: Server) -> None:
    name = await add(server)
    answer = await server.browser().get(f"{HOME}/runs/{name}?action=zz")
    assert answer.status_code == 404
    assert "no action" in Page(answer).text


# ------------------------------------------------------------------------------------------------------------ tasks


async def test_tasks_are_listed_and_filtered_by_name(server: Server) -> None:
    assert f"{HOME}/tasks/env.add" in (await page(server, "/tasks")).links()
    assert f"{HOME}/tasks/env.add" in (await page(server, "/tasks?name=ADD")).links()
    assert "No task is called that" in (await page(server, "/tasks?name=other")).text


async def test_a_task_shows_its_words_its_inputs_and_its_versions(server: Server) -> None:
    server.control.add_task(ADD, "v2")
    found = await page(server, "/tasks/env.add")
    assert "Adds one." in found.text
    assert "step" in found.text
    assert f"{HOME}/tasks/env.add?version=v1" in found.links()
    assert [field["name"] for field in found.all("input") if str(field.get("name")).startswith("input.")] == [
        "input.x",
        "input.by",
    ]


async def test_a_run_is_started_with_the_form(server: Server) -> None:
    found = await page(server, "/tasks/env.add")
    hidden = {str(field["name"]): str(field["value"]) for field in found.all("input", type="hidden")}
    sent = hidden | {"input.x": "41", "input.by": ""}
    browser = server.browser("github")
    answer = await browser.post(f"{HOME}/tasks/env.add", data=sent)
    assert answer.status_code == 303
    name = answer.headers["location"].rpartition("/")[2]
    details = await server.control.actions.get(name, "a0")
    assert bytes(details.inputs or b"") == b'{"x":41}'
    assert (await server.control.runs.get(name)).created_by == "github"
    again = await browser.post(f"{HOME}/tasks/env.add", data=sent)
    assert again.headers["location"] == answer.headers["location"], "a form that is sent twice starts one run"


async def test_what_was_typed_wrongly_is_said_beside_its_field_and_kept(server: Server) -> None:
    answer = await server.browser().post(f"{HOME}/tasks/env.add", data={"input.x": "forty", "input.by": "7"})
    assert answer.status_code == 422
    found = Page(answer)
    assert "x is not a whole number" in found.text
    (x,) = found.all("input", name="input.x")
    (by,) = found.all("input", name="input.by")
    assert (x["value"], x["aria-invalid"], by["value"]) == ("forty", "true", "7")


async def test_what_the_platform_refuses_is_said_above_the_form(server: Server) -> None:
    async def refuse(*_: object) -> object:
        raise InvalidInputError("input 'x' of env.add is 41, which is too much")

    server.control.runs.create = refuse  # type: ignore[method-assign,assignment]
    answer = await server.browser().post(f"{HOME}/tasks/env.add", data={"input.x": "41"})
    assert answer.status_code == 422
    assert "which is too much" in Page(answer).text


async def test_a_run_can_be_made_again_with_its_inputs(server: Server) -> None:
    name = await add(server)
    (again,) = [link for link in (await page(server, f"/runs/{name}")).links() if "like=" in link]
    (x,) = (await page(server, again)).all("input", name="input.x")
    assert x["value"] == "41"
    assert (await page(server, "/tasks/env.add?like=gone")).all("input", name="input.x")[0]["value"] == ""


# ------------------------------------------------------------------------------------------------------------- apps


async def test_an_app_shows_where_it_answers_its_replicas_and_its_requests(server: Server) -> None:
    replica = Replica(name="r-1", version="v1", phase="ready", restarts=2)
    server.control.add_app(app(host="adder.flyte.localhost:30080", replicas=[replica], description="Adds one."))
    entry = {"time": 1, "method": "GET", "path": "/add", "status": 503, "total_ms": 1500, "caller": "owner"}
    put(server.control.access_file("adder"), json.dumps(entry) + "\n{}\n")
    found = await page(server, "/apps/adder")
    assert {"http://127.0.0.1:30100", "http://adder.flyte.localhost:30080"} <= set(found.links())
    assert "GET /add" in found.text
    assert "503" in found.text
    assert "1.5 s" in found.text
    assert "r-1" in found.text
    listed = await page(server, "/apps")
    assert {f"{HOME}/apps/adder", "http://127.0.0.1:30100"} <= set(listed.links())
    assert "1 / 1" in listed.text


async def test_the_pages_of_tasks_and_apps_show_what_is_declared_without_effect(server: Server) -> None:
    line = "Scaling(metric=) has no effect: an app does not scale up under load"
    server.control.add_app(app(no_effect=[line]))
    server.control.add_task(msgspec.structs.replace(ADD, no_effect=["cache= has no effect"]), "v2")
    assert line in (await page(server, "/apps/adder")).text
    assert "cache= has no effect" in (await page(server, "/tasks/env.add")).text


async def test_an_app_is_switched_off_and_on_with_buttons(server: Server) -> None:
    server.control.add_app(app())
    browser = server.browser("github")
    (off,) = (await page(server, "/apps/adder")).all("form", action=f"{HOME}/apps/adder/deactivate")
    assert (await browser.post(str(off["action"]))).headers["location"] == f"{HOME}/apps/adder"
    (on,) = (await page(server, "/apps/adder")).all("form", action=f"{HOME}/apps/adder/activate")
    await browser.post(str(on["action"]))
    assert server.control.did == [("deactivate adder", "github"), ("activate adder", "github")]


async def test_a_failed_app_shows_why(server: Server) -> None:
    server.control.add_app(app(status=AppStatus.FAILED, message="ModuleNotFoundError: streamlit"))
    assert "ModuleNotFoundError" in (await page(server, "/apps/adder")).text
    assert "ModuleNotFoundError" in (await page(server, "/apps")).text


async def test_a_sleeping_app_says_that_a_request_wakes_it(server: Server) -> None:
    server.control.add_app(app(status=AppStatus.SLEEPING))
    assert "the next request starts one" in (await page(server, "/apps/adder")).text


# --------------------------------------------------------------------------------------------------------- hostility


async def test_hostile_names_and_values_are_text_on_every_page(server: Server) -> None:
    environment = EnvironmentSpec(name=EVIL, kind="task")
    name = f"env.{EVIL}"
    server.control.add_task(TaskSpec(name=name, short_name=EVIL, entry="m:x", environment=environment, docs=EVIL), EVIL)
    run = await add(server, task=name, inputs={}, labels={EVIL: EVIL}, name="r-evil")
    error = ErrorInfo(code=EVIL, message=EVIL, traceback=EVIL)
    server.control.child(run, "c1", task=EVIL, group=EVIL)
    server.control.move(run, ActionPhase.FAILED, EVIL, error=error, outputs=[{EVIL: EVIL}])
    links = [LinkSpec(path="javascript:alert(1)", title=EVIL), LinkSpec(path="/docs", title=EVIL, is_relative=True)]
    replica = Replica(name=EVIL, version=EVIL, phase="ready", message=EVIL)
    server.control.add_app(app(EVIL, version=EVIL, message=EVIL, description=EVIL, links=links, replicas=[replica]))

    async def log(*_: object) -> Path:
        return server.control.folder / "evil.jsonl"

    server.control.apps.access_log = log  # type: ignore[method-assign,assignment]
    entry = {"time": 1, "method": EVIL, "path": EVIL, "status": 200, "total_ms": 1, "caller": EVIL}
    put(server.control.folder / "evil.jsonl", json.dumps(entry))
    place = Place()
    for path in (
        f"{HOME}/runs",
        f"{HOME}/runs/{run}",
        f"{HOME}/runs/{run}?action=c1",
        f"{HOME}/tasks",
        place.page("tasks", name),
        f"{HOME}/apps",
        place.page("apps", EVIL),
        place.page("tasks", EVIL),
        place.page("apps", "other" + EVIL),
        f"{HOME}/runs?task={EVIL}",
        f"/login?next={EVIL}",
        f"/login?code={EVIL}",
        f"/{EVIL}",
    ):
        answer = await server.browser().get(path)
        found = Page(answer)
        assert all("src" in script for script in found.all("script")), path
        assert not [image for image in found.all("img") if image.get("src") == "x"], path
        assert not [link for link in found.links() if link.lower().startswith("javascript:")], path
        assert not [name for _, attributes in found.elements for name in attributes if name.startswith("on")], path


async def test_pages_keep_to_their_own_policy(server: Server) -> None:
    """No inline script, no inline style, nothing from anywhere else."""
    name = await grown(server, 2)
    server.control.add_app(app())
    for path in ("/runs", f"/runs/{name}", "/tasks", "/tasks/env.add", "/apps", "/apps/adder", "/v1/docs"):
        answer = await server.browser().get(path if path.startswith("/v") else HOME + path)
        found = Page(answer)
        assert not [tag for tag, attributes in found.elements if "style" in attributes or tag == "style"], path
        sources = [
            str(attributes.get("src") or attributes.get("href"))
            for tag, attributes in found.elements
            if tag in ("script", "link", "img")
        ]
        assert sources, path
        assert all(re.fullmatch(r"/static/[\w.]+\?v=[0-9a-f]{12}", source) for source in sources), path


async def test_static_files_are_found_kept_and_nothing_else_is_given(server: Server) -> None:
    browser = server.client(None)
    for name, kind in (("console.css", "text/css"), ("console.js", "text/javascript"), ("icon.svg", "image/svg+xml")):
        answer = await browser.get(rendering.asset(name))
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(kind)
        assert "immutable" in answer.headers["cache-control"]
        assert (await browser.get(f"/static/{name}")).headers["cache-control"] == "no-cache"
    for name in (
        "nope.js",
        "..%2frendering.py",
        "%2e%2e%2fforms.py",
        "rendering.py",
        "..%2ftemplates%2fbase.html",
    ):
        assert (await browser.get(f"/static/{name}")).status_code == 404
    assert (await browser.get("/static/%00.js")).status_code == 422, "no address holds a NUL character"


# ------------------------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, ""),
        (0.0321, "32 ms"),
        (1.24, "1.2 s"),
        (59.94, "59.9 s"),
        (75, "1m 15s"),
        (3599, "59m 59s"),
        (3700, "1h 1m"),
        (90_000, "1d 1h"),
        (-1, "0 ms"),
    ],
)
def test_durations_are_short_words(seconds: float | None, words: str) -> None:
    assert rendering.duration(seconds) == words


def test_moments_are_told_by_how_long_ago_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_000_000.0)
    told = [ago(1_000_000.0 - seconds) for seconds in (0, 12, 300, 7200, 200_000)]
    assert told == ["just now", "12 s ago", "5 min ago", "2 h ago", "2 d ago"]
    assert ago(0) == ""


def test_only_backticks_become_code() -> None:
    assert rendering.code("give `limit` <b>") == "give <code>limit</code> &lt;b&gt;"


@pytest.mark.parametrize(("values", "names"), [(b"[1]", ["result"]), (b"[1, 2]", ["result 1", "result 2"])])
def test_what_an_action_returned_has_no_name_that_nobody_gave_it(values: bytes, names: list[str]) -> None:
    action = Action(run="r", name="a0", task="env.add", phase=ActionPhase.SUCCEEDED)
    details = ActionDetails(action=action, outputs=msgspec.Raw(values))
    assert [name for name, _, _ in outputs_shown(details)] == names


async def test_an_actions_links_are_buttons_that_tell_the_other_page_nothing(server: Server) -> None:
    link = ActionLink(name=EVIL, uri="https://board.example/?a=1&b=2")
    server.control.add_task(msgspec.structs.replace(ADD, links=[link]))
    shown = await page(server, f"/runs/{await add(server)}")
    (button,) = [attributes for element, attributes in shown.elements if attributes.get("href") == link.uri]
    assert (button["target"], button["rel"], EVIL in shown.text) == ("_blank", "noopener noreferrer", True)


async def test_a_list_of_objects_is_a_table_of_its_first_rows(server: Server) -> None:
    name = await add(server)
    rows: list[dict[str, object]] = [{"city": f"{EVIL} {n}", "days": n} for n in range(250)]
    server.control.move(name, ActionPhase.SUCCEEDED, outputs=[[*rows, {"city": None, "late": True}]])
    shown = await page(server, f"/runs/{name}")
    assert [element for element, _ in shown.elements].count("tr") == 101
    assert f"{EVIL} 99" in shown.text
    assert f"{EVIL} 100" not in shown.text
    assert "251 rows, the first 100 of them" in shown.text
    for other in ([{"a": 1}], [{"a": 1}, 2], [{"a": {"b": 1}}, {"a": 2}]):
        assert rendering.records(other) is None


async def test_the_pages_of_artifacts_show_versions_and_who_made_them(server: Server) -> None:
    assert "There is no artifact yet." in (await page(server, "/artifacts")).text
    run = await add(server)
    for version in ("1.0", "2.0"):
        spec = ArtifactSpec(name="model", version=version, description=EVIL, attrs={"epochs": version})
        request = ArtifactRequest(spec=spec, value=msgspec.Raw(b'"/f"'), schema={"title": "File"}, run=run, action="a0")
        await server.control.artifacts.create(request, "owner")
    listed = await page(server, "/artifacts")
    assert ("2.0" in listed.text, EVIL in listed.text) == (True, True)
    assert f"{HOME}/artifacts/model" in [attributes.get("href") for _, attributes in listed.elements]
    one = await page(server, "/artifacts/model?version=1.0")
    links = [attributes.get("href") for _, attributes in one.elements]
    assert f"{HOME}/artifacts/model?version=2.0" in links
    assert f"{HOME}/runs/{run}?action=a0" in links
    assert '"/f"' in one.text


async def test_the_page_of_triggers_shows_what_is_due_and_pauses_it(server: Server) -> None:
    assert "No task is started by itself." in (await page(server, "/triggers")).text
    spec = TriggerSpec(name="nightly", cron="30 2 * * *", timezone="Europe/Berlin")
    made = await server.control.triggers.create(TriggerRequest(task="env.work", trigger=spec), "owner")
    failed = msgspec.structs.replace(made, name="failed", next=[2e9], active=False, message=EVIL)
    server.control.triggers.records[failed.task, failed.name] = failed
    shown = await page(server, "/triggers")
    for words in ("30 2 * * * (Europe/Berlin)", "2033-05-18", EVIL):
        assert words in shown.text
    forms = [attributes["action"] for element, attributes in shown.elements if element == "form" and attributes]
    for action in (f"{HOME}/triggers/env.work/nightly/deactivate", f"{HOME}/triggers/env.work/failed/activate"):
        assert action in forms
        answer = await server.browser("github").post(action)
        assert (answer.status_code, answer.headers["location"]) == (303, f"{HOME}/triggers")
    states = {name: record.active for (_, name), record in server.control.triggers.records.items()}
    assert states == {"nightly": False, "failed": True}


async def test_a_report_is_a_page_of_an_origin_of_its_own(server: Server) -> None:
    name = await add(server)
    assert not [element for element, _ in (await page(server, f"/runs/{name}")).elements if element == "iframe"]
    server.control.actions.reports[name, "a0"] = "<p>what it found</p>"
    shown = await page(server, f"/runs/{name}")
    (frame,) = [attributes for element, attributes in shown.elements if element == "iframe"]
    assert "allow-same-origin" not in (frame["sandbox"] or "")
    answer = await server.browser("github").get(str(frame["src"]))
    (policy,) = answer.headers.get_list("content-security-policy")
    assert (answer.text, answer.headers["x-frame-options"]) == ("<p>what it found</p>", "SAMEORIGIN")
    assert policy.startswith("sandbox allow-scripts")
    assert "allow-same-origin" not in policy
    assert "default-src 'none'" in policy


async def test_a_result_from_the_cache_names_the_action_that_computed_it(server: Server) -> None:
    name = await add(server)
    use = CacheUse(status="hit", run="earlier", action="c1", seconds=12.25)
    known = server.control.known_runs[name]
    known.run = msgspec.structs.replace(known.run, cache=use)
    shown = await page(server, f"/runs/{name}")
    assert f"{HOME}/runs/earlier?action=c1" in [attributes.get("href") for _, attributes in shown.elements]
    assert "the result of earlier/c1, 12.2 s saved" in shown.text


# -------------------------------------------------------------------------------------------------------------- images


async def test_the_images_are_listed_with_what_they_ask_for(server: Server) -> None:
    assert "No environment has been made" in (await page(server, f"{HOME}/images")).text
    server.control.known_images = [
        ImageRecord(id="1b6523e3f916", state="ready", key="k", python="3.12.1", asked=[EVIL, "cow<2"], bytes=3 << 20),
        ImageRecord(id="7c5523e3f916", state="failed", asked=["cow==99"], error="no version"),
    ]
    found = await page(server, f"{HOME}/images")
    assert EVIL in found.text
    assert "ready 3.12.1" in found.text
    assert "failed" in found.text
    assert f"{HOME}/images/1b6523e3f916" in found.links()


async def test_an_image_shows_its_versions_users_and_log(server: Server) -> None:
    lock = "cow==1.0 \\\n    --hash=sha256:00\ngoat==2.0\n"
    server.control.known_images = [
        ImageRecord(
            id="1b6523e3f916", state="ready", key="k", python="3.12.1", lock=lock, environments=["p/production/herd"]
        ),
        ImageRecord(id="7c5523e3f916", state="failed", asked=["cow==99"], error="there is no version of cow==99"),
    ]
    server.control.image_logs = {"1b6523e3f916": f"$ uv pip sync {EVIL}"}
    found = await page(server, f"{HOME}/images/1b6523e3f916")
    assert "cow==1.0 goat==2.0" in found.text
    assert f"$ uv pip sync {EVIL}" in found.text
    assert "/v2/domain/production/project/p/tasks" in found.links()
    failed = await page(server, f"{HOME}/images/7c5523e3f916")
    assert "there is no version of cow==99" in failed.text
    assert "Build log" not in failed.text
    assert (await server.browser().get(f"{HOME}/images/none")).status_code == 404
