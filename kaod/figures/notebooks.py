"""Runs notebooks so that the same inputs give the same bytes.

A notebook is two files, both of which JupyterLab saves (notebooks/jupytext.toml): NAME.py, its text and code, on which
the pipeline depends, and NAME.ipynb, the same with outputs, to be looked at. So edited outputs rerun nothing.

`python -m kaod.figures.notebooks run NAME`   executes NAME.py by papermill → runs/<profile>/notebooks/NAME.ipynb
`python -m kaod.figures.notebooks check`      are the two files of each notebook alike? Other editors save only one
`python -m kaod.figures.notebooks publish`    the executed copies → notebooks/, to be committed; only those of drawn
                                              photos, and of notebooks whose text and code are those that ran
"""

import os
import sys
import tempfile
from pathlib import Path

import jupytext
import nbformat
import papermill
import yaml
from jupyter_client import KernelManager

from .. import ROOT, command, params
from ..data import files

WIDGET = "application/vnd.jupyter.widget-view+json"


def normalise(notebook, outputs: bool):
    """In place: no times, no random ids, no trace of the machine; without `outputs`, as it was written. Cells are
    numbered; the metadata keep the kernel's name, the language, and the cells' tags."""
    notebook.cells = [cell for cell in notebook.cells if outputs or "injected-parameters" not in
                      cell.metadata.get("tags", [])]
    for number, cell in enumerate(notebook.cells, 1):
        cell.id, cell.source = f"cell-{number:02d}", cell.source.rstrip("\n")  # a .py does not keep these
        cell.metadata = {key: cell.metadata[key] for key in ("tags",) if cell.metadata.get(key)}
        if cell.cell_type == "code":
            # a widget lives beside its kernel only, and has a random id
            cell.outputs = [each for each in cell.outputs if outputs and WIDGET not in each.get("data", {})]
            cell.execution_count = cell.execution_count if outputs else None
            for each in cell.outputs:
                each.update({"metadata": {}} if "metadata" in each else {})
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                         "language_info": {"name": "python"}}
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def to_bytes(notebook) -> bytes:
    return (nbformat.writes(notebook, version=4).rstrip("\n") + "\n").encode()


def read(path: Path):
    """A notebook from its .ipynb, or its .py in jupytext's percent format. Raises ValueError that names the file."""
    try:
        return nbformat.read(path, as_version=4) if path.suffix == ".ipynb" else jupytext.read(path, fmt="py:percent")
    except FileNotFoundError:
        raise ValueError(f"{path}: no such notebook") from None
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, AttributeError, KeyError, UnicodeDecodeError,
            yaml.YAMLError) as error:
        raise ValueError(f"{path}: not a notebook ({error})") from None


def source(path: Path) -> bytes:
    """What was written, without what it gave: the same for a notebook's two files."""
    return to_bytes(normalise(read(path), outputs=False))


def execute(path: Path, target: Path) -> None:
    """Runs a notebook in the notebooks' folder; the target is written when all cells ran. Raises papermill's
    PapermillExecutionError, which shows the cell and its traceback."""
    # the kernel imports this very package, also in a clone other than the one that pip installed
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    with tempfile.TemporaryDirectory(prefix="kaod-") as sockets:  # two notebooks at a time must not share them
        # over TCP it would warn that others on this machine can listen
        kernel = KernelManager(transport="ipc", ip=os.path.join(sockets, "kernel"))
        try:
            ran = papermill.execute_notebook(read(path), None, cwd=ROOT / "notebooks", progress_bar=False, km=kernel,
                                             kernel_name="python3")
        finally:
            if kernel.has_kernel:  # asked to end; papermill would interrupt it first, and it would report an error
                kernel.request_shutdown()
                kernel.finish_shutdown()
                kernel.cleanup_resources()
    files.write_bytes(target, to_bytes(normalise(ran, outputs=True)))


def names() -> list[str]:
    """The notebooks of the pipeline: those with a number. Others in notebooks/ are somebody's drafts."""
    return sorted({path.stem for path in (ROOT / "notebooks").glob("[0-9][0-9]-*") if path.suffix in (".py", ".ipynb")})


def check() -> None:
    """Raises ValueError where a notebook's two files differ in text or code: an editor has saved only one of them."""
    for name in names():
        path, shown = (ROOT / "notebooks" / f"{name}{suffix}" for suffix in (".py", ".ipynb"))
        if shown.exists() and source(path) != source(shown):
            newer = max(path, shown, key=lambda each: each.stat().st_mtime_ns)
            raise ValueError(f"{shown}: other text or code than in {path.name}; `jupytext --sync {shown}` makes them "
                             f"alike again, and takes those of the newer file, {newer.name}")


def publish(profile: params.Profile) -> None:
    """Writes all executed notebooks over those in notebooks/, or none. Raises ValueError where real photos would be
    published, a notebook was edited since it ran, or did not run."""
    if profile.draw is None:
        raise ValueError(f"the photos of the profile {profile.name} are not drawn: their licences may forbid it")
    check()
    executed = {ROOT / "notebooks" / f"{name}.ipynb": profile.runs / "notebooks" / f"{name}.ipynb" for name in names()}
    for path, ran in executed.items():
        if source(path.with_suffix(".py")) != source(ran):
            raise ValueError(f"{path.with_suffix('.py')}: edited since it ran; run `dvc repro` first")
    for path, ran in executed.items():
        files.write_bytes(path, ran.read_bytes())


def main() -> None:
    profile, _ = params.load()
    match sys.argv[1:]:
        case ["run", name]:
            execute(ROOT / "notebooks" / f"{name}.py", profile.runs / "notebooks" / f"{name}.ipynb")
        case ["check"]:
            check()
        case ["publish"]:
            publish(profile)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    command(main, papermill.PapermillExecutionError)
