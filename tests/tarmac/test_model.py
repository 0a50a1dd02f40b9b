"""The state tables, and what they promise."""

from __future__ import annotations

import pytest

from flyte.wire import TERMINAL, ActionPhase, AppStatus, ErrorInfo, RetrySpec
from tarmac.model import (
    APP_TRANSITIONS,
    SYSTEM_RETRIES,
    TRANSITIONS,
    ForbiddenMove,
    after_failure,
    move,
    retry_delay,
)

P = ActionPhase
USER = ErrorInfo(code="ValueError", message="no")
SYSTEM = ErrorInfo(code="WorkerLostError", message="lost", kind="system")


def test_terminal_is_terminal() -> None:
    assert [row for row in TRANSITIONS if row.old in TERMINAL] == []
    with pytest.raises(ForbiddenMove, match="does not go from succeeded to running"):
        move(P.SUCCEEDED, P.RUNNING)


def test_no_row_stands_twice() -> None:
    pairs = [(row.old, row.new) for row in TRANSITIONS]
    assert len(pairs) == len(set(pairs))
    pairs_of_apps = [(row.old, row.new) for row in APP_TRANSITIONS]
    assert len(pairs_of_apps) == len(set(pairs_of_apps))


def test_every_phase_can_be_left_or_is_terminal() -> None:
    assert {row.old for row in TRANSITIONS} | TERMINAL == set(ActionPhase)
    assert {row.old for row in APP_TRANSITIONS} == set(AppStatus)


def test_everything_that_is_not_over_can_be_aborted() -> None:
    assert {row.old for row in TRANSITIONS if row.new is P.ABORTED} == set(ActionPhase) - TERMINAL


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
