"""Sweeps whose recipes do not all have the preset: those that have it run, and the others are named."""

import pytest

from revisit_ssl.commands.sweep import Sweep
from revisit_ssl.errors import InputError
from revisit_ssl.papers import sweeps
from revisit_ssl.sweeps.sweep import with_preset

# A sweep, a preset, what runs, what is left out.
BOTH, ALL = ["npid", "npid_cld", "moco", "moco_cld"], ["moco_v2", "moco_v2_cld", "simclr", "byol", "byol_cld"]
SOME = [
    ("cld", "cifar100", BOTH, [*ALL, "infomin", "infomin_cld"]),
    ("cld", "imagenet_lt", BOTH, [*ALL, "infomin", "infomin_cld"]),
    ("cld", "openselfsup", ["byol", "byol_cld"], [*BOTH, *ALL[:3], "infomin", "infomin_cld"]),
    ("cld", "semi_1pct", [*BOTH, *ALL, "infomin", "infomin_cld"], []),
    ("obow", "paper", ["obow"], ["obow_vanilla", "moco_v2_plain", "moco_v2_multicrop"]),
]


@pytest.mark.parametrize(("family", "preset", "found", "without"), SOME)
def test_a_sweep_runs_the_recipes_that_have_its_preset_and_says_which_have_not(family, preset, found, without, capsys):
    variants = with_preset(sweeps()[family], Sweep(family=family, preset=preset))
    assert [v.recipe for v in variants] == found
    said = capsys.readouterr().out
    assert said == (f"left out, without a preset {preset}: {', '.join(without)}\n" if without else "")


def test_a_recipe_that_was_named_is_not_left_out():
    for options, complaint in (
        ({"preset": "cifar100", "pretexts": ("npid", "simclr")}, "simclr of --pretexts has no preset 'cifar100'"),
        ({"preset": "imagenet20"}, "no recipe of cld has a preset 'imagenet20'; all have sample, small, cifar10"),
    ):
        with pytest.raises(InputError, match=complaint):
            with_preset(sweeps()["cld"], Sweep(family="cld", **options))
