"""Flags that came to be accepted, refused too late or refused without saying why: cases of ``test_bad_inputs``.

What, the words behind ``rotation --preset smoke`` (or what takes its place), words of the line. A further case is one
line. None of them may write a file.
"""


def rotation(*words):
    return ["rotation", "--preset", "smoke", *words]


FLAGS = [
    # Specs check their own numbers.
    ("blur from large to small", rotation("--views.blur-sigma", "2", "0.1"), "views.blur_sigma 2.0 0.1: a pair 0 <"),
    ("blur wider than the crop", rotation("--views.blur-taps", "100001"), "views.blur_taps 100001: from 1 to 63"),
    ("erased area from large to small", rotation("--views.erasing-area", "0.5", "0.1"), "views.erasing_area 0.5 0.1"),
    ("erased ratio 0", rotation("--views.erasing-ratio", "0", "0"), "views.erasing_ratio 0.0 0.0: a pair 0 < low"),
    ("RandAugment of no number", rotation("--views.randaugment-magnitude", "nan"), "randaugment_magnitude nan must"),
    ("crops of more than the image", rotation("--views.scale", "0.5", "2"), "views.scale 0.5 2.0: a pair 0 < low"),
    ("ratio of no number", rotation("--views.ratio", "nan", "1"), "views.ratio nan 1.0: a pair 0 < low <= high"),
    ("infinite temperature", ["npid", "--preset", "smoke", "--task.temperature", "inf"], "task.temperature inf must"),
    ("infinite weight decay", rotation("--optimizer.weight-decay", "inf"), "optimizer.weight_decay inf must be a fin"),
    ("infinite penalty", rotation("--probes", "lbfgs", "--lbfgs.penalties", "inf"), "lbfgs.penalties inf must be a"),
    ("infinite rate of a probe", rotation("--linear.learning-rates", "inf"), "linear.learning_rates inf must be a"),
    ("infinite temperature of a probe", rotation("--knn.temperature", "inf"), "knn.temperature inf must be a finite"),
    ("stride 0", rotation("--root-stride", "0"), "root_stride 0; one of None, 1, 2"),
    ("probe size 0", rotation("--probe-size", "0"), "probe_size 0 must be at least 8 pixels"),
    ("width beyond any", rotation("--width", "1" + "0" * 20), "is too large; it must stay below 2^31"),
    ("width of more than memory", rotation("--width", "5000"), "width 5000 must be at most 1000"),
    ("width as a power", rotation("--width", "1e20"), "width '1e20' is no whole number"),
    ("epochs beyond any", rotation("--epochs", "1e300"), "epochs 1e+300 must lie in [0, 10^9]"),
    ("no step at all", rotation("--epochs", "0"), "rotation for 0 steps trains nothing; raise --epochs or --max-steps"),
    ("a warm-up longer than the run", rotation("--max-steps", "25", "--optimizer.warmup-epochs", "5"), "is 185 steps"),
    ("monitor of no number", rotation("--monitor", "knn:²"), "monitor 'knn:²' is not known; expected knn:N"),
    # Texts and places.
    ("nothing as a data set", rotation("--dataset", ""), "--dataset is empty; name something"),
    ("nothing as an endpoint", rotation("--endpoints", "pre_logits", ""), "--endpoints is empty; name something"),
    ("nothing as a folder", rotation("--features-dir="), "--features-dir is empty; name something"),
    ("nothing behind a set's colon", rotation("--dataset", "digits:"), "'digits:' has nothing behind its colon"),
    ("a path for a set", rotation("--dataset", "/tmp"), "did you mean folder:/tmp?"),
    ("an endpoint that is a path", rotation("--endpoints", "../../evil/x"), "endpoint '../../evil/x' is no plain name"),
    ("data at a web address", rotation("--data-dir", "http://x/y", "--dataset", "toy_scenes"), "read from http://x/y;"),
    ("images at a web address", rotation("--dataset", "folder:http://x/y"), "no images can be read from http://x/y;"),
    ("workdir at a web address", rotation("--workdir", "http://x/y"), "give a local path, or a gs:// address"),
    ("features in a file", rotation("--features-dir", __file__), "features cannot be written to"),
    ("features in a bucket", rotation("--features-dir", "gs://x/y"), "use a local folder"),
    # Names of other suites.
    ("another spelling of a pretext", ["mocov2"], "; did you mean moco_v2?"),
    ("a pretext in capitals", ["Rotation"], "; did you mean rotation?"),
    ("a set in capitals", rotation("--dataset", "CIFAR10"), "; did you mean cifar10?"),
    ("--learning-rate", rotation("--learning-rate", "1"), "no flag --learning-rate; here it is --optimizer.lr"),
    ("--output", rotation("--output", "x"), "no flag --output; here it is --workdir"),
    ("--gpus", rotation("--gpus=2"), "no flag --gpus; here it is CUDA_VISIBLE_DEVICES"),
]
SWEEPS = [
    ("sweep: seeds with nothing", ["revisiting", "--preset", "smoke", "--seeds"], "--seeds names no seed"),
    ("sweep: another spelling of a family", ["Revisiting"], "; did you mean revisiting?"),
]
