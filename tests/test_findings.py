import matplotlib.pyplot as plt
import pytest

from kaod import ROOT, files, findings

GRID = files.read_json(ROOT / "results" / "shapes" / "grid.json")
CELLS = [files.read_json(path) for path in sorted((ROOT / "results" / "shapes" / "grid").glob("*.json"))]
BENCHMARK = files.read_json(ROOT / "results" / "benchmarks" / "train_step-cpu.json")


def table(mean: float, half: float | None) -> dict:
    against = {"b": {"x": {"mean": mean, "half": half}}}
    return {"a": {"seeds": [0], "figures": {"x": {"mean": 3.0, "half": None}}, "against": against},
            "b": {"seeds": [0], "figures": {"x": {"mean": 2.0, "half": None}}, "against": {}}}


@pytest.mark.parametrize("mean, half, less, said", [
    (0.2, 0.1, False, "+0.200 ± 0.100: **better**"), (0.2, 0.1, True, "+0.200 ± 0.100: **worse**"),
    (-0.2, 0.1, False, "-0.200 ± 0.100: **worse**"), (-0.2, 0.1, True, "-0.200 ± 0.100: **better**"),
    (0.1, 0.2, False, "+0.100 ± 0.200: cannot be told from chance"),
    (0.1, None, True, "+0.100, one seed: no more than a hint")])
def test_a_verdict_needs_an_interval_without_zero(mean, half, less, said):
    assert findings.verdict(table(mean, half), "x", "a", "b", "words", less) == f"- words (a minus b): {said}"


def test_missing_cells_are_said_to_be_missing():
    grid = table(0, None)
    assert findings.verdict(grid, "x", "a", "gone", "words").endswith("not run yet")
    assert findings.ratio(grid, "x", "a", "b", "words") == "- words (a / b): **1.50**"
    assert findings.ratio(grid, "x", "a", "gone", "words").endswith("not run yet")
    assert findings.missing(grid, ["a", "c", "d"]).endswith(": c, d.") and findings.missing(grid, ["a"]) == ""


def test_charts_show_all_cells_that_ran():
    figure = findings.spreads(GRID, even=0.56)
    dots = sum(cell["metrics"]["st"]["spread"] is not None for cell in CELLS)
    assert len(figure.axes[0].texts) == dots > 0
    legend = [text.get_text() for text in findings.turning(GRID).axes[0].get_legend().get_texts()]
    assert [words.split(" (")[0] for words in legend] == list(GRID)
    models = [tick.get_text() for tick in findings.outlines(GRID).axes[0].get_yticklabels()]
    assert models == [model for model, entry in GRID.items() if "hull" in entry["figures"]]
    findings.spreads({}, even=0.56)
    bars = findings.cost_of_k(BENCHMARK).axes[0].patches
    assert [bar.get_height() for bar in bars] == [1, *(BENCHMARK["ratios"][f"K = {k} / K = 16"]["median"]
                                                       for k in (32, 48)), 2.0]
    plt.close("all")
