from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from types import SimpleNamespace

import jupytext
import nbformat
import papermill
import pytest

from kaod import ROOT
from kaod.data import files
from kaod.figures import notebooks

NOTEBOOKS = [ROOT / "notebooks" / f"{name}.ipynb" for name in notebooks.names()]


def test_normalising_twice_is_normalising_once():
    notebook = nbformat.v4.new_notebook(metadata={"papermill": {"start_time": "now"}}, cells=[
        nbformat.v4.new_code_cell(
            "x = 1", metadata={"tags": ["parameters"], "execution": {"iopub.execute_input": "now"}}),
        nbformat.v4.new_code_cell("x = 2", metadata={"tags": ["injected-parameters"]}),
        nbformat.v4.new_code_cell("x", execution_count=3, outputs=[nbformat.v4.new_output("stream", text="2\n")])])
    once = notebooks.to_bytes(notebooks.normalise(notebook, outputs=True))
    assert notebooks.to_bytes(notebooks.normalise(nbformat.reads(once.decode(), 4), outputs=True)) == once
    assert b"papermill" not in once and b"start_time" not in once and b"execution\"" not in once
    source = notebooks.normalise(nbformat.reads(once.decode(), 4), outputs=False)
    assert [cell.source for cell in source.cells] == ["x = 1", "x"] and not source.cells[1].outputs


def test_widgets_which_need_their_kernel_leave_nothing_behind():
    widget = nbformat.v4.new_output("display_data", data={notebooks.WIDGET: {"model_id": "random"},
                                                          "text/plain": "VBox()"})
    printed = nbformat.v4.new_output("stream", text="2\n")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=[widget, printed])])
    assert notebooks.normalise(notebook, outputs=True).cells[0].outputs == [printed]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_notebooks_are_executed_normalised_and_small(path):
    notebook = notebooks.read(path)
    as_published = notebooks.to_bytes(notebooks.normalise(notebooks.read(path), outputs=True))
    assert path.read_bytes() == as_published, ("`dvc repro` and `python -m kaod.figures.notebooks publish`, or "
                                               "`git checkout notebooks`")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not any(output.output_type == "error" for cell in code for output in cell.outputs)
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    assert path.stat().st_size < 1_500_000
    assert notebook.cells[0].source.startswith("# ") and notebook.cells[0].source.splitlines()[0].endswith("?")
    for cell in code:
        assert "class " not in cell.source and "def " not in cell.source  # the package defines, notebooks show


def test_the_text_that_the_pipeline_runs_is_the_text_that_is_shown():
    notebooks.check()


def test_a_broken_notebook_is_named(tmp_path):
    for suffix in (".ipynb", ".py"):
        with pytest.raises(ValueError, match=f"x{suffix}: no such notebook"):
            notebooks.read(tmp_path / f"x{suffix}")
    for name, content in (("x.ipynb", b"{"), ("x.ipynb", b"\xff"), ("y.py", b"\xff"),
                          ("z.py", b"# ---\n# jupyter:\n#   a: b: c\n# ---\n\n# %%\n1\n")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}: not a notebook"):
            notebooks.read(tmp_path / name)


def write(path, text: str, output: str = ""):
    """A notebook, as its .py or its .ipynb."""
    outputs = [nbformat.v4.new_output("stream", text=output)] if output else []
    cells = [nbformat.v4.new_markdown_cell(text), nbformat.v4.new_code_cell("print(1)", outputs=outputs)]
    notebook = notebooks.normalise(nbformat.v4.new_notebook(cells=cells), outputs=True)
    files.write_bytes(path, notebooks.to_bytes(notebook) if path.suffix == ".ipynb" else
                      jupytext.writes(notebook, "py:percent").encode())


def test_a_run_says_nothing_and_a_cell_that_fails_is_shown(tmp_path, capfd):
    write(tmp_path / "a.py", "What?")
    notebooks.execute(tmp_path / "a.py", tmp_path / "a.ipynb")
    assert capfd.readouterr() == ("", "")  # no kernel that warns of its port, or calls its end an error
    assert notebooks.read(tmp_path / "a.ipynb").cells[1].outputs[0].text == "1\n"
    (tmp_path / "b.py").write_text("# %%\n1 / 0\n")
    with pytest.raises(papermill.PapermillExecutionError, match="ZeroDivisionError"):
        notebooks.execute(tmp_path / "b.py", tmp_path / "b.ipynb")
    assert not (tmp_path / "b.ipynb").exists()


def test_what_ran_is_published_but_edits_are_not_lost_and_real_photos_not_shown(repository):
    profile = SimpleNamespace(name="own", draw=object(), runs=repository / "runs")
    folder = repository / "notebooks"
    for name in ("00-a", "01-b"):
        write(folder / f"{name}.py", name)
        write(profile.runs / "notebooks" / f"{name}.ipynb", name, "executed")
    write(folder / "00-a.ipynb", "00-a")
    write(folder / "Untitled.py", "a draft, which the pipeline does not know")
    write(profile.runs / "notebooks" / "02-gone.ipynb", "of a notebook that was taken away", "executed")
    before = (folder / "00-a.ipynb").read_bytes()
    write(folder / "01-b.py", "edited since")
    with pytest.raises(ValueError, match="01-b.py: edited since it ran; run `dvc repro` first"):
        notebooks.publish(profile)
    assert (folder / "00-a.ipynb").read_bytes() == before  # all or none
    write(folder / "01-b.py", "01-b")
    write(folder / "01-b.ipynb", "edited by an editor that knows nothing of the other file")
    with pytest.raises(ValueError, match="b.ipynb: other text or code than in 01-b.py; .* the newer file, 01-b.ipynb"):
        notebooks.publish(profile)
    write(folder / "01-b.ipynb", "01-b", "older outputs")
    with pytest.raises(ValueError, match="the photos of the profile own are not drawn"):
        notebooks.publish(SimpleNamespace(**{**vars(profile), "draw": None}))
    notebooks.publish(profile)
    assert sorted(path.name for path in folder.iterdir()) == [
        "00-a.ipynb", "00-a.py", "01-b.ipynb", "01-b.py", "Untitled.py"]
    assert notebooks.read(folder / "01-b.ipynb").cells[1].outputs[0].text == "executed"
    (folder / "00-a.ipynb").unlink()
    notebooks.publish(profile)  # a new notebook has no outputs yet
    assert (folder / "00-a.ipynb").read_bytes() != before
    (profile.runs / "notebooks" / "00-a.ipynb").unlink()
    with pytest.raises(ValueError, match="00-a.ipynb: no such notebook"):
        notebooks.publish(profile)


def test_two_notebooks_run_side_by_side(tmp_path):
    """Their kernels do not share a socket: `make repro` runs two at a time from one folder."""
    path, targets = tmp_path / "waits.py", [tmp_path / f"{number}.ipynb" for number in range(2)]
    path.write_text("# %%\nimport time\n\ntime.sleep(2)\nprint('done')\n")
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        list(pool.map(notebooks.execute, [path] * 2, targets))
    assert all(notebooks.read(target).cells[0].outputs[0].text == "done\n" for target in targets)
