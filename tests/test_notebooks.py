"""Every notebook runs from top to bottom at smoke size, and is kept without outputs."""

import pathlib
import re

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def with_parameters(notebook, **values):
    """Replaces NAME = … in the first code cell; every name must be there."""
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code")
    for name, value in values.items():
        line = f"{name} = {value!r}".replace("\\", r"\\")
        cell.source, count = re.subn(rf"^{name} = .*$", line, cell.source, flags=re.M)
        assert count == 1, f"no parameter {name} in the first code cell"
    return notebook


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_valid_and_stripped(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None


# Run before a notebook's own cells: nothing is known of another one's, and two convolutions stand under the name of the
# network that the preset smoke has.
BEGIN = """
%reset -f
from revisit_ssl.backbones import BACKBONES
from revisit_ssl.startup import collect_rarely
from revisit_ssl.testing.networks import tiny_backbone
collect_rarely()
BACKBONES["resnet18"] = tiny_backbone
"""


@pytest.fixture(scope="module")
def kernel():
    """One kernel, which loads TensorFlow once for all notebooks."""
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(ROOT))
    client.stop_channels()
    yield manager
    manager.shutdown_kernel(now=True)


def executed(kernel, name, begin="", **parameters):
    """What the notebook shows, run from top to bottom with these parameters: [{mime type: data}]."""
    notebook = with_parameters(nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4), **parameters)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(BEGIN + begin))
    client = NotebookClient(notebook, km=kernel, timeout=400)
    client.execute()
    client.kc.stop_channels()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output.data for output in outputs if output.output_type in ("display_data", "execute_result")]


def test_first_run(tmp_path, kernel):
    shown = executed(kernel, "00_first_run", PRESET="smoke", WORKDIR=str(tmp_path / "run"))
    assert sum("image/png" in data for data in shown) == 4
    tables = [data["text/markdown"] for data in shown if "text/markdown" in data]
    assert len(tables) == 1 and "ours (digits, linear)" in tables[0] and "paper (ImageNet" in tables[0]
    assert (tmp_path / "run" / "report.html").exists()


# The parts of a run's report that the notebook shows; the others take as long again.
SHOWN_PARTS = """
from revisit_ssl.report import page
page.SECTIONS = {"Training": page.training_curves, "What the pretext sees": page.pretext_views}
"""


def test_pretext_tasks(tmp_path, kernel):
    values = {"PRESET": "smoke", "WORKDIR": str(tmp_path / "run"), "SHOWN": 32}
    shown = executed(kernel, "01_pretext_tasks", SHOWN_PARTS, **values)
    # Views and curves of four pretexts; answers and confusions of rotation, neighbours, places, puzzles.
    assert sum("image/png" in data for data in shown) == 4 * 2 + 5
    assert not any("has no picture" in data.get("text/markdown", "") for data in shown)


def test_probes_and_width(tmp_path, kernel):
    shown = executed(kernel, "02_probes_and_width", PRESET="smoke", WORKDIR=str(tmp_path / "run"), FEW_LABELS=0.5)
    assert sum("image/png" in data for data in shown) == 2
    tables = [data["text/markdown"] for data in shown if "text/markdown" in data]
    assert [sum(f"resnet18 k={width}" in table for table in tables) for width in (1, 2)] == [1, 1]
    assert "| 50% |" in tables[-1] and "| k = 1 | k = 2 |" in tables[-1]


def test_paper_vs_ours(kernel):
    shown = executed(kernel, "03_paper_vs_ours")
    tables = [data["text/markdown"] for data in shown if "text/markdown" in data]
    assert any("55.4" in table and "38.7" in table for table in tables), "the paper's Table 2"
    assert sum(table.startswith(f"**{i}. ") for table in tables for i in range(1, 10)) == 9
    assert sum("image/png" in data for data in shown) >= 2
