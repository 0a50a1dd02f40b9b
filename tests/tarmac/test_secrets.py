"""Secrets at rest: only the master key opens them, and only under the name they were sealed for."""

from __future__ import annotations

import pytest

from flyte.errors import RuntimeSystemError
from flyte.rules import SECRET_NAME
from tarmac.secrets import Sealer, derive

PLACE = ("shop", "development", "API_KEY")
SEALER = Sealer(b"k" * 32)


@pytest.mark.parametrize("value", ["hunter2", "", "grün 🚀", "x" * 100_000, "a\0b\n"])
def test_what_was_sealed_is_opened_again(value: str) -> None:
    sealed = SEALER.seal(*PLACE, value)
    assert SEALER.open(*PLACE, sealed) == value
    assert Sealer(b"k" * 32).open(*PLACE, sealed) == value


def test_nothing_of_the_value_is_in_what_is_stored() -> None:
    sealed = SEALER.seal(*PLACE, "hunter2")
    assert b"hunter2" not in sealed
    assert sealed != SEALER.seal(*PLACE, "hunter2"), "the same value twice must not be seen to be the same"


@pytest.mark.parametrize(
    "place",
    [
        ("other", "development", "API_KEY"),
        ("shop", "production", "API_KEY"),
        ("shop", "development", "OTHER"),
    ],
)
def test_a_row_that_was_copied_elsewhere_does_not_open(place: tuple[str, str, str]) -> None:
    with pytest.raises(RuntimeSystemError, match="flyte create secret"):
        SEALER.open(*place, SEALER.seal(*PLACE, "hunter2"))


def test_another_master_key_does_not_open_it_and_the_message_says_what_to_do() -> None:
    sealed = SEALER.seal(*PLACE, "hunter2")
    with pytest.raises(RuntimeSystemError, match=r"'API_KEY' of shop/development .* another master.key") as caught:
        Sealer(b"o" * 32).open(*PLACE, sealed)
    assert caught.value.code == "SecretUnreadable"


def test_every_changed_or_missing_byte_is_noticed() -> None:
    sealed = SEALER.seal(*PLACE, "hunter2")
    changed = [sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :] for at in range(len(sealed))]
    for broken in (*changed, *(sealed[:length] for length in range(len(sealed)))):
        with pytest.raises(RuntimeSystemError):
            SEALER.open(*PLACE, broken)


def test_keys_for_different_purposes_differ() -> None:
    keys = {derive(b"k" * 32, purpose) for purpose in ("secrets", "identities")}
    assert len(keys) == 2
    assert {len(key) for key in keys} == {32}
    assert b"k" * 32 not in keys
    assert derive(b"k" * 32, "secrets") in keys


@pytest.mark.parametrize("name", ["API_KEY", "api-key", "k1", "x" * 200])
def test_a_good_name(name: str) -> None:
    assert SECRET_NAME.problem(name) is None


@pytest.mark.parametrize("name", ["", "a/b", "a b", "a\n", "ä", "x" * 201, "a.b"])
def test_a_name_that_could_be_taken_for_another_place_is_none(name: str) -> None:
    assert SECRET_NAME.problem(name) is not None
