"""Artifacts as a program makes them: values with a name, which are what they were in all other respects."""

from __future__ import annotations

from typing import Any

import pytest

import flyte
from flyte import artifacts, wire
from flyte._values import encode
from flyte.artifacts._new import produced
from flyte.io import DataFrame, Dir, File

FACTS = artifacts.Metadata(name="model", version="1.0", kind="model", attrs={"epochs": "3"})

env = flyte.TaskEnvironment("artifacts")


@env.task(produces_artifacts=True)
async def makes() -> tuple[File[str], int]:
    return artifacts.new(File[str](path="/a", hash="h"), FACTS), 1


@env.task(produces_artifacts=True)
async def hides() -> list[File[str]]:
    return [artifacts.new(File[str](path="/a"), FACTS)]


@env.task
async def undeclared() -> File[str]:
    return artifacts.new(File[str](path="/a"), FACTS)


@pytest.mark.parametrize("value", [File(path="/a", hash="h"), Dir(path="/d"), DataFrame("/t.csv", "csv")])
def test_a_marked_value_is_equal_to_the_one_that_was_marked(value: Any) -> None:
    marked = artifacts.new(value, FACTS)
    assert marked == value
    assert isinstance(marked, type(value))
    assert encode(marked, type(value)) == encode(value, type(value))
    assert isinstance(marked, artifacts.Artifact)
    assert not isinstance(value, artifacts.Artifact)
    assert marked.get_flyte_metadata() == FACTS


@pytest.mark.parametrize("value", [1, "text", {"a": 1}, [File(path="/a")]])
def test_nothing_but_a_file_a_folder_or_a_frame_is_an_artifact(value: Any) -> None:
    with pytest.raises(TypeError, match=r"cannot be an artifact: that is a flyte\.io\.File, Dir or DataFrame"):
        artifacts.new(value, FACTS)


def test_what_a_task_returns_is_produced_with_its_success() -> None:
    result = (artifacts.new(File[str](path="/a", hash="h"), FACTS), 1)
    outputs = makes.interface.dump_outputs(result)
    (found,) = produced(makes, result, outputs)
    assert (found.output, found.value) == (0, b'{"path":"/a","name":"a","hash":"h"}')
    assert found.spec == wire.ArtifactSpec(
        name="model", version="1.0", kind="model", attrs={artifacts.KIND_KEY: "model", "epochs": "3"}
    )


def test_an_artifact_inside_of_another_value_is_refused() -> None:
    result = [artifacts.new(File[str](path="/a"), FACTS)]
    with pytest.raises(TypeError, match=r"artifacts\.hides returns an artifact inside of another value"):
        produced(hides, result, hides.interface.dump_outputs(result))


def test_a_task_that_does_not_declare_artifacts_is_told(caplog: pytest.LogCaptureFixture) -> None:
    result = artifacts.new(File[str](path="/a"), FACTS)
    assert produced(undeclared, result, undeclared.interface.dump_outputs(result)) == []
    assert "returns the artifact 'model': declare it with produces_artifacts=True" in caplog.text


def test_in_local_mode_a_marked_value_is_an_output_like_any_other() -> None:
    assert flyte.run(makes).outputs()[0] == File(path="/a", hash="h")


def test_names_and_kinds_are_checked_where_they_are_written() -> None:
    with pytest.raises(ValueError, match="artifact name 'my model' must be 1 to 200 letters"):
        artifacts.Metadata(name="my model")
    with pytest.raises(ValueError, match="artifact version '' must be"):
        artifacts.Metadata(name="m", version="")
    with pytest.raises(ValueError, match="kind='thing' of the artifact 'm' is model, data or generic"):
        artifacts.Metadata(name="m", attrs={artifacts.KIND_KEY: "thing"})
    model = artifacts.Metadata.create_model_metadata(name="m", framework="torch", attrs={"team": "a"})
    assert model.to_wire().kind == "model"
    assert model.to_wire().attrs["framework"] == "torch"


async def test_a_card_is_a_file_with_its_text() -> None:
    card = await artifacts.Card.create_from.aio(content="# Facts", format="md", card_type="data")
    with File[str](path=card.uri).open_sync("r") as file:
        assert (file.read(), card.format, card.card_type) == ("# Facts", "md", "data")
    with pytest.raises(ValueError, match="content= or local_path="):
        await artifacts.Card.create_from.aio()
