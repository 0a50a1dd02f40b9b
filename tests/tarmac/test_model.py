"""The state tables, and what they promise."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from flyte.phases import (
    RESERVED,
    SYSTEM_RETRIES,
    TRANSITIONS,
    ForbiddenMove,
    after_failure,
    move,
    retry_delay,
)
from flyte.wire import (
    TERMINAL,
    ActionPhase,
    AppStatus,
    DeployedEnvironment,
    DeploymentPhase,
    ErrorInfo,
    Replica,
    RetrySpec,
)
from tarmac.model import (
    APP_TRANSITIONS,
    DEPLOYMENT_TRANSITIONS,
    ENVIRONMENT_TRANSITIONS,
    REPLICA_TRANSITIONS,
    Row,
    check_deployment,
    check_environment,
    move_app,
    move_replica,
)

SRC = Path(__file__).parents[2] / "src"
TABLES = [APP_TRANSITIONS, REPLICA_TRANSITIONS, DEPLOYMENT_TRANSITIONS, ENVIRONMENT_TRANSITIONS]

P = ActionPhase
USER = ErrorInfo(code="ValueError", message="no")
SYSTEM = ErrorInfo(code="WorkerLostError", message="lost", kind="system")


def test_terminal_is_terminal() -> None:
    assert [row for row in TRANSITIONS if row.old in TERMINAL] == []
    with pytest.raises(ForbiddenMove, match="does not go from succeeded to running"):
        move(P.SUCCEEDED, P.RUNNING)


def test_no_row_stands_twice_and_none_stays_where_it_is() -> None:
    actions = [Row(row.old, row.new, row.why) for row in TRANSITIONS]
    for rows in (actions, *TABLES):
        pairs = [(str(row.old), str(row.new)) for row in rows]
        assert len(pairs) == len(set(pairs))
        assert [pair for pair in pairs if pair[0] == pair[1]] == []


def test_every_phase_can_be_left_or_is_terminal_or_reserved() -> None:
    assert {row.old for row in TRANSITIONS} | TERMINAL | RESERVED == set(ActionPhase)
    assert RESERVED.isdisjoint(phase for row in TRANSITIONS for phase in (row.old, row.new))
    assert {row.old for row in APP_TRANSITIONS} == set(AppStatus)


def test_everything_that_is_not_over_can_be_aborted() -> None:
    assert {row.old for row in TRANSITIONS if row.new is P.ABORTED} == set(ActionPhase) - TERMINAL - RESERVED


def _named(rows: Sequence[Row]) -> set[str]:
    return {str(phase) for row in rows for phase in (row.old, row.new)}


def test_the_tables_name_the_phases_that_the_api_shows_and_no_others() -> None:
    assert _named(APP_TRANSITIONS) == {status.value for status in AppStatus}
    assert _named(REPLICA_TRANSITIONS) == set(get_args(get_type_hints(Replica)["phase"]))
    assert _named(DEPLOYMENT_TRANSITIONS) == {phase.value for phase in DeploymentPhase}
    assert _named(ENVIRONMENT_TRANSITIONS) == set(get_args(get_type_hints(DeployedEnvironment)["phase"]))


def test_what_is_in_no_row_is_refused() -> None:
    assert move_app(AppStatus.STOPPED, AppStatus.SLEEPING) is AppStatus.SLEEPING
    assert move_app(AppStatus.ACTIVE, AppStatus.ACTIVE) is AppStatus.ACTIVE
    assert move_replica("draining", "ready") == "ready"
    with pytest.raises(ForbiddenMove, match="a replica does not go from failed to ready"):
        move_replica("failed", "ready")
    with pytest.raises(ForbiddenMove, match="a deployment does not go from failed to succeeded"):
        check_deployment(DeploymentPhase.FAILED, DeploymentPhase.SUCCEEDED)
    with pytest.raises(ForbiddenMove, match="from rolled_back to ready"):
        check_environment("rolled_back", "ready")


MOVERS = {"LiveAction.becomes", "LiveReplica.go", "LiveApp.go", "LocalRun.record"}
"""The functions that set a phase or status of something that is alive; each asks its table."""


ASKED_ELSEWHERE = {"Apps.unswitch", "Underway._progress", "Actions._try_again"}
"""What they set goes to a function that asks the table; the last one's is the row of an attempt that is over."""


def _is_state(keyword: ast.keyword) -> bool:
    """Whether it sets a status, or a phase that is not written out: fixed ones are those of deployments, whose tables
    `check_environment` and `check_deployment` ask when they are recorded.
    """
    return keyword.arg == "status" or (keyword.arg == "phase" and isinstance(keyword.value, ast.Name))


def _settings(path: Path) -> Iterator[tuple[str, str]]:
    """Where a file sets a phase or a status: the function's full name, and the line."""

    def walk(node: ast.AST, inside: str) -> Iterator[tuple[str, str]]:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            inside = f"{inside}.{node.name}".strip(".")
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        parts = [part for target in targets if target is not None for part in ast.walk(target)]
        if any(isinstance(part, ast.Attribute) and part.attr in ("phase", "status") for part in parts):
            yield inside, ast.unparse(node)
        replaces = isinstance(node, ast.Call) and ast.unparse(node.func) in ("replace", "msgspec.structs.replace")
        if replaces and any(_is_state(keyword) for keyword in getattr(node, "keywords", [])):
            yield inside, ast.unparse(node)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, inside)

    return walk(ast.parse(path.read_text()), "")


def test_nothing_sets_a_phase_or_a_status_past_its_table() -> None:
    files = [*(SRC / "tarmac" / "control").rglob("*.py"), *(SRC / "flyte" / "_local").glob("*.py")]
    found = [(place, text) for path in files for place, text in _settings(path)]
    assert {place for place, _ in found} >= MOVERS
    assert [(place, text) for place, text in found if place not in MOVERS | ASKED_ELSEWHERE] == []


def test_the_users_retries_are_counted_apart_from_lost_workers() -> None:
    retries = RetrySpec(count=2, base=1, factor=2, cap=3)
    assert after_failure(USER, retries, user_failures=2, system_failures=5).phase is P.QUEUED
    assert after_failure(USER, retries, user_failures=3, system_failures=0).phase is P.FAILED
    assert after_failure(SYSTEM, RetrySpec(), user_failures=0, system_failures=SYSTEM_RETRIES).phase is P.QUEUED
    assert after_failure(SYSTEM, retries, user_failures=0, system_failures=SYSTEM_RETRIES + 1).phase is P.FAILED


def test_a_non_recoverable_error_is_not_retried() -> None:
    error = ErrorInfo(code="NonRecoverableError", message="stop")
    assert after_failure(error, RetrySpec(count=9), user_failures=1, system_failures=0).phase is P.FAILED


def test_a_timeout_ends_as_timed_out_when_no_attempt_is_left() -> None:
    assert after_failure(USER, RetrySpec(), 1, 0, timed_out=True).phase is P.TIMED_OUT


def test_the_pause_before_a_retry_grows_up_to_its_cap() -> None:
    retries = RetrySpec(count=5, base=1, factor=2, cap=3)
    assert [retry_delay(retries, n) for n in (1, 2, 3)] == [1, 2, 3]


@pytest.mark.parametrize(("base", "cap", "delay"), [(1, 30, 30), (1, None, 86_400), (0, None, 0)])
def test_the_pause_after_thousands_of_failures_is_a_number(base: float, cap: float | None, delay: float) -> None:
    assert retry_delay(RetrySpec(count=9_999, base=base, factor=10, cap=cap), 9_000) == delay
