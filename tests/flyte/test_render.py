"""What other people chose, as the command line prints it."""

from __future__ import annotations

import json
from dataclasses import dataclass

import msgspec
import pytest

from flyte.cli import options, render
from flyte.cli._main import say_error
from flyte.cli.outcome import text_of
from flyte.cli.render import printable
from flyte.cli.tables import Column

CLIPBOARD = "\x1b]52;c;cm0gLXJmIH4=\x07"
TITLE = "\x1b]0;owned\x1b\\"
CSI = "\x9b2J"
TURNED = "\u202egpj.exe"


class Named(msgspec.Struct):
    name: str


@dataclass(frozen=True)
class Row:
    name: str


@pytest.mark.parametrize("text", [CLIPBOARD, TITLE, CSI, TURNED, "\x00", "\x7f", "a\rb"])
def test_a_terminal_obeys_nothing_in_a_name(text: str) -> None:
    assert printable(f"name{text}").isprintable()


def test_text_with_tabs_newlines_and_letters_of_any_script_stays_as_it_is() -> None:
    text = "Größe\t数\n🙂"
    assert printable(text) == text


def test_colours_stay_where_they_are_wanted_and_nothing_else_does() -> None:
    assert printable(f"\x1b[1;31mred\x1b[0m{CLIPBOARD}", colors=True) == (
        "\x1b[1;31mred\x1b[0m\\x1b]52;c;cm0gLXJmIH4=\\x07"
    )


@pytest.mark.parametrize("form", ["table", "name", "json", "json-raw"])
def test_a_listing_prints_no_control_character(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    render.listing([Row(CLIPBOARD + CSI)], [Column("name", lambda row: row.name)], form)
    assert all(character.isprintable() or character == "\n" for character in capsys.readouterr().out)


@pytest.mark.parametrize("form", ["table", "name", "json"])
def test_details_print_no_control_character(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    render.details(Named(TITLE + CSI), [("name", TITLE + CSI)], form)
    assert all(character.isprintable() or character == "\n" for character in capsys.readouterr().out)


def test_json_still_holds_the_very_name(capsys: pytest.CaptureFixture[str]) -> None:
    name = CLIPBOARD + CSI + TURNED
    render.show_json({"name": name})
    assert json.loads(capsys.readouterr().out) == {"name": name}


def test_errors_and_notes_print_no_control_character(capsys: pytest.CaptureFixture[str]) -> None:
    say_error(f"no project {CLIPBOARD!s}")
    options.say(f"run {TITLE}")
    assert "\x1b]" not in capsys.readouterr().err


def test_a_terminal_obeys_nothing_in_a_result() -> None:
    shown = text_of({"said": f"{CLIPBOARD}{CSI}"})
    assert json.loads(shown) == {"said": f"{CLIPBOARD}{CSI}"}
    assert shown.isprintable()
