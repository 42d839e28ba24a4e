"""Damage to what TFDS keeps beside the images: a set that is drawn here is drawn anew, of others one line says it."""

import shutil

import pytest

from revisit_ssl.data import known_source, open_source
from revisit_ssl.data.catalogue import DATASETS
from revisit_ssl.data.tfds_sets import TfdsSet
from revisit_ssl.errors import InputError

DAMAGE = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "bad byte": lambda data: b"\xff" + data[1:],
    "another shape": lambda data: b"[1]",
}


@pytest.fixture
def place(toy_dir, tmp_path):
    shutil.copytree(toy_dir, tmp_path / "sets", ignore=shutil.ignore_patterns("full", "*.damaged*"))
    open_source.cache_clear()
    yield tmp_path / "sets"
    open_source.cache_clear()


def damage(place, name, how):
    (path,) = place.glob(f"toy_scenes/tiny/*/{name}")
    path.write_bytes(DAMAGE[how](path.read_bytes()))


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("name", ["dataset_info.json", "features.json", "label.labels.txt"])
def test_a_set_that_is_drawn_here_is_drawn_anew(name, how, place, toy_dir, monkeypatch, capsys):
    damage(place, name, how)
    drawn = []

    def draw(builder, where):
        drawn.append(where)
        shutil.copytree(f"{toy_dir}/toy_scenes/tiny", f"{where}/toy_scenes/tiny")
        return type(builder)(config="tiny", data_dir=where)

    monkeypatch.setattr("revisit_ssl.data.tfds_reading.make_set", draw)
    assert known_source("toy_scenes_tiny", "train", data_dir=place).num_examples == 500
    source = open_source("toy_scenes_tiny", "train", data_dir=place)
    assert source.num_examples == 500 and source.labels.max() == 9
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(drawn) == (name == "dataset_info.json")  # the others are not needed
    assert not said or "is damaged (" in said[0] and said[0].endswith("toy_scenes/tiny.damaged")


OTHERS = [*(("dataset_info.json", how) for how in DAMAGE), ("*-train.tfrecord-*", "cut")]


@pytest.mark.parametrize(("name", "how"), OTHERS)
def test_a_set_of_others_is_named_in_one_line(name, how, place, monkeypatch):
    open_source("toy_scenes_tiny", "train", data_dir=place)  # so that TFDS knows the name
    monkeypatch.setitem(DATASETS, "mine", TfdsSet("toy_scenes/tiny", {"train": "train"}))
    damage(place, name, how)
    open_source.cache_clear()
    with pytest.raises(InputError, match=r"^data set mine in \S* is damaged \(.*\); delete its folder") as e:
        open_source("mine", "train", data_dir=place)
    assert len(str(e.value).splitlines()) == 1
