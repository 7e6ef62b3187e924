import jupytext
import matplotlib.pyplot as plt
import pytest

from experiments import tables
from kaod import ROOT, params

FRAME = tables.load(params.load("shapes")[0])


@pytest.mark.parametrize("models", [(), ("fcos", "kaod"), ("kaod-paper", "fcos-turned")], ids=["none", "two", "more"])
@pytest.mark.parametrize("name", ["04-does-it-help", "08-what-do-we-find"])
def test_a_notebook_runs_where_runs_are_missing(name, models, monkeypatch):
    monkeypatch.setattr(tables, "load", lambda profile: FRAME[FRAME["model"].isin(models) & (FRAME["seed"] == 0)])
    cells = jupytext.read(ROOT / "notebooks" / f"{name}.py").cells
    shown = {}
    for cell in cells:
        if cell.cell_type == "code":
            exec(cell.source, shown)
    assert set(shown["absent"]) == set(shown["models"]) - {*models, *(["kaod-one-view"] if "kaod" in models else [])}
    plt.close("all")
