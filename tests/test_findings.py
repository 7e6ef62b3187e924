import matplotlib.pyplot as plt
import pytest

from experiments import findings, grid
from kaod import ROOT
from kaod.data import files

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
    found = table(0, None)
    assert findings.verdict(found, "x", "a", "gone", "words").endswith("not run yet")
    assert findings.missing(found, ["a", "c", "d"]).endswith(": c, d.") and findings.missing(found, ["a"]) == ""
    assert "`dvc repro experiments/dvc.yaml`" in findings.missing(found, ["c"])
    assert findings.angles_told(found, "gone", ["b"]).endswith("not run yet, or with one seed")
    assert findings.collapsed({}, 0.5) == "No keypoints were trained yet."
    assert findings.learning({}, {}) == {} and findings.reached({}, "a") == ""
    for draw in (findings.grid_sweep, findings.repeatability, findings.turning, findings.outlines):
        draw({})
    findings.differences({}, "fcos")
    plt.close("all")


def test_a_table_is_in_the_grids_order_and_empty_where_it_is_not_made(tmp_path):
    profile, models = grid.load()
    assert list(findings.load(profile, "grid")) == [name for name in models if name in GRID]
    there = type("Profile", (), {"results": tmp_path})
    assert findings.load(there, "long") == {}
    files.write_json(tmp_path / "long.json", {"kpl-hm-long": {}, "fcos-long": {}, "of another time": {}})
    assert list(findings.load(there, "long")) == ["fcos-long", "kpl-hm-long"]


def test_ratios_are_the_benchmarks_medians():
    said = findings.ratios(BENCHMARK, {"keypoint loss / none": "words"})
    assert said == f"- words: **{BENCHMARK['ratios']['keypoint loss / none']['median']:.2f}**"


def test_figures_by_k_are_of_the_seeds_that_all_models_have():
    names = ("AP50-st", "AP50-rt", "hull", "rectangle", "spread", "repeatability30")
    table = {"a": {"seeds": [0, 1], "by_seed": dict.fromkeys(names, [0.25, 0.5])},
             "b": {"seeds": [1], "by_seed": dict.fromkeys(names, [0.75])}}
    lines = findings.by_k(table, {8: "a", 16: "b", 32: "gone"}).splitlines()
    assert lines[2:] == ["| 8 |" + " 0.500 |" * 6, "| 16 |" + " 0.750 |" * 6, "", "Seed 1."]
    assert findings.by_k(table, {8: "a"}).endswith("| 8 |" + " 0.375 |" * 6 + "\n\nMeans over the seeds 0, 1.")
    assert findings.by_k({}, {8: "a"}) == "Not run yet."


def curve(figures: dict) -> dict:
    return {"figures": {key: {"mean": value, "half": None} for key, value in figures.items()}}


def test_the_first_step_at_which_a_model_has_most_of_the_final_ap():
    table = {"fcos": curve({"AP50-after0": 0.0, "AP50-after100": 0.50, "AP50-after20": 0.1, "AP50-st": 0.8}),
             "slow": curve({"AP50-after0": 0.0, "AP50-after100": 0.65, "AP50-st": 0.70}),
             "unmeasured": curve({"AP50-st": 0.9})}
    curves = findings.learning(table, dict.fromkeys(table, 200))
    assert curves == {"fcos": {0: 0, 20: 0.1, 100: 0.5, 200: 0.8}, "slow": {0: 0, 100: 0.65, 200: 0.7}}
    assert findings.reached(curves, "fcos").splitlines() == [
        "- fcos: 90 % of its own final AP50, 0.720, after **200** steps",
        "- slow: 90 % of fcos's final AP50, 0.720, **never**; 90 % of its own final AP50, 0.630, after **100** steps"]
    assert findings.reached({"slow": curves["slow"]}, "fcos").count("AP50") == 1


def test_what_turning_costs_is_taken_seed_by_seed():
    table = {"fcos": {"by_seed": {"AP50-rt": [0.60, 0.50], "AP50-cr": [0.62, 0.54]}}, "none": {"by_seed": {}}}
    axes, = findings.turning(table).axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["fcos"]
    seeds, mean = (line.get_xdata() for line in axes.lines[:2])
    assert seeds == pytest.approx([-0.02, -0.04]) and mean == pytest.approx([-0.03])
    plt.close("all")


def test_the_angles_at_which_an_interval_does_not_contain_zero():
    found = {"AP50-turn-90": (0.2, 0.1), "AP50-turn0": (0.1, 0.2), "AP50-turn30": (-0.2, 0.1)}
    table = {"a": {"against": {"b": {key: dict(zip(("mean", "half"), value)) for key, value in found.items()}}}}
    assert findings.angles_told(table, "a", ["b"]) == (
        "- a against b: **ahead** at -90°; **behind** at 30° (of 3 angles)")
    lines = findings.by_angle(GRID, "kpl-hm", ["fcos", "no-kpl", "fcos-ellipse"]).axes[0].get_legend().get_texts()
    assert [line.get_text() for line in lines] == ["minus fcos", "minus no-kpl", "minus fcos-ellipse"]
    plt.close("all")


def test_which_trainings_collapsed():
    table = {"a": {"seeds": [0, 2], "by_seed": {"spread": [0.5, 0.2]}},
             "b": {"seeds": [0], "by_seed": {"spread": [0.3]}}, "fcos": {"seeds": [0], "by_seed": {}}}
    assert findings.collapsed(table, 0.5).endswith(
        "in **1 of 3 trainings**: a, seed 2 (0.20). The spreads: a 0.20 to 0.50, b 0.30.")
    assert "in **0 of 3 trainings**. The" in findings.collapsed(table, 0.3)


def test_charts_show_all_cells_that_ran():
    figure = findings.spreads(GRID, even=0.56)
    dots = sum(cell["metrics"]["st"]["spread"] is not None for cell in CELLS if cell["model"] in GRID)
    assert len(figure.axes[0].texts) == dots > 0
    assert [tick.get_text() for tick in findings.turning(GRID).axes[0].get_yticklabels()] == list(GRID)
    assert len(findings.grid_sweep(GRID).axes[0].lines) == len(GRID)
    models = [tick.get_text() for tick in findings.outlines(GRID).axes[0].get_yticklabels()]
    assert models == [model for model, entry in GRID.items() if "hull" in entry["figures"]]
    findings.spreads({}, even=0.56)
    bars = findings.cost_of_k(BENCHMARK).axes[0].patches
    assert [bar.get_height() for bar in bars] == [1, *(BENCHMARK["ratios"][f"K = {k} / K = 16"]["median"]
                                                       for k in (32, 48)), 2.0]
    plt.close("all")
