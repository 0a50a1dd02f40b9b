"""The rules for what crosses the wire: what they take, what they refuse, and in which words."""

from __future__ import annotations

from typing import Any

import pytest

import flyte
from flyte import rules


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        (rules.APP_NAME, ["app", "my-app-2", "a" * 63], ["", "A", "a_b", "a/b", "..", "a\n", "a" * 64, "ä"]),
        (rules.ENVIRONMENT_NAME, ["env", "my_env-2"], ["", "My", "a--b", "a\n", "a" * 101]),
        (rules.TASK_NAME, ["env.task", "env.größe", "env._x", "env.<lambda>"], ["", "a/b", "a b", ".", "..", "a\0"]),
        (rules.VERSION, ["v1", "1.0_2-x"], ["", ".", "..", "a/b", "a\0", "a\n", "v" * 101]),
        (rules.VARIABLE, ["A", "a.b", "_"], ["", "A=1", "A B", "A\0", "A\n"]),
        (rules.VARIABLE_VALUE, ["", "a\nb", "ä" * 50_000], ["a\0b", "\ud800", "ä" * 50_001]),
        (rules.KEY_NAME, ["github", "a b", "é", "x"], ["", "a\nb", "a\0", "x" * 101, " ", "a ", "\u202eb", "a\u200bb"]),
        (rules.HOST, ["a.example.com", "x"], ["", "a_b", "-a", "a..b", "a/b", "a" * 254]),
        (rules.URL_PATH, ["/", "/health?x=1"], ["", "health", "/a b", "/a\n"]),
        (rules.DIGEST, ["0" * 64], ["", "0" * 63, "G" * 64]),
    ],
)
def test_texts_are_taken_or_refused(rule: rules.Text, good: list[str], bad: list[str]) -> None:
    assert [value for value in good if rule.problem(value) is not None] == []
    assert [value for value in bad if rule.problem(value) is None] == []


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        (rules.CONCURRENCY, [1, 100_000], [0, -1, 2**63]),
        (rules.POSITIVE_DURATION, [0.001, 30], [0, -1, 1e308, float("nan"), float("inf")]),
        (rules.REQUEST_TIMEOUT, [1, 3600], [0, 3601, 1e308]),
        (rules.FLOAT, [0, -1.5], [float("nan"), float("inf"), float("-inf")]),
        (rules.PORT, [1, 65_535], [0, 65_536]),
    ],
)
def test_numbers_are_taken_or_refused(rule: rules.Number, good: list[float], bad: list[float]) -> None:
    assert [value for value in good if rule.problem(value) is not None] == []
    assert [value for value in bad if rule.problem(value) is None] == []


@pytest.mark.parametrize("text", [b"", b"[1", b"nul", b"[NaN]", b'"\xff"', b"[" * 257 + b"]" * 257, b"[" * 5_000])
def test_what_is_not_json_or_nested_too_deeply_is_refused(text: bytes) -> None:
    assert rules.JSON.problem(text) is not None


@pytest.mark.parametrize(
    "text", [b"null", b'{"a": [1.5, "\\u0000"]}', b"[" * 256 + b"]" * 256, b"[" + b"[]," * 300 + b"1]"]
)
def test_json_is_taken(text: bytes) -> None:
    assert rules.JSON.problem(text) is None


@pytest.mark.parametrize("value", [{1: 2}, [b"x"], [float("inf")], {"a": {"b": float("nan")}}])
def test_decoded_data_that_json_has_no_form_for_is_refused(value: Any) -> None:
    assert rules.JSON.problem(value) is not None


def test_a_refusal_names_the_value_and_what_is_allowed() -> None:
    assert str(rules.APP_NAME.problem("a/b")) == (
        "app name 'a/b' must consist of lower case letters, digits and '-' between them, at most 63 characters"
    )
    assert str(rules.CONCURRENCY.problem(0)) == "concurrency 0 must be from 1 to 100,000"
    assert len(str(rules.APP_NAME.problem("x" * 20_000))) < 200


@pytest.mark.parametrize("variables", [{"DEBUG=1": ""}, {"": "x"}, {"A": "x\0y"}, {"A": "x" * 100_001}])
def test_variables_that_no_process_can_have_are_refused_where_they_are_declared(variables: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="environment variable"):
        flyte.TaskEnvironment("typo", env_vars=variables)
    with pytest.raises(ValueError, match="environment variable"):
        flyte.app.AppEnvironment(name="typo", env_vars=variables)
    with pytest.raises(ValueError, match="environment variable"):
        flyte.with_runcontext(env_vars=variables)


def test_names_of_runs_labels_secrets_and_groups_are_checked_where_they_are_written() -> None:
    with pytest.raises(ValueError, match=r"run name '\.\./x' must be"):
        flyte.with_runcontext(name="../x")
    with pytest.raises(ValueError, match="label key 'a=b' at labels must be"):
        flyte.with_runcontext(labels={"a=b": "c"})
    with pytest.raises(ValueError, match="secret name 'a/b' must be"):
        flyte.Secret("a/b")
    with pytest.raises(ValueError, match="at most 1,000 characters"), flyte.group("a\0b"):
        pass
