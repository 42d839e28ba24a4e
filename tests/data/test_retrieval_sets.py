"""Oxford5k, Paris6k, their revisited ground truth and a folder of one's own: what answers which query, and errors."""

import pathlib
import pickle

import numpy as np
import pytest

from revisit_ssl.data import open_source, whole_images
from revisit_ssl.data.retrieval_sets import CORRUPT, read_revisited
from revisit_ssl.errors import DataNotHere, InputError
from revisit_ssl.testing import check_dataset

LISTS = pathlib.Path(__file__).parents[3] / "shared" / "data" / "lists" / "retrieval"
TRUTH = {
    "all_souls_1": {
        "query": "oxc1_all_souls_000001 3.5 4 20 18.25", "good": "all_souls_000001\nall_souls_000002",
        "ok": "keble_000001 gone_000009", "junk": "keble_000002",
    },
    "keble_1": {"query": "keble_000001 0 0 24 20", "good": "keble_000002", "ok": "", "junk": ""},
}
OXFORD = ("all_souls_000001", "all_souls_000002", "keble_000001", "keble_000002", "other_000003")
PARIS = ("defense/paris_defense_000001", "louvre/paris_louvre_000136", "louvre/paris_louvre_000001")


@pytest.fixture
def place(make_folder, tmp_path):
    """Folder of TFDS sets with some images of both cities."""
    make_folder({f"oxford5k/jpg/{name}.jpg": (20, 24) for name in OXFORD}, "sets")
    make_folder({f"paris6k/paris/{name}.jpg": (24, 20) for name in PARIS}, "sets")
    for query, parts in TRUTH.items():
        for kind, text in parts.items():
            path = tmp_path / "sets" / "oxford5k" / "gt_files" / f"{query}_{kind}.txt"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text + "\n")
    path = tmp_path / "sets" / "paris6k" / "paris_120310" / "defense_1_query.txt"
    path.parent.mkdir()
    path.write_text("paris_defense_000001 1 1 9 9")
    for kind, text in (("good", "paris_louvre_000001"), ("ok", ""), ("junk", "paris_louvre_000136")):
        path.with_name(f"defense_1_{kind}.txt").write_text(text)
    open_source.cache_clear()
    yield tmp_path / "sets"
    open_source.cache_clear()


def test_official_ground_truth(place):
    source = open_source("oxford5k", "test", data_dir=str(place))
    asked = source.queries
    assert [pathlib.Path(p.numpy().decode()).stem for p in source.paths] == list(OXFORD)
    np.testing.assert_array_equal(asked.relation, [[1, 1, 2, 3, 0], [0, 0, 0, 1, 0]])
    np.testing.assert_array_equal(asked.listed, [[0, 2, 2, 1], [0, 1, 0, 0]])  # gone_000009 is listed all the same
    np.testing.assert_array_equal(asked.boxes, [[3.5, 4, 20, 18.25], [0, 0, 24, 20]])
    assert asked.names == ("all_souls_000001", "keble_000001") and asked.measures == {"map": ((1, 2), (3,))}
    shown = [example["image"].shape for example in whole_images(asked.source)]
    assert shown == [(20, 24, 3)] * 2


def test_the_whitening_is_learned_on_the_other_city_without_its_corrupt_files(place):
    train = open_source("oxford5k", "train", data_dir=str(place))
    names = [pathlib.Path(p.numpy().decode()).stem for p in train.paths]
    assert names == ["paris_defense_000001", "paris_louvre_000001"] and train.queries is None
    paris = open_source("paris6k", "test", data_dir=str(place)).queries
    np.testing.assert_array_equal(paris.relation, [[0, 1]])
    np.testing.assert_array_equal(paris.listed, [[0, 1, 0, 1]])
    with pytest.raises(DataNotHere, match="whitening of roxford5k is learned on rparis6k.*no-whiten|rparis6k.pkl"):
        open_source("roxford5k", "train", data_dir=str(place / "nowhere"))


def test_what_is_missing_is_named(place):
    (place / "oxford5k" / "gt_files" / "keble_1_ok.txt").unlink()
    with pytest.raises(InputError, match="keble_1_ok.txt is missing"):
        open_source("oxford5k", "test", data_dir=str(place))
    (place / "oxford5k" / "gt_files" / "keble_1_query.txt").write_text("keble_000001 0 0 x 20")
    with pytest.raises(InputError, match="keble_1_query.txt is not an image and four coordinates"):
        open_source("oxford5k", "test", data_dir=str(place))


@pytest.mark.parametrize(("name", "database"), [("roxford5k", 4993), ("rparis6k", 6322)])
def test_revisited_lists(name, database):
    path = LISTS / f"gnd_{name}.pkl"
    if not path.exists():
        pytest.skip("the revisited ground truth is not on this machine")
    truth = read_revisited(str(path))
    assert (len(truth["imlist"]), len(truth["qimlist"]), len(truth["gnd"])) == (database, 70, 70)
    everything = set(truth["imlist"]) | set(truth["qimlist"])
    assert not everything & CORRUPT and len(CORRUPT) == 20
    assert all(0 <= i < database for g in truth["gnd"] for key in ("easy", "hard", "junk") for i in g[key])
    assert len(everything) == {"roxford5k": 5063, "rparis6k": 6412 - 20}[name]


def revisited(place, truth=None):
    truth = truth or {
        "imlist": ["keble_000001", "keble_000002", "other_000003"], "qimlist": ["all_souls_000001"],
        "gnd": [{"bbx": np.array([1.5, 2, 20, 18]), "easy": np.array([1]), "hard": [2], "junk": [0]}],
    }
    (place / "oxford5k" / "gnd_roxford5k.pkl").write_bytes(pickle.dumps(truth, protocol=2))


def test_revisited_ground_truth(place):
    revisited(place)
    source = open_source("roxford5k", "test", data_dir=str(place))
    np.testing.assert_array_equal(source.queries.relation, [[3, 1, 2]])
    assert list(source.queries.measures) == ["map_easy", "map_medium", "map_hard"]
    assert source.queries.measures["map_hard"] == ((2,), (1, 3)) and source.num_examples == 3


class Harmful:
    def __reduce__(self):
        return print, ("unpickled",)


@pytest.mark.parametrize("truth", [Harmful(), [1, 2], {"imlist": []}])
def test_other_pickles_are_refused_and_not_run(place, truth, capsys):
    revisited(place, truth)
    with pytest.raises(InputError, match="gnd_roxford5k.pkl is not the ground truth of a revisited set"):
        open_source("roxford5k", "test", data_dir=str(place))
    assert "unpickled" not in capsys.readouterr().out


CLOCKS = "query,image,relation,x1,y1,x2,y2\nq.png,database/a.png,,2,2,18,18\nq.png,database/b 1.png,junk,,,,\n"


@pytest.fixture
def own(make_folder):
    """Function of the text of queries.csv and further images -> folder of four images with that list."""

    def make(text, *more):
        names = ("q.png", "database/a.png", "database/b 1.png", "database/c.png", *more)
        root = make_folder({name: (20, 24) for name in names}, "own")
        (root / "queries.csv").write_text(text)
        open_source.cache_clear()
        return f"retrieval:{root}"

    return make


def test_a_folder_of_ones_own(own):
    name = own(CLOCKS + "database/c.png,database/a.png,,,,,\n")
    source = open_source(name, "test")
    np.testing.assert_array_equal(source.queries.relation, [[1, 3, 0], [1, 0, 3]])  # a query is junk to itself
    np.testing.assert_array_equal(source.queries.boxes, [[2, 2, 18, 18], [np.nan] * 4])
    learned = open_source(name, "train")
    assert learned.num_examples == source.num_examples == 3 and learned.queries is None
    learned = open_source(own(CLOCKS, "whitening/w.png", "whitening/v/w.png"), "train")
    assert learned.num_examples == 2 and learned.labels is None


def test_contract_of_a_folder_of_ones_own(own):
    check_dataset(own(CLOCKS, *(f"database/{i}.png" for i in range(60))))


@pytest.mark.parametrize(("text", "message"), [
    ("image\na.png\n", "needs query and image"),
    ("query,image\n", "has no queries"),
    ("query,image,relation\nq.png,database/a.png,best\n", "line 2: relation 'best'; one of good, ok, junk"),
    ("query,image\nq.png,database/z.png\n", "database/z.png.* is no image of the database"),
    ("query,image\nz.png,database/a.png\n", "1 images are not there, .*z.png"),
    ("query,image,x1,y1,x2,y2\nq.png,database/a.png,1,2,3,x\n", "line 2: .* is no box"),
    ("query,image,x1,y1,x2,y2\nq.png,database/a.png,9,2,3,8\n", "q.png has a box without an inside"),
])
def test_bad_query_lists(own, text, message):
    with pytest.raises(InputError, match=message) as caught:
        open_source(own(text), "test")
    assert "\n" not in str(caught.value)


def test_no_folder_no_list(tmp_path):
    with pytest.raises(InputError, match="needs a folder behind its name"):
        open_source("retrieval", "test")
    with pytest.raises(DataNotHere, match="queries.csv does not exist"):
        open_source(f"retrieval:{tmp_path}", "test")
