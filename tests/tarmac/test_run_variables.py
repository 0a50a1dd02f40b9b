"""Which runs need processes that import their code anew: those that set a variable which the import looks at."""

from __future__ import annotations

from flyte.wire import PoolSpec
from tarmac.control.workers.variables import Looked, imported_with


def test_until_an_import_has_told_it_may_look_at_any_variable() -> None:
    looked = Looked()
    assert looked.meets("code", {"MODE": "a"})
    assert not looked.meets("code", {})


def test_only_variables_that_the_import_looked_at_matter() -> None:
    looked = Looked()
    looked.heard("code", ["MODE"])
    assert looked.meets("code", {"MODE": "a", "OTHER": "b"})
    assert not looked.meets("code", {"OTHER": "b"})


def test_an_import_with_other_variables_may_look_at_more_and_both_are_remembered() -> None:
    looked = Looked()
    looked.heard("code", ["MODE"])
    looked.heard("code", ["LEVEL"])
    assert looked.meets("code", {"MODE": "a"})
    assert looked.meets("code", {"LEVEL": "a"})


def test_an_import_that_read_the_whole_environment_looked_at_every_variable() -> None:
    looked = Looked()
    looked.heard("code", ["MODE"])
    looked.heard("code", None)
    assert looked.meets("code", {"OTHER": "b"})


def test_what_libraries_read_behind_pythons_back_matters_always() -> None:
    looked = Looked()
    looked.heard("code", [])
    for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "TF_CPP_MIN_LOG_LEVEL", "LC_ALL", "TZ"):
        assert looked.meets("code", {name: "1"}), name
    assert not looked.meets("code", {"TZDATA": "1"})


def test_the_platforms_own_variables_are_not_replaced() -> None:
    spec = PoolSpec(id="p", name="n", python="", root="", env={"FLYTE_LINK": "here", "MODE": "a"})
    own = imported_with(spec, {"FLYTE_LINK": "there", "MODE": "b", "NEW": "c"}, "d")
    assert (own.id, own.env) == ("p-id", {"FLYTE_LINK": "here", "MODE": "b", "NEW": "c"})
