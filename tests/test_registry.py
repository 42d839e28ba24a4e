"""Registries: what is not yet imported is known by its options; what is added is found like the rest."""

import pytest

from revisit_ssl import backbones, pretext
from revisit_ssl.errors import InputError
from revisit_ssl.registry import Registry


@pytest.mark.parametrize("room", [backbones, pretext], ids=["backbones", "pretext"])
def test_options_are_those_of_the_class(room):
    registry = room.BACKBONES if room is backbones else room.PRETEXTS
    for name, (_, options) in room.HOMES.items():
        assert registry[name].Options is options is room.find_options(name), name
    for name in set(room.HOMES) & set(backbones.HOMES):
        assert registry[name].name == name


def test_a_registry_imports_what_is_asked_for():
    registry = Registry("json", {"reader": ("decoder.JSONDecoder", dict)})
    assert list(registry) == ["reader"] and "reader" in registry and registry.added == {"reader": None}
    assert registry.find_options("reader", "thing") is dict and registry.added == {"reader": None}
    assert registry["reader"].__name__ == "JSONDecoder"

    class Added:
        Options = list

    registry["more"] = Added
    assert registry.find("more", "thing") is Added and registry.find_options("more", "thing") is list
    del registry["more"]
    with pytest.raises(InputError, match="unknown thing 'more'; one of reader$"):
        registry.find("more", "thing")
