"""Every notebook runs from top to bottom at smoke size, and is kept without outputs."""

import pathlib
import re

import nbformat
import pytest
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


@pytest.mark.slow
def test_first_run_from_top_to_bottom(tmp_path):
    path = ROOT / "notebooks" / "00_first_run.ipynb"
    notebook = with_parameters(nbformat.read(path, as_version=4), PRESET="smoke", WORKDIR=str(tmp_path / "run"))
    NotebookClient(notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = [output.data for output in outputs if output.output_type in ("display_data", "execute_result")]
    assert sum("image/png" in data for data in shown) == 4
    tables = [data["text/markdown"] for data in shown if "text/markdown" in data]
    assert len(tables) == 1 and "ours (digits, linear)" in tables[0] and "paper (ImageNet" in tables[0]
    assert (tmp_path / "run" / "report.html").exists()
