"""Every bad input gets one line that says what came and what to do: no traceback, nothing half-written.

``python tests/test_bad_inputs.py`` prints the table of inputs and lines.
"""

import contextlib
import json
import pathlib
import re
import shutil
import tempfile

import bad_boxes
import bad_flags
import numpy as np
import pytest

from revisit_ssl.commands import evaluate, run, sweep
from revisit_ssl.runs.files import locked
from revisit_ssl.sweeps.jobs import only_here
from revisit_ssl.training.pretrain import pretrain

LOCKS = contextlib.ExitStack()
PRESET = ["--preset", "smoke", "--max-steps", "2"]
# Where the line does not speak of the network: many are built to be refused. The printed table has a user's network.
NETWORK = "resnet18" if __name__ == "__main__" else "tiny"
SMOKE = [*PRESET, "--backbone", NETWORK]
FINISHED = ["rotation", *SMOKE, "--probes"]
GOING_ON = [*FINISHED, "--resume", "--workdir"]
LONGER = ["rotation", "--preset", "smoke", "--backbone", NETWORK, "--max-steps", "4", "--probes"]


def finished(folder):
    """A finished smoke run, made once; tests that damage it work on a copy."""
    if not (folder / "run").exists():
        pretrain(run.parse_run(FINISHED).recipe, folder / "run", quiet=True)
    copy = folder / f"copy{len(list(folder.iterdir()))}"
    shutil.copytree(folder / "run", copy)
    return copy


def damaged(folder, pattern):
    run = finished(folder)
    for path in run.glob(pattern):
        data = bytearray(path.read_bytes())
        data[len(data) // 3 : len(data) // 3 + 64] = bytes(64)
        path.write_bytes(bytes(data[: len(data) * 2 // 3]))
    return run


def damaged_unfinished(folder):
    run = damaged(folder, "checkpoints/*.npz")
    (run / "backbone.keras").unlink()
    return run


def swept(folder):
    """A sweep's folder with a run of another recipe."""
    target = pathlib.Path(tempfile.mkdtemp(dir=folder))
    finished(folder).rename(target / f"rotation-{NETWORK}-k1-digits-s0")
    return target


def held(folder):
    """A sweep's folder in which one is at work, as long as the tests are."""
    target = tempfile.mkdtemp(dir=folder)
    LOCKS.enter_context(only_here(target))
    return target


def written_to(folder):
    """A workdir in which a run is at work, as long as the tests are."""
    target = pathlib.Path(tempfile.mkdtemp(dir=folder))
    file = LOCKS.enter_context(open(target / "run.lock", "w+"))  # noqa: SIM115 - closed with the others
    file.write("1234\n")
    file.flush()
    assert locked(file)
    return target


def unfinished(folder, damage):
    """An unfinished run, whose newest checkpoint (a path) something has happened to."""
    run = finished(folder)
    (run / "backbone.keras").unlink()
    damage(max(run.glob("checkpoints/*.npz")))
    return run


def of_another_seed(path):
    with np.load(path) as stored:
        arrays = dict(stored)
    arrays["about"] = np.array(str(arrays["about"]).replace('"seed": 0', '"seed": 7'))
    np.savez(path, **arrays)


def images(folder, count=24, broken=False, labelled=False):
    from PIL import Image

    target = pathlib.Path(tempfile.mkdtemp(dir=folder))
    random = np.random.default_rng(0)
    for i in range(count):
        name = f"class{i % 2}" if labelled else "."
        (target / name).mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(target / name / f"{i}.jpg")
    if broken:
        (target / "broken.jpg").write_bytes((target / "0.jpg").read_bytes()[:200])
    return f"folder:{target}"


def divided(folder, *names):
    """A folder of images with these class folders."""
    target = pathlib.Path(tempfile.mkdtemp(dir=folder))
    for name in names:
        shutil.copytree(images(folder, 4).removeprefix("folder:"), target / name)
    return f"folder:{target}"


def other_images(folder):
    """An unfinished run whose images have changed since."""
    run = finished(folder)
    (run / "backbone.keras").unlink()
    noted = json.loads((run / "images.json").read_text())
    (run / "images.json").write_text(json.dumps(noted | {"images": 99, "fingerprint": "another"}))
    return run


# what, command line (a function of a scratch folder where it needs one), words of the line
RUNS = [
    ("no pretext", [], "no pretext given"),
    ("unknown pretext", ["rotatoin"], "unknown pretext 'rotatoin'; one of"),
    ("unknown preset", ["rotation", "--preset", "huge"], "unknown preset 'huge'"),
    ("width 0", ["rotation", "--width", "0"], "width 0 must be at least 1"),
    ("width in words", ["rotation", "--width", "wide"], "width 'wide' is no whole number"),
    ("unknown flag", ["rotation", "--epoch", "3"], "Unrecognized options: --epoch"),
    ("words for a number", ["rotation", "--epochs", "ten"], "could not convert string to float: 'ten'"),
    ("unknown stem", ["rotation", "--stem", "big"], "invalid choice 'big' for argument '--backbone.stem'"),
    ("unknown filter", ["moco", *SMOKE, "--views.resize", "bicubic"], "invalid choice 'bicubic' for argument"),
    ("float16", ["rotation", "--precision", "mixed_float16"], "invalid choice 'mixed_float16'"),
    ("negative learning rate", ["rotation", "--optimizer.lr", "-1"], "optimizer.lr -1.0 must not be negative"),
    ("unknown backbone", ["rotation", *PRESET, "--backbone", "resnet19"], "unknown backbone 'resnet19'; one of"),
    ("unknown data set", ["rotation", *SMOKE, "--dataset", "cifar11"], "unknown data set 'cifar11'"),
    ("data set not there", ["rotation", *SMOKE, "--dataset", "imagenet2012"], "imagenet2012"),
    (
        "nothing to name behind a set",
        ["rotation", *SMOKE, "--dataset", "digits:5"],
        "digits takes nothing behind its name",
    ),
    ("imbalance factor 0", ["rotation", *SMOKE, "--dataset", "cifar10_lt:0"], "factor 0 must be at least 1"),
    ("index list not there", ["rotation", *SMOKE, "--dataset", "cifar10_lt:no.npy"], "no index list 'no.npy'"),
    ("ImageNet-100 not there", ["rotation", *SMOKE, "--dataset", "imagenet100"], "imagenet100 needs ImageNet"),
    (
        "ImageNet-LT's lists not there",
        ["rotation", *SMOKE, "--dataset", "imagenet_lt"],
        "data set imagenet_lt is not in",
    ),
    ("no list of images", ["rotation", *SMOKE, "--dataset", "imagenet_list"], "imagenet_list needs a list"),
    (
        "list of images not there",
        ["rotation", *SMOKE, "--dataset", "imagenet_list:no.txt"],
        "no list of images 'no.txt'",
    ),
    (
        "Kitchen-HC's source not there",
        ["rotation", *SMOKE, "--dataset", "kitchen_hc"],
        "data set kitchen_hc is not",
    ),
    (
        "clusters that do not divide",
        ["deepercluster", *SMOKE, "--task.clusters", "15"],
        "task.clusters 15 do not divide over 2 super-clusters",
    ),
    (
        "more dimensions than a feature has",
        ["deepcluster", *PRESET, "--task.dim-pca", "4096"],
        "task.dim_pca 4096 is more than the 16 values of fc7; lower it",
    ),
    (
        "a batch without all super-classes",
        ["deepercluster", *SMOKE, "--batch-size", "12"],
        "12 images of a device do not divide over 8 super-classes",
    ),
    ("dropout of everything", ["rotnet", *PRESET, "--backbone.dropout", "1"], "dropout 1.0 must lie in [0, 1)"),
    ("images too small for AlexNet", ["deepcluster", *PRESET, "--backbone", "alexnet"], "at least 63 pixels"),
    ("folder not there", ["rotation", *SMOKE, "--dataset", "folder:/no/such/place"], "/no/such/place"),
    ("folder without images", lambda f: ["rotation", *SMOKE, "--dataset", images(f, 0)], "no readable images"),
    (
        "probes on unlabelled images",
        lambda f: ["rotation", *SMOKE, "--batch-size", "8", "--dataset", images(f)],
        "probes need labels",
    ),
    (
        "supervised on unlabelled images",
        lambda f: ["supervised", *SMOKE, "--probes", "--batch-size", "8", "--dataset", images(f)],
        "supervised needs labels",
    ),
    (
        "test images without training images",
        lambda f: ["rotation", *SMOKE, "--dataset", divided(f, "Test/a", "Test/b", "val/a")],
        "has Test and val but no train; expected sub-folders train",
    ),
    (
        "two folders for one split",
        lambda f: ["rotation", *SMOKE, "--dataset", divided(f, "train/a", "training/a", "test/a")],
        "has train and training, which mean the same split",
    ),
    (
        "a class that is not trained",
        lambda f: ["rotation", *SMOKE, "--dataset", divided(f, "train/a", "train/b", "test/a", "test/c")],
        "is not among the 2 classes of train (a, b); name the class folders alike",
    ),
    (
        "other images than the run began with",
        lambda f: [*GOING_ON, str(other_images(f))],
        "have changed since the run in",
    ),
    ("batch larger than the set", ["rotation", *SMOKE, "--batch-size", "5000"], "5000"),
    ("batch size 0", ["rotation", *SMOKE, "--batch-size", "0"], "batch_size 0 must be at least 1"),
    ("unknown probe", ["rotation", *SMOKE, "--probes", "svm"], "unknown probe 'svm'; one of"),
    ("unknown endpoint", ["rotation", *SMOKE, "--endpoints", "block9"], "no endpoint 'block9'; this backbone has"),
    ("share of labels above 1", ["rotation", *SMOKE, "--probe-fraction", "2"], "probe_fraction 2.0 must lie in (0, 1]"),
    (
        "too few classes for an episode",
        ["rotation", *SMOKE, "--probes", "few_shot", "--few-shot.ways", "50"],
        "50 ways of digits test, which has 10 classes",
    ),
    (
        "SVMs on a set of one label",
        ["rotation", *SMOKE, "--probes", "voc_svm"],
        "voc_svm needs several labels for each image",
    ),
    (
        "no VOC there",
        ["rotation", *SMOKE, "--probes", "voc_svm", "--probe-dataset", "voc:/no/such"],
        "no VOC 2007 at /no/such",
    ),
    (
        "instance retrieval without queries",
        ["rotation", *SMOKE, "--probes", "instance_retrieval"],
        "instance_retrieval needs queries and digits has none; add --probe-dataset, one of",
    ),
    (
        "labels of a set with queries",
        ["rotation", *SMOKE, "--probes", "knn", "--probe-dataset", "toy_instances"],
        "toy_instances has queries, --probes instance_retrieval is for that",
    ),
    (
        "no list of queries",
        ["rotation", *SMOKE, "--probes", "instance_retrieval", "--probe-dataset", "retrieval:/no/such"],
        "/no/such/queries.csv does not exist; it has columns query, image",
    ),
    (
        "no images of a store",
        ["rotation", *SMOKE, "--probes", "--dataset", "unlabelled:/no/such"],
        "data set unlabelled is not in /no/such; put zips or folders of images",
    ),
    (
        "one label for classes of VOC",
        ["rotation", *SMOKE, "--probes", "voc_fc68"],
        "voc_fc68 needs several labels for each image and digits has none; add --probe-dataset voc",
    ),
    (
        "a share of no iterations",
        ["rotation", *SMOKE, "--probes", "voc_all", "--voc-all.share", "0", "--probe-dataset", "voc"],
        "voc_all.share 0.0 must lie in (0, 1]",
    ),
    ("unknown monitor", ["rotation", *SMOKE, "--monitor", "svm:3"], "expected knn:N"),
    ("recomputation without a RevNet", ["rotation", *PRESET, "--recompute"], "resnet18 has no option 'recompute'"),
    ("XLA and bit-exact", ["rotation", *SMOKE, "--xla", "on", "--deterministic"], "choose one of --xla on and"),
    ("TPU that is not there", ["rotation", *SMOKE, "--strategy", "tpu"], "strategy tpu found no TPU"),
    ("no TF_CONFIG", ["rotation", *SMOKE, "--strategy", "multiworker"], "needs TF_CONFIG"),
    (
        "batch that does not divide",
        ["rotation", *SMOKE, "--strategy", "mirrored", "--batch-size", "9"],
        "does not divide over 2 replicas",
    ),
    ("Exemplar's groups", ["exemplar", *SMOKE, "--task.loss-group", "5"], "does not divide the 32 images of a device"),
    (
        "Exemplar of one image a step",
        ["exemplar", *SMOKE, "--batch-size", "1", "--task.loss-group", "None"],
        "1 image on a device has no negatives",
    ),
    (
        "patches of a task without any",
        ["rotation", *SMOKE, "--views.patch-grid", "3", "--views.patch-size", "8"],
        "rotation trains on whole crops",
    ),
    ("patch larger than its cell", ["jigsaw", *SMOKE, "--views.patch-size", "20"], "from 4 to the 10 pixels of a cell"),
    ("patches for a VGG", ["jigsaw", *PRESET, "--backbone", "vgg19_bn"], "VGG19 wants fixed sides of at least 32"),
    ("CLD on one view", ["npid", *SMOKE, "--task.crops", "1", "--cld.weight", "1"], "error: task.crops 1 has one view"),
    ("negative weight of CLD", ["npid_cld", *SMOKE, "--cld.weight", "-1"], "error: cld.weight -1.0 must be a finite"),
    ("chunks that do not divide", ["npid_cld", *SMOKE, "--cld.chunks", "5"], "cld.chunks 5 does not divide the 32"),
    ("NCE without negatives", ["npid", *SMOKE, "--task.loss", "nce"], "error: task.loss nce needs task.negatives"),
    ("queue smaller than a step", ["moco", *SMOKE, "--task.queue-size", "16"], "do not fit into task.queue_size 16"),
    ("SimCLR of one image a step", ["simclr", *SMOKE, "--batch-size", "1"], "simclr needs at least 2 images"),
    (
        "operation that the order leaves out",
        ["simclr", *SMOKE, "--views.order", "flip", "--views.blur-probability", "0.5"],
        "leaves out blur, which is switched on",
    ),
    ("preset of another method", ["byol", "--preset", "supplement"], "unknown preset 'supplement' for byol; one of"),
    ("ghost batches", ["relative_patch", *SMOKE, "--bn-group", "27"], "bn_group 27 does not divide the 288 rows"),
    (
        "probe images smaller than their patches",
        ["jigsaw", *SMOKE, "--probe-size", "16", "--probe-combine", "whole"],
        "16 pixels hold no 3x3 patches of 8; set --probe-size 24",
    ),
    (
        "crop larger than resized files",
        lambda f: ["jigsaw", *SMOKE, "--probes", "--batch-size=4", "--views.resize-to=20", "--dataset", images(f)],
        "A 30-pixel crop does not fit into resize_to=20",
    ),
    ("permutation file not there", ["jigsaw", *SMOKE, "--task.permutation-file", "no.bin"], "no permutation file"),
    (
        "stride of other units",
        ["rotation", *PRESET, "--backbone", "resnet50_v1", "--backbone.stride-on-second"],
        "resnet50_v1 has no option 'stride_on_second'; it has",
    ),
    (
        "zero-initialised units that are none",
        ["rotation", *PRESET, "--backbone", "resnet50_v2", "--zero-init-residual"],
        "resnet50_v2 has no option 'zero_init_residual'; it has",
    ),
    ("probe batch size 0", ["rotation", *SMOKE, "--linear.batch-size", "0"], "linear.batch_size 0 must be at least 1"),
    ("option of a probe that is not named", ["rotation", *SMOKE, "--mlp.hidden", "9"], "not among --probes linear knn"),
    (
        "a batch of no rows", ["rotation", *SMOKE, "--probes", "mlp", "--mlp.batch-size", "0"],
        "mlp.batch_size 0 must be at least 1",
    ),
    (
        "RandAugment stronger than it can be",
        ["rotation", *SMOKE, "--probes", "linear_images", "--linear-images.randaugment-magnitude", "11"],
        "linear_images.randaugment_magnitude 11.0 must lie in",
    ),
    ("a temperature too low for kNN", ["npid", *SMOKE, "--task.temperature", "0.001"], "0.001 must be at least 0.002"),
    ("probe of another protocol", ["rotation", *SMOKE, "--protocol", "obow"], "protocol obow does not define knn; it"),
    ("unknown protocol", ["rotation", *SMOKE, "--protocol", "svm"], "unknown protocol 'svm'; one of select"),
    ("choosing on what is scored", ["rotation", *SMOKE, "--probe-split", "val"], "linear would choose numbers on val"),
    ("loss that diverges", ["rotation", *SMOKE, "--optimizer.lr", "1e30", "--max-steps", "9"], "last good checkpoint"),
    ("finished workdir", lambda f: [*FINISHED, "--workdir", str(finished(f))], "add --resume"),
    (
        "workdir of another recipe",
        lambda f: [*FINISHED, "--seed", "9", "--workdir", str(finished(f))],
        "holds another recipe (seed: 0 there, 9 here)",
    ),
    ("workdir is a file", lambda f: ["rotation", *SMOKE, "--workdir", str(finished(f) / "log.csv")], "is a file"),
    (
        "damaged checkpoint",
        lambda f: [*GOING_ON, str(damaged_unfinished(f))],
        "is damaged",
    ),
    ("another run in the workdir", lambda f: ["rotation", *SMOKE, "--workdir", str(written_to(f))], "works in"),
    (
        "checkpoint under another name",
        lambda f: [*GOING_ON, str(unfinished(f, lambda path: path.rename(path.with_name("step-000000001.npz"))))],
        "holds step 2, which is not what its name says",
    ),
    (
        "checkpoint of another recipe",
        lambda f: [*GOING_ON, str(unfinished(f, of_another_seed))],
        "is of another recipe (seed: 7 there, 0 here)",
    ),
    (
        "longer, with a cosine",
        lambda f: [*LONGER, "--resume", "--workdir", str(finished(f))],
        "holds another recipe (max_steps: 2 there, 4 here); its schedule depends on its length",
    ),
    (
        "damaged recipe.json",
        lambda f: ["rotation", *SMOKE, "--workdir", str(damaged(f, "recipe.json"))],
        "not a recipe",
    ),
]
RUNS += [
    ("recipe file not there", ["--recipe", "no.json"], "no recipe at no.json; a run writes recipe.json into"),
    (
        "pretext and preset beside a recipe file",
        ["rotation", "--recipe", "no.json", "--preset", "smoke"],
        "--recipe no.json says pretext and values; drop rotation and --preset smoke",
    ),
    (
        "damaged recipe file",
        lambda f: ["--recipe", str(damaged(f, "recipe.json") / "recipe.json")],
        "recipe.json is not a recipe",
    ),
]
EVALUATIONS = [
    ("evaluate: no run there", ["no/such/run"], "it has no recipe.json"),
    ("evaluate: damaged backbone", lambda f: [str(damaged(f, "backbone.keras"))], "backbone.keras"),
    ("evaluate: unknown probe", lambda f: [str(finished(f)), "--probes", "svm"], "unknown probe 'svm'"),
    (
        "evaluate: unlabelled set",
        lambda f: [str(finished(f)), "--probes", "knn", "--probe-dataset", images(f)],
        "probes need labels",
    ),
]
GRID = ["revisiting", "--preset", "smoke"]
ONE_RUN = [*GRID, "--pretexts", "rotation", "--backbones", NETWORK]
SWEEPS = [
    ("sweep: no family", ["--pretexts", "rotation"], "no recipe family given"),
    ("sweep: unknown family", ["moco"], "unknown family 'moco'; one of revisiting"),
    ("sweep: pretext of no such family", [*GRID, "--pretexts", "simclr"], "family revisiting has no pretext 'simclr'"),
    ("sweep: unknown variant", ["cld-a1", "--only", "k5"], "family cld-a1 has no variant 'k5'; one of kmeans_k10"),
    ("sweep: a preset that none has", ["cld", "--preset", "gpu"], "no recipe of cld has a preset 'gpu'"),
    (
        "sweep: a preset that one of those named has not",
        ["cld", "--preset", "cifar100", "--pretexts", "npid", "simclr"],
        "simclr of --pretexts has no preset 'cifar100'",
    ),
    ("sweep: a flag that it varies", ["cld-a1", "--cld.groups", "5"], "--cld.groups is what cld-a1 varies"),
    ("sweep: unknown flag", [*GRID, "--epoch", "3"], "Unrecognized options: --epoch"),
    ("sweep: a flag that it decides", [*GRID, "--seed", "3"], "--seed is decided by the sweep: use --seeds"),
    ("sweep: width in words", [*GRID, "--widths", "wide"], "Error parsing --widths"),
    ("sweep: width 0", [*GRID, "--widths", "0"], "width 0 must be at least 1"),
    ("sweep: negative seed", [*GRID, "--seeds", "-1"], "seed -1 must lie in"),
    (
        "sweep: unknown backbone",
        [*GRID, "--backbones", "resnet19"],
        "unknown backbone 'resnet19'; one of",
    ),
    (
        "sweep: a stem for VGG",
        [*GRID, "--backbones", "resnet18", "vgg19_bn", "--stem", "small"],
        "vgg19_bn has no option 'stem'; it has",
    ),
    ("sweep: data set not there", [*GRID, "--dataset", "imagenet2012"], "imagenet2012"),
    ("sweep: GPU not there", [*GRID, "--devices", "99"], "no device '99'; one of"),
    ("sweep: a device twice", [*GRID, "--devices", "cpu", "cpu"], "device cpu is named twice"),
    ("sweep: a bucket", [*GRID, "--workdir", "gs://bucket/sweep"], "its locks and logs need a local folder"),
    ("sweep: workdir is a file", lambda f: [*GRID, "--workdir", str(finished(f) / "log.csv")], "cannot write to"),
    (
        "sweep: folder of another recipe",
        lambda f: [*ONE_RUN, "--max-steps", "2", "--workdir", str(swept(f))],
        "holds another recipe (probes: none there, linear knn here)",
    ),
    ("sweep: another one in its folder", lambda f: [*GRID, "--workdir", held(f)], "works in"),
]


CASES = [
    (entry, *case)
    for entry, cases in (
        (run.main, RUNS + bad_flags.FLAGS + bad_boxes.BOXES),
        (evaluate.main, EVALUATIONS),
        (sweep.main, SWEEPS + bad_flags.SWEEPS),
    )
    for case in cases
]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("bad_inputs")


def arguments_of(entry, line, folder):
    arguments = line(folder) if callable(line) else list(line)
    if entry is not evaluate.main and arguments and "--workdir" not in arguments:
        arguments += ["--workdir", tempfile.mkdtemp(dir=folder)]
    return arguments


@pytest.mark.parametrize(("entry", "what", "line", "words"), CASES, ids=[case[1] for case in CASES])
def test_one_clear_line(entry, what, line, words, scratch, capsys, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    arguments = arguments_of(entry, line, scratch)
    capsys.readouterr()
    status, printed = entry(arguments), capsys.readouterr().err
    errors = [text for text in printed.splitlines() if text.startswith("error: ")]
    assert status == 2 and len(errors) == 1 and "Traceback" not in printed, printed
    assert words in errors[0] and len(errors[0]) < 560
    if not callable(line) and arguments and what != "loss that diverges":
        workdir = pathlib.Path(arguments[-1])
        assert not workdir.is_dir() or not list(workdir.iterdir()), "written before all was checked"
    assert not list(scratch.rglob("*.partial*"))


def table():
    """The table of bad inputs in Markdown."""
    import io

    folder = pathlib.Path(tempfile.mkdtemp())
    with contextlib.redirect_stdout(io.StringIO()):
        finished(folder)
    print("| bad input | the line it gets |\n|---|---|")
    for entry, what, line, _ in CASES:
        errors = io.StringIO()
        arguments = arguments_of(entry, line, folder)
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            entry(arguments)
        text = next(text for text in errors.getvalue().splitlines() if text.startswith("error: "))
        text = re.sub(re.escape(str(folder)) + r"/\w+", "…", text.removeprefix("error: "))
        text = re.sub(r"process \d+", "process 1234", text)
        text = text.replace(str(pathlib.Path(__file__).parents[1]), "…").replace(str(pathlib.Path.home()), "~")
        text = text.replace("|", "\\|").replace("<", "&lt;")
        print(f"| {what} | {text} |", flush=True)
    LOCKS.close()


if __name__ == "__main__":
    from revisit_ssl.testing import two_devices

    two_devices()  # as in the tests
    table()
