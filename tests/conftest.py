"""How the tests run: in two processes, on two logical CPU devices; where real test data may lie."""

import collections
import ctypes
import os
import pathlib
import signal
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# XLA's programs run for a moment here and take long to compile; what its fusion emitters leave behind is 100 MB for a
# program. (Level 0 also calculates the same value twice with two roundings, which finds comparisons that hang on one.)
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_llvm_disable_expensive_passes=true --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false",
)
# oneDNN's allocator keeps whatever it was ever asked for. A step is faster for it, a suite of many small ones grows.
os.environ.setdefault("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", "1")

import pytest

import revisit_ssl  # noqa: F401  before TensorFlow, which reads the environment once
from revisit_ssl.startup import collect_rarely

# Tests that take half a second or more: seconds of the longest case, of all; `python -m pytest --write-slow`.
SLOW = pathlib.Path(__file__).parent / "slow.tsv"
SHARED_DATA = pathlib.Path(__file__).parents[2] / "shared" / "data" / "tensorflow_datasets"
SECONDS = collections.Counter()


def pytest_xdist_auto_num_workers(config):
    """Two processes for the whole suite; none for what is named on the command line."""
    whole = config.args_source == pytest.Config.ArgsSource.TESTPATHS and not config.option.keyword
    config.option.dist, config.option.loadscopereorder = ("loadscope" if whole else "no"), False
    return 2 if whole else 0


def pytest_xdist_make_scheduler(config, log):
    """A file's tests run in one process, what its fixtures make is made once; of the contract's, a pretext's."""
    # Here, for the tests run without xdist too. (Its own groups, --dist loadgroup, are lost on pytest 9.2.)
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return nodeid.split("-check_")[0] if "-check_" in nodeid else nodeid.split("::")[0]

    return ByFile(config, log)


def pytest_configure(config):
    """Two devices, before TensorFlow is used; the process that hands out the tests does without it."""
    # A shell starts what runs in its background with Ctrl-C ignored, also for its children: tests send it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not config.option.numprocesses:
        from revisit_ssl.testing import two_devices

        two_devices()
        remember_no_stack()


def remember_no_stack():
    """Operations of a graph share one short stack as the place where they were made.

    Each would remember a hundred frames of its own, forty of them pytest's, of which XLA keeps copies for good: 20 MB
    for each program. TensorFlow's messages name this function, not the place in the code, after "defined at".
    """
    from tensorflow.python.util import tf_stack

    here = tf_stack.extract_stack()
    tf_stack.extract_stack = lambda stacklevel=1: here


def pytest_addoption(parser):
    parser.addoption("--write-slow", action="store_true", help="write anew which tests take half a second: slow.tsv")


def known_slow():
    """{test: seconds of its longest case, seconds of all} of slow.tsv."""
    rows = (line.split("\t") for line in SLOW.read_text().splitlines())
    return {test: (float(longest), float(together)) for test, longest, together in rows}


def pytest_collection_modifyitems(items):
    """What is slow is marked; the files that take longest come first."""
    slow, of_file = known_slow(), collections.Counter()
    for test, (_, together) in slow.items():
        of_file[test.split("::")[0]] += together
    for item in items:
        if test_of(item.nodeid) in slow:
            item.add_marker("slow")
    items.sort(key=lambda item: -of_file[item.nodeid.split("::")[0]])


def pytest_collection_finish():
    """All is loaded; ``give_memory_back`` looks for garbage after each file."""
    collect_rarely()


def pytest_runtest_logreport(report):
    SECONDS[report.nodeid] += report.duration


def pytest_sessionfinish(session):
    """The process that has heard of all tests writes down the slow ones."""
    if session.config.option.write_slow and not hasattr(session.config, "workerinput"):
        cases = collections.defaultdict(list)
        for case, seconds in SECONDS.items():
            cases[test_of(case)].append(seconds)
        # What was not run keeps its line: with -m "not slow" those are added that pay for what a slow one had made.
        kept = {test: seconds for test, seconds in known_slow().items() if test not in cases}
        slow = kept | {test: (max(each), sum(each)) for test, each in cases.items() if max(each) >= 0.5}
        lines = (f"{test}\t{longest:.1f}\t{together:.1f}\n" for test, (longest, together) in sorted(slow.items()))
        SLOW.write_text("".join(lines))


def test_of(case):
    """Name of a test without the values of its case."""
    return case.split("[")[0]


def give_memory_back(*tests):
    """Keras' global state, dead graphs, the images of data sets, what modules of tests keep in caches of their own, and
    what the allocator keeps for nobody."""
    import keras
    from tensorflow.python.framework import ops

    for name, module in list(sys.modules.items()):  # asking for an attribute may import more
        if module in tests or name.startswith(("revisit_ssl.data", "revisit_ssl.detection")):
            for kept in [value for value in vars(module).values() if hasattr(value, "cache_clear")]:
                kept.cache_clear()
    # Sums over replicas, which Keras' optimisers take on one device too, have a gradient of their own. TensorFlow
    # registers it for good, and with it the graph in which it stands: 10 MB for each step that was traced.
    gradients = ops.gradient_registry._registry
    for name in [name for name in gradients if name.startswith("CustomGradient")]:
        del gradients[name]
    keras.backend.clear_session()  # and collects garbage
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture(scope="module", autouse=True)
def memory_is_given_back(request):
    """After each file."""
    yield
    give_memory_back(request.module)


@pytest.fixture(scope="session")
def real_data():
    """Folder of real TFDS sets; the test is skipped, saying so, where it is not there."""
    if not SHARED_DATA.is_dir():
        pytest.skip("real data sets (CIFAR-10, imagenette_subset160) are not on this machine")
    return str(SHARED_DATA)


@pytest.fixture(scope="session", autouse=True)
def tiny_is_registered():
    from revisit_ssl.backbones import BACKBONES
    from revisit_ssl.testing import tiny_backbone

    BACKBONES["tiny"] = tiny_backbone
    yield
    del BACKBONES["tiny"]
