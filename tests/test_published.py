"""The published numbers: right where a source confirms them, complete, one line each."""

import collections
import statistics

import pytest

from revisit_ssl.errors import InputError
from revisit_ssl.papers.published import load_published

ROWS = load_published("revisiting")
BEST = "official validation set; best model"


def values(**wanted):
    return [row["value"] for row in ROWS if all(row[name] == value for name, value in wanted.items())]


@pytest.mark.parametrize(
    ("wanted", "value"),
    [
        (dict(table="Table 2", pretext="rotation", backbone="revnet50", metric="top1", note=BEST), 55.4),
        (dict(table="Table 2", pretext="rotation", backbone="revnet50", width=16, metric="top5"), 77.9),
        (dict(table="Table 2", pretext="relative_patch", width=8, metric="top1", note=BEST), 51.4),
        (dict(table="Table 2", pretext="exemplar", width=12, metric="top1", note=BEST), 46.0),
        (dict(table="Table 2", pretext="jigsaw", backbone="resnet50_v1", metric="top1", note=BEST), 44.6),
        (dict(table="Table 1", pretext="rotation", backbone="revnet50", width=16), 53.7),
        (dict(table="Table 1", pretext="relative_patch", backbone="resnet50_v1", width=8), 50.5),
        (dict(table="Suppl. Table 2", pretext="jigsaw", backbone="revnet50", width=8), 24.2),
        (dict(table="Suppl. Table 3", pretext="rotation", backbone="vgg19_bn", width=8), 21.6),
        (dict(table="Suppl. Table 4", pretext="exemplar", backbone="resnet50_v2_minus", width=12), 31.9),
        (dict(table="Suppl. section 3", backbone="resnet18_no_skip"), 68.8),
    ],
)
def test_confirmed_numbers(wanted, value):
    assert values(confirmed="yes", **wanted) == [value]


def test_numbers_whose_column_is_inferred_say_so():
    """The text of the supplement's Table 1 has five headings and four numbers a row."""
    assert len(values(table="Suppl. Table 1", confirmed="inferred")) == len(values(table="Suppl. Table 1")) == 16
    where = {"table": "Suppl. Table 1", "confirmed": "inferred"}
    assert values(**where, pretext="rotation", backbone="resnet18", endpoint="block4") == [41.5]
    assert values(**where, pretext="exemplar", backbone="resnet18_no_skip", endpoint="block1") == [14.4]
    assert values(table="Suppl. section 3", confirmed="yes") == [69.6, 68.8]


@pytest.mark.parametrize(
    ("table", "labels", "mean"),
    # Means over all 66 cells, worked out from the supplement's own tables: a slip in any cell shows.
    [("Suppl. Table 2", 0.1, 25.8803), ("Suppl. Table 3", 1.0, 38.3833), ("Suppl. Table 4", 0.05, 29.5591)],
)
def test_whole_tables_of_the_supplement(table, labels, mean):
    cells = values(table=table, labels=labels, confirmed="yes", probe="lbfgs", endpoint="pre_logits")
    assert len(cells) == 66
    assert statistics.mean(cells) == pytest.approx(mean, abs=5e-5)


def test_every_cell_of_the_main_tables_is_there():
    assert len(values(table="Table 1")) == 66
    assert len(values(table="Table 1", confirmed="yes")) == 2
    assert len(values(table="Table 2")) == 16
    assert len(values(table="Suppl. Table 1")) == 16
    assert len(values(table="Table 2", dataset="places205", confirmed="recalled")) == 4


def test_the_published_difference_of_skip_connections_is_the_difference():
    for pretext in ("rotation", "exemplar"):
        for block in ("block1", "block2", "block3", "block4"):
            with_skips, without = (
                next(r for r in ROWS if (r["pretext"], r["backbone"], r["endpoint"]) == (pretext, name, block))
                for name in ("resnet18", "resnet18_no_skip")
            )
            stated = float(with_skips["note"].rsplit(" ", 1)[1])
            assert with_skips["value"] - without["value"] == pytest.approx(stated)


def test_types_ranges_and_vocabulary():
    for row in ROWS:
        assert None not in row and None not in row.keys() - {"width"}
        assert isinstance(row["value"], float) and 0 < row["value"] < 100
        assert row["width"] is None or (isinstance(row["width"], int) and row["width"] in (1, 4, 8, 12, 16))
        assert row["labels"] in (1.0, 0.1, 0.05)
        assert row["confirmed"] in ("yes", "recalled", "inferred")
        assert row["dataset"] in ("imagenet2012", "places205")
        assert row["metric"] in ("top1", "top5", "pretext_accuracy")
        assert row["source"] and row["table"] and row["pretext"] and row["probe"] and row["endpoint"]


def test_backbones_are_ours():
    from revisit_ssl.backbones import BACKBONES

    assert {row["backbone"] for row in ROWS} - set(BACKBONES) <= {"", "alexnet"}


def test_one_line_per_number():
    names = [name for name in ROWS[0] if name not in ("value", "confirmed", "source")]
    counts = collections.Counter(tuple(row[name] for name in names) for row in ROWS)
    assert [key for key, count in counts.items() if count > 1] == []


def test_an_unknown_paper_gets_one_line():
    papers = "cld, deepercluster, maskco, obow, revisiting"
    with pytest.raises(InputError, match=f"no published numbers for 'revisitng'; one of {papers}"):
        load_published("revisitng")


# --- the CLD paper ----------------------------------------------------------------------------------------------------

CLD = load_published("cld")


def cld_values(**wanted):
    return [row["value"] for row in CLD if all(row[name] == value for name, value in wanted.items())]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (dict(table="README, CIFAR", pretext="npid"), [80.8, 51.6]),
        (dict(table="README, CIFAR", pretext="npid_cld"), [86.7, 57.5, 86.8, 58.8]),
        (dict(table="README, CIFAR", pretext="moco_cld"), [87.5, 58.1, 87.6, 59.1, 59.7]),
        (dict(table="README, CIFAR", setting="head=normlinear"), [59.7]),
        (dict(table="Table A.1", setting="cld.clustering=kmeans cld.groups=10"), [78.9]),
        (dict(table="Table A.1", setting="cld.clustering=spectral cld.groups=256"), [70.5]),
        (dict(table="Table A.2", dataset="cifar10"), [80.8, 82.7, 84.2, 86.5]),
        (dict(table="Table A.2", dataset="cifar100"), [51.6, 53.3, 55.0, 57.5]),
        (dict(table="Table A.3", pretext="npid_cld", setting="cld.weight=0.25"), [79.7, 95.1]),
        (dict(table="Table A.3", pretext="moco_cld", metric="top1"), [77.6, 80.3, 81.7, 80.5, 80.1, 78.4]),
        (dict(table="Table A.4", dataset="imagenet100"), [79.3, 79.6, 81.7, 80.7, 79.4, 79.0]),
        (dict(table="README, ImageNet", pretext="moco_v2_cld", setting="head=normmlp epochs=200"), [70.0]),
        (dict(table="README, ImageNet", pretext="infomin_cld"), [69.5, 70.1, 70.6, 71.5]),
        (dict(paper="openselfsup", pretext="moco_v2", labels=0.01, metric="top1"), [39.07]),
        (dict(paper="moco", pretext="moco_v2", metric="ap50"), [82.4]),
        (dict(paper="pass", pretext="moco_v2_cld"), [60.2, 53.1]),
    ],
)
def test_confirmed_numbers_of_cld(wanted, found):
    assert cld_values(confirmed="yes", **wanted) == found


@pytest.mark.parametrize(
    ("table", "count", "mean"),
    # Worked out from the supplement's own tables: a slip in any cell shows.
    [("Table A.1", 8, 74.2625), ("Table A.2", 8, 68.95), ("Table A.3", 24, 86.6375), ("Table A.4", 12, 68.8667)],
)
def test_whole_tables_of_clds_supplement(table, count, mean):
    cells = cld_values(table=table, paper="cld")
    assert len(cells) == count
    assert statistics.mean(cells) == pytest.approx(mean, abs=5e-5)


def test_rows_of_cld_speak_the_vocabulary_of_this_package():
    from revisit_ssl.backbones import BACKBONES
    from revisit_ssl.data import DATASETS

    others = {"places205", "voc0712"}
    for row in CLD:
        assert None not in row and None not in row.values()
        assert 0 < row["value"] < 100 and row["width"] == 4 and row["labels"] in (1.0, 0.1, 0.01)
        assert row["backbone"] in BACKBONES and row["dataset"] in set(DATASETS) | others
        assert row["probe"] in ("knn", "linear_images", "finetune", "detection")
        assert row["endpoint"] in ("projection", "pre_logits", "whole network")
        assert row["metric"] in ("top1", "top5", "ap", "ap50", "ap75") and row["confirmed"] == "yes"
        assert row["source"] and row["table"]
        assert all(pair.count("=") == 1 for pair in row["setting"].split())
    assert {row["setting"] for row in ROWS} == {""}


def test_one_line_per_number_of_cld():
    names = [name for name in CLD[0] if name not in ("value", "confirmed", "source")]
    counts = collections.Counter(tuple(row[name] for name in names) for row in CLD)
    assert [key for key, count in counts.items() if count > 1] == []


# --- the OBoW paper ---------------------------------------------------------------------------------------------------

OBOW = load_published("obow")


def obow_values(**wanted):
    return [row["value"] for row in OBOW if all(row[name] == value for name, value in wanted.items())]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (dict(table="Table 1", pretext="obow_vanilla"), [42.11, 62.44, 45.86]),
        (dict(table="Table 1", pretext="obow"), [44.18, 64.89, 50.89]),
        (dict(table="Table 1", metric="few_shot_50way_1shot"), [42.11, 44.18, 24.75, 36.9]),
        (dict(table="Table 2", pretext="obow", probe="bench"), [200, 3.91, 7.82, 2.0]),
        (dict(table="Table 2", metric="memory"), [1.0, 2.0, 1.13, 1.72]),
        (dict(table="Table 2", metric="top1"), [76.5, 73.8, 71.1, 72.5]),
        (dict(metric="megabytes"), [15775, 8901]),
        (dict(table="Main table", pretext="obow"), [73.8, 56.8, 89.3, 82.9, 82.9, 90.7]),
    ],
)
def test_confirmed_numbers_of_obow(wanted, found):
    assert obow_values(confirmed="yes", **wanted) == found


@pytest.mark.parametrize(
    ("table", "count", "mean"),
    # Worked out from the tables themselves: a slip in any cell shows.
    [("Table 1", 12, 45.82583), ("Table 2", 20, 87.079), ("Main table", 64, 70.71094)],
)
def test_whole_tables_of_obow(table, count, mean):
    cells = obow_values(table=table, paper="obow")
    assert len(cells) == count
    assert statistics.mean(cells) == pytest.approx(mean, abs=5e-5)


def test_training_time_is_epochs_times_the_time_of_one():
    for method in ("supervised", "obow", "moco_v2", "byol"):
        numbers = {r["metric"]: r["value"] for r in OBOW if (r["table"], r["pretext"]) == ("Table 2", method)}
        assert numbers["training_time"] == pytest.approx(numbers["time_per_epoch"] * numbers["epochs"] / 100, abs=5e-3)


def test_what_two_sources_say_of_the_main_table_is_confirmed_and_the_rest_is_not():
    for row in OBOW:
        twice = row["note"].startswith("the same in ")
        assert row["confirmed"] == ("yes" if row["paper"] == "obow" and (row["table"] != "Main table" or twice)
                                    else "recalled")
    said = {r["pretext"]: r["value"] for r in OBOW if (r["table"], r["metric"]) == ("Table 2", "top1")}
    for row in OBOW:
        if row["table"] == "Main table" and "supplement's Table 2" in row["note"]:
            assert row["value"] == said[row["pretext"]]


def test_rows_of_obow_speak_the_vocabulary_of_this_package():
    from revisit_ssl.backbones import BACKBONES

    for row in OBOW:
        assert None not in row and None not in row.values() and row["value"] > 0 and row["width"] == 4
        assert row["value"] < 100 or row["probe"] == "bench"
        assert row["backbone"] in BACKBONES and row["dataset"] in ("imagenet2012", "places205", "voc", "voc0712")
        assert row["source"] and row["table"]
        assert all(pair.count("=") == 1 for pair in row["setting"].split())


def test_one_line_per_number_of_obow():
    names = [name for name in OBOW[0] if name not in ("value", "confirmed", "source", "note")]
    counts = collections.Counter(tuple(row[name] for name in names) for row in OBOW)
    assert [key for key, count in counts.items() if count > 1] == []
