from dataclasses import dataclass

import pytest

from conf.registry import Registry


def _registry() -> Registry:
    registry = Registry("part")

    @registry("one")
    @dataclass(frozen=True)
    class One:
        size: int = 1

    return registry


def test_a_part_is_found_by_its_name_and_its_name_by_the_part() -> None:
    registry = _registry()
    assert list(registry) == ["one"]
    assert registry.name_of(registry["one"]()) == "one"


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown part 'two'; known: one"):
        _registry()["two"]


def test_a_stranger_has_no_name() -> None:
    with pytest.raises(ValueError, match="is not a registered part"):
        _registry().name_of(3)


def test_a_name_is_given_once() -> None:
    registry = _registry()
    with pytest.raises(ValueError, match="registered twice"):
        registry("one")(registry["one"])


def test_only_a_frozen_dataclass_is_a_part() -> None:
    @dataclass
    class Thawed:
        size: int = 1

    for kind in (Thawed, int):
        with pytest.raises(TypeError, match="must be a frozen dataclass"):
            Registry("part")("loose")(kind)


def test_two_registries_are_one_group_unless_they_share_a_name() -> None:
    other = Registry("moving part")

    @other("two")
    @dataclass(frozen=True)
    class Two:
        size: int = 2

    both = _registry() | other
    assert list(both) == ["one", "two"]
    assert both.name_of(other["two"]()) == "two"
    with pytest.raises(ValueError, match="both have 'one'"):
        _ = _registry() | _registry()
