"""The parts of experiments/bench.py that measure memory; the benchmarks themselves are run by hand."""

import importlib.util
import pathlib
import sys

import pytest

from revisit_ssl.errors import InputError

PATH = pathlib.Path(__file__).parents[1] / "experiments" / "bench.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["bench"]


def python(code):
    return [sys.executable, "-c", code]


def test_a_child_reports_its_numbers_or_is_stopped(bench):
    assert bench.capped(python("print('noise'); print(12.5, 3)"), 500) == [12.5, 3.0]
    greedy = "import time\nheld = [bytearray(2**20) for _ in range(200)]\ntime.sleep(60)"
    assert bench.capped(python(greedy), 100) is None
    with pytest.raises(InputError, match="process failed: ValueError: too wide"):
        bench.capped(python("raise ValueError('too wide')"), 500)


def test_rows_with_and_without_a_stopped_side(bench):
    assert bench.row("memory", 40.0, 100.0, "MB", "rival", 0.5, batch=8)["ratio"] == 0.4
    stopped = bench.row("memory", 40.0, None, "MB", "rival", 0.5)
    assert stopped["ratio"] is None and stopped["theirs"] is None
    assert bench.shown(None, "MB") == "stopped at 10 GB" and bench.shown(40.0, "MB") == "40 MB"
    assert bench.median_of([[3.0, 1.0], [5.0, 2.0], [4.0, 9.0]], 0) == 4.0
    assert bench.median_of([[3.0, 1.0], None], 1) is None
