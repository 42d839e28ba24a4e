import dataclasses
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.data import DATASETS, SPLITS, TfdsSet, looking, open_source, tfds_reading
from revisit_ssl.errors import InputError


@pytest.mark.parametrize(
    ("name", "kind"),
    [("toy_scenes_tiny", "memory"), ("digits", "memory"), ("cifar10", "memory"), ("imagenette_subset160", "encoded")],
)
def test_where_the_images_are_kept(name, kind, request):
    """Real sets are in the shared folder, which may be missing; the others make themselves."""
    real = name in ("cifar10", "imagenette_subset160")
    source = open_source(name, "val", data_dir=request.getfixturevalue("real_data" if real else "toy_dir"))
    assert source.kind == kind
    if kind == "memory":
        assert source.images.dtype == np.uint8 and source.images.shape == (source.num_examples, *source.image_shape)
    else:
        assert source.images is None and source.image_shape is None and source.encoded.shape == (source.num_examples,)


def test_cifar10_is_read_in_its_own_order(real_data):
    import tensorflow_datasets as tfds

    data = tfds.load("cifar10", split="train[45000:45100]", data_dir=real_data, download=False)
    source = open_source("cifar10", "val", data_dir=real_data)
    for i, example in enumerate(data.as_numpy_iterator()):
        np.testing.assert_array_equal(source.images[i], example["image"])
        assert source.labels[i] == example["label"]


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    source = open_source("digits", "test")
    np.testing.assert_array_equal(source.labels, load_digits().target[1400:])
    np.testing.assert_allclose(source.images[:, ::4, ::4, 0], load_digits().images[1400:] * 255 / 16, atol=0.51)
    np.testing.assert_array_equal(source.images[:, 1::4, 2::4, 2], source.images[:, ::4, ::4, 0])
    assert source.images.max() == 255


def test_published_splits():
    """Revisiting: the first 984 of ImageNet's 1,024 shards train, the last 40 validate, the official val set tests."""
    splits = DATASETS["imagenet2012"].splits
    assert splits == {
        "train": "train[:1231121]", "val": "train[1231121:]", "trainval": "train", "test": "validation"
    }
    assert 1281167 - 1231121 == 50046
    for name, spec in DATASETS.items():
        assert {"train"} < set(spec.splits) <= set(SPLITS), name


def test_several_labels_per_image_count_as_none(real_data, monkeypatch):
    slices = {"train": "train", "val": "validation", "trainval": "train+validation", "test": "test"}
    monkeypatch.setitem(DATASETS, "voc_sample", TfdsSet("voc2007_sample", slices, label=None))
    source = open_source("voc_sample", "trainval", data_dir=real_data)
    assert (source.kind, source.num_examples, source.num_classes, source.labels) == ("encoded", 20, None, None)
    with pytest.raises(InputError, match="no labels to balance"):
        open_source("voc_sample", "train", data_dir=real_data, fraction=0.5, balanced=True)


@pytest.mark.parametrize(
    ("max_side", "max_bytes", "kind"), [(128, 2**30, "memory"), (0, 2**30, "encoded"), (0, 0, "stream")]
)
def test_kinds_hold_the_same_images(toy_dir, set_limits, max_side, max_bytes, kind):
    expected = open_source("toy_scenes_tiny", "val", data_dir=toy_dir)
    set_limits(max_side, max_bytes)
    source = open_source("toy_scenes_tiny", "val", data_dir=toy_dir)
    assert source.kind == kind and source.fingerprint == expected.fingerprint
    np.testing.assert_array_equal(source.labels, expected.labels)
    if kind == "encoded":
        image = tf.io.decode_png(source.encoded[17])
        np.testing.assert_array_equal(image, expected.images[17])


@pytest.mark.parametrize("kind", ["memory", "encoded", "stream"])
def test_subsets(toy_dir, set_limits, kind):
    whole = open_source("toy_scenes_tiny", "train", data_dir=toy_dir)
    set_limits(128 if kind == "memory" else 0, 0 if kind == "stream" else 2**30)
    part = open_source("toy_scenes_tiny", "train", data_dir=toy_dir, fraction=0.1, balanced=True, seed=1)
    assert part.kind == kind and part.num_examples == 50
    np.testing.assert_array_equal(np.bincount(part.labels), [5] * 10)
    same = open_source("toy_scenes_tiny", "train", data_dir=toy_dir, fraction=0.1, balanced=True, seed=1)
    other = open_source("toy_scenes_tiny", "train", data_dir=toy_dir, fraction=0.1, balanced=True, seed=2)
    assert same.fingerprint == part.fingerprint != other.fingerprint != whole.fingerprint
    free = open_source("toy_scenes_tiny", "train", data_dir=toy_dir, fraction=0.1, seed=1)
    assert free.num_examples == 50 and len(np.unique(np.bincount(free.labels))) > 1


def test_first(toy_dir):
    source = open_source("toy_scenes_tiny", "val", data_dir=toy_dir)
    assert source.first(1000) is source
    part = source.first(10)
    assert part.num_examples == 10 and np.shares_memory(part.images, source.images)
    np.testing.assert_array_equal(part.labels, source.labels[:10])


@pytest.mark.parametrize("kind", ["memory", "encoded", "files"])
def test_sample_of_a_sorted_source_has_all_classes(toy_dir, make_folder, set_limits, kind):
    if kind == "files":
        root = make_folder({f"{c}/{i:02}.png": (8, 8) for c in "abcd" for i in range(25)})
        source = open_source(f"folder:{root}", "train")
        assert len(np.unique(source.first(20).labels)) == 1
    else:
        set_limits(128 if kind == "memory" else 0, 2**30)
        source = open_source("toy_scenes_tiny", "val", data_dir=toy_dir)
    assert source.sample(source.num_examples) is source
    part, other = source.sample(40), source.sample(40, seed=1)
    assert part.num_examples == 40 and len(np.unique(part.labels)) == source.num_classes
    assert part.fingerprint == source.sample(40).fingerprint != other.fingerprint
    if kind == "files":
        assert list(part.paths.numpy()) == sorted(set(part.paths.numpy()))


def test_subset_of_a_stream_reads_only_its_own_files(toy_dir, set_limits):
    images = open_source("toy_scenes_tiny", "train", data_dir=toy_dir).images
    set_limits(0, 0)
    source = open_source("toy_scenes_tiny", "train", data_dir=toy_dir)
    ((path, skip, _, _),) = source.records.files
    files = tuple((path, skip + first, 100, first) for first in range(0, 500, 100))  # as if it lay in five files
    source = dataclasses.replace(source, records=dataclasses.replace(source.records, files=files))

    def check(part, rows):
        seen = list(part.records.in_order())
        assert [int(index) for index, _, _ in seen] == list(range(len(rows)))
        for (_, image, label), row in zip(seen, rows, strict=True):
            np.testing.assert_array_equal(tf.io.decode_png(image), images[row])
            assert label == source.labels[row]

    part = source.subset([120, 130, 131, 420])
    assert part.records.files == ((path, skip + 120, 12, 120), (path, skip + 420, 1, 420))
    check(part, [120, 130, 131, 420])
    check(part.subset([1, 3]), [130, 420])
    assert source.sample(150).records.files == ((path, skip, 100, 0), (path, skip + 100, 50, 100))


def test_sources_are_remembered(toy_dir, make_folder, monkeypatch):
    root = make_folder({f"{i:02}.jpg": (8, 8) for i in range(20)})
    first = open_source(f"folder:{root}", "train")
    assert open_source(f"folder:{root}", "train", seed=3, fraction=1) is first
    monkeypatch.chdir(root)
    assert open_source("folder:.", "train").fingerprint == first.fingerprint
    monkeypatch.chdir(root.parent)
    assert open_source("folder:.", "train").fingerprint != first.fingerprint
    options = {"data_dir": toy_dir, "fraction": 0.1}
    part = open_source("toy_scenes_tiny", "train", **options)
    assert open_source("toy_scenes_tiny", "train", **options) is part
    assert open_source("toy_scenes_tiny", "train", seed=1, **options) is not part
    monkeypatch.setenv("TFDS_DATA_DIR", toy_dir)
    assert open_source("toy_scenes_tiny", "train", fraction=0.1) is part


def test_two_processes_may_draw_toy_scenes_at_once(toy_dir, tmp_path, monkeypatch):
    """On a disk without locks the second one to finish finds the folder taken and uses what is there."""
    builder = tfds_reading.tfds.builder("toy_scenes/tiny", data_dir=str(tmp_path))
    draw = builder._split_generators

    def slow(dl_manager):
        shutil.copytree(os.path.join(toy_dir, "toy_scenes"), tmp_path / "toy_scenes", dirs_exist_ok=True)
        return draw(dl_manager)

    monkeypatch.setattr(builder, "_split_generators", slow)
    for split in ("train", "test"):
        monkeypatch.setattr(builder.builder_config, split, 10)
    left = tmp_path / "toy_scenes" / "tiny" / "incomplete.ABC123_1.0.0"
    left.mkdir(parents=True)
    assert tfds_reading.make_set(builder, str(tmp_path)).info.splits["train"].num_examples == 600
    assert [path.name for path in left.parent.iterdir()] == ["1.0.0"], "what kills have left is gone, and the lock"


# ---- image folders ----


def jpegs(*names, sides=(24, 32)):
    return {name: sides for name in names}


def test_same_split_in_every_run_and_fingerprint_follows_the_files(make_folder):
    root = make_folder(jpegs(*(f"{i:02}.jpg" for i in range(30))))
    first, second = (open_source(f"folder:{root}", "train", seed=seed) for seed in (0, 7))
    np.testing.assert_array_equal(first.paths, second.paths)
    assert first.fingerprint == second.fingerprint != open_source(f"folder:{root}", "val").fingerprint
    shutil.copy(root / "00.jpg", root / "30.jpg")
    open_source.cache_clear()
    assert open_source(f"folder:{root}", "train").fingerprint != first.fingerprint


@pytest.mark.parametrize("check_all", [5000, 0])
def test_broken_files_are_skipped_and_counted(make_folder, monkeypatch, capfd, check_all):
    monkeypatch.setattr(looking, "CHECK_ALL", check_all)  # 0: as in large folders
    root = make_folder(jpegs(*(f"{i:02}.{kind}" for i in range(20) for kind in ("jpg", "png"))))
    (root / "00.jpg").write_bytes((root / "00.jpg").read_bytes()[:300])
    (root / "01.png").write_bytes((root / "01.png").read_bytes()[:300])
    (root / "02.jpg").write_bytes(b"")
    (root / "03.jpg").write_text("not an image")
    (root / "notes.txt").write_text("not an image either")
    (root / ".hidden.jpg").write_text("not looked at")
    source = open_source(f"folder:{root}", "trainval")
    assert source.num_examples == 32  # 90 % of 36
    open_source(f"folder:{root}", "test")  # warns only once
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "warning" in line]
    assert "skipped 5 files that are no readable images" in line and "00.jpg" in line


# ---- errors: one line each ----


def test_missing_set_says_where_and_how(tmp_path):
    with pytest.raises(InputError) as error:
        open_source("cifar10", "train", data_dir=str(tmp_path))
    message = str(error.value)
    assert "cifar10" in message and str(tmp_path) in message and "download_and_prepare()" in message
    assert "\n" not in message
    with pytest.raises(InputError, match="ILSVRC2012_img_train.tar .*/downloads/manual"):
        open_source("imagenet2012", "train", data_dir=str(tmp_path))
    with pytest.raises(InputError, match="copy its TFDS folder"):
        open_source("imagenette_subset160", "train", data_dir=str(tmp_path))


MADE = {"toy_scenes", "toy_scenes_tiny", "toy_instances", "toy_detection", "digits"}  # by the package itself
NAMED = {"imagenet_list", "retrieval", "unlabelled"}  # by a path behind the name


@pytest.mark.parametrize("name", sorted(set(DATASETS) - MADE - NAMED))
def test_every_missing_set_is_an_input_error(name, tmp_path):
    with pytest.raises(InputError, match="is not in"):
        open_source(name, [*DATASETS[name].splits][-1], data_dir=str(tmp_path))


def test_wrong_names(tmp_path, toy_dir):
    with pytest.raises(InputError, match="unknown data set 'cifar11'; one of .*cifar10.* or folder:"):
        open_source("cifar11", "train")
    with pytest.raises(InputError, match="unknown split 'dev'; one of train, val"):
        open_source("digits", "dev")
    with pytest.raises(InputError, match=r"fraction must lie in \(0, 1\]; got 2"):
        open_source("digits", "train", fraction=2)
    with pytest.raises(InputError, match="does not exist"):
        open_source(f"folder:{tmp_path / 'nowhere'}", "train")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        open_source(f"folder:{tmp_path / 'file'}", "train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no readable images"):
        open_source(f"folder:{tmp_path / 'empty'}", "train")


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write to .*toy_scenes.*choose another --data-dir"):
        open_source("toy_scenes_tiny", "train", data_dir=str(tmp_path / "file"))
