import math

import pandas as pd
import pytest
from scipy import stats

from experiments import grid, tables
from kaod import params

RUNS = grid.runs(params.load("shapes")[0])
NOTHING = tables.frame([], [])


def run(model, seed, ap, **shape):
    """A run's file: AP50 is `ap` on -st and .1 more on each of the others, AP half of it, AP75 a third."""
    rest = {"shape": shape or None, "turning": None, "masks": None, "spread": None, "overhang": None}
    sets = {kind: {"AP50": ap50, "coco": {"AP": ap50 / 2, "AP75": ap50 / 3}, **rest}
            for kind, ap50 in zip(("st", "rt", "cr", "tr"), (ap, ap + 0.1, ap + 0.2, ap + 0.3))}
    return {"model": model, "seed": seed, "seconds_per_step": 0.5, "metrics": sets}


def frame(*rows):
    return pd.DataFrame(rows, columns=list(tables.COLUMNS)).astype(tables.COLUMNS)


SEVERAL = tables.frame([
    run("fcos", 0, 0.5), run("fcos", 1, 0.6), run("fcos", 2, 0.7), run("kaod-paper", 0, 0.51, hull=0.6),
    run("kaod-paper", 1, 0.62, hull=0.5), run("kaod-paper", 2, 0.73, hull=0.4), run("paper", 0, 0.4)],
    ["fcos", "kaod-paper", "paper"])


def test_means_and_differences_by_seed():
    means, against = tables.means(SEVERAL), tables.means(tables.differences(SEVERAL, "fcos"))
    assert means.loc[("fcos", "AP50-rt"), "mean"] == pytest.approx(0.7)
    assert means.loc[("fcos", "AP-rt"), "mean"] == pytest.approx(0.35)
    assert means.loc[("fcos", "AP75-rt"), "mean"] == pytest.approx(0.7 / 3)
    assert set(against.index.get_level_values("model")) == {"kaod-paper", "paper"}
    assert means.loc[("kaod-paper", "AP50-st"), "seeds"] == 3
    found = against.loc[("kaod-paper", "AP50-st")]
    expected = stats.ttest_1samp([0.01, 0.02, 0.03], 0).confidence_interval(0.95)
    assert found["mean"] == pytest.approx(0.02) and found["half"] == pytest.approx(0.02 - expected.low)
    assert ("kaod-paper", "hull") in means.index and ("kaod-paper", "hull") not in against.index
    assert means.loc[("paper", "AP50-st"), "mean"] == 0.4 and math.isnan(means.loc[("paper", "AP50-st"), "half"])
    assert against.loc[("paper", "AP50-st"), "mean"] == pytest.approx(-0.1)
    assert math.isfinite(found["half"])


def test_differences_are_of_the_seeds_that_both_have():
    found = tables.means(tables.differences(frame(("a", 0, "x", 0.5), ("a", 2, "x", 0.9), ("b", 1, "x", 0.1),
                                                  ("b", 2, "x", 0.4)), "b"))
    assert found.loc[("a", "x"), "mean"] == pytest.approx(0.5) and found.loc[("a", "x"), "seeds"] == 1


def test_a_figure_that_one_seed_lacks_has_no_mean():
    found = tables.means(frame(("a", 0, "x", 0.5), ("a", 0, "y", 0.5), ("a", 1, "x", 0.7), ("b", 0, "y", 0.1)))
    assert list(found.index) == [("a", "x"), ("b", "y")]


def test_figures_measured_on_the_way_have_differences():
    on_the_way = {name: {"0": {"AP50": 0.0}, "150": {"AP50": ap50, "AP": 0.2}}
                  for name, ap50 in (("fcos", 0.3), ("kaod-paper", 0.2))}
    learned = tables.frame([run("fcos", 0, 0.5) | {"learning": on_the_way["fcos"]},
                            run("kaod-paper", 0, 0.6) | {"learning": on_the_way["kaod-paper"]}],
                           ["fcos", "kaod-paper"])
    against = tables.means(tables.differences(learned, "fcos"))
    assert set(against.index.get_level_values("model")) == {"kaod-paper"}
    assert against.loc[("kaod-paper", "AP50-st"), "mean"] == pytest.approx(0.1)
    assert against.loc[("kaod-paper", "AP50-after150"), "mean"] == pytest.approx(-0.1)
    assert against.loc[("kaod-paper", "AP-after150"), "mean"] == 0


def test_a_frame_is_in_the_grids_order_and_empty_where_it_is_not_made(tmp_path):
    found = tables.frame([run("b", 1, 0.1), run("a", 0, 0.2), run("b", 0, 0.3), run("of another time", 0, 0.4)],
                         ["b", "a"])
    assert list(found[["model", "seed"]].drop_duplicates().itertuples(index=False, name=None)) == [
        ("b", 0), ("b", 1), ("a", 0)]
    assert all(list(each) == sorted(each) for _, each in found.groupby(["model", "seed"])["figure"])
    profile = type("Profile", (), {"results": tmp_path})
    assert tables.load(profile).empty and list(tables.load(profile).columns) == list(tables.COLUMNS)
    (tmp_path / "grid.csv").write_text(found.to_csv(index=False))
    pd.testing.assert_frame_equal(tables.load(profile), found, check_exact=True)


def test_the_committed_runs_read_back_as_they_are():
    found = tables.load(params.load("shapes")[0])
    models = list(found["model"].unique())
    pd.testing.assert_frame_equal(found, tables.frame(RUNS, models), check_exact=True)
    assert {"AP-st", "AP50-turn+30", "AP50-turn-15", "AP50-turn+0", "AP-after300", "AP50-after300", "hull", "ellipse",
            "box", "bound", "rectangle", "rectangle_box", "mask-AP50-hull", "mask-AP-hull", "spread", "overhang",
            "turn30", "seconds_per_step"} < set(found["figure"])


def test_how_keypoints_turn_is_told_of_runs_that_measured_it():
    of_30 = {"model": {"turn": 5.0, "turn_matched": 20.0, "distance": 0.2, "hull": 0.7, "hull_unturned": None},
             "ring": {"turn": 0.0}}
    runs = [run("new", 0, 0.5), run("none", 0, 0.5)]
    runs[0]["metrics"]["st"]["turning"] = {"15": None, "30": of_30}
    found = tables.frame(runs, ["new", "none"]).set_index(["model", "figure"])["value"]
    told = found[found.index.get_level_values("figure").str.contains("^turn")]
    assert told.to_dict() == {("new", "turn30"): 5, ("new", "turn-distance30"): 0.2, ("new", "turn-hull30"): 0.7}


def test_what_turning_costs_is_taken_seed_by_seed():
    found = tables.turning(frame(
        ("fcos", 0, "AP50-rt", 0.60), ("fcos", 0, "AP50-cr", 0.62), ("fcos", 0, "AP-rt", 0.3),
        ("fcos", 0, "AP-cr", 0.4), ("fcos", 1, "AP50-rt", 0.50), ("fcos", 1, "AP50-cr", 0.54),
        ("fcos", 1, "AP50-st", 0.9), ("none", 0, "hull", 1)))
    assert list(found["model"].unique()) == ["fcos"]
    assert list(found[found["figure"] == "AP50-rt"]["value"]) == pytest.approx([-0.02, -0.04])
    assert list(found[found["figure"] == "AP-rt"]["value"]) == pytest.approx([-0.1])


def test_a_table_has_dashes_for_what_is_not_known():
    columns = {"AP50-st": "AP50 -st", "hull": "hull"}
    assert tables.table(SEVERAL, columns).splitlines() == [
        "| model | seeds | AP50 -st | hull |", "| --- | --- | --- | --- |", "| fcos | 3 | 0.600 ± 0.248 | – |",
        "| kaod-paper | 3 | 0.620 ± 0.273 | 0.500 ± 0.248 |", "| paper | 1 | 0.400 | – |"]
    assert tables.table(SEVERAL, columns, "fcos").splitlines()[2:] == [
        "| kaod-paper | 3 | +0.020 ± 0.025 | – |", "| paper | 1 | -0.100 | – |"]
    assert tables.table(SEVERAL, columns, rows={"paper": "PAPER", "gone": "x", "fcos": "FCOS"}).splitlines()[2:] == [
        "| PAPER | 1 | 0.400 | – |", "| FCOS | 3 | 0.600 ± 0.248 | – |"]
    assert len(tables.table(SEVERAL, {"hull": "hull"}).splitlines()) == 3
    assert tables.table(SEVERAL, {"other": "x"}) == tables.table(NOTHING, columns) == "Not run yet."


@pytest.mark.parametrize("mean, half, figure, said", [
    (0.2, 0.1, "AP50-rt", "better"), (0.2, 0.1, "turn-distance30", "worse"), (-0.2, 0.1, "AP50-rt", "worse"),
    (-0.2, 0.1, "turn-distance30", "better"), (-0.2, 0.1, "seconds_per_step", "better"), (0.1, 0.2, "hull", "open"),
    (-0.1, 0.2, "turn-distance30", "open"), (0.1, math.nan, "hull", "one seed")])
def test_better_or_worse_needs_an_interval_without_zero(mean, half, figure, said):
    assert tables.word(mean, half, figure) == said


def test_each_claim_has_a_row_and_missing_runs_are_said_to_be_missing():
    claims = {"words": ("AP50-st", "kaod-paper", "fcos"), "the paper's": ("AP50-st", "paper", "fcos"),
              "far": ("AP50-st", "paper", "gone")}
    assert tables.verdicts(SEVERAL, claims).splitlines() == [
        "|  | model | against | difference | is |", "| --- | --- | --- | --- | --- |",
        "| words | kaod-paper | fcos | +0.020 ± 0.025 | open |", "| the paper's | paper | fcos | -0.100 | one seed |",
        "| far | paper | gone | – | not run |"]
    assert tables.verdicts(NOTHING, claims).count("not run") == 3


FURTHER = ("fpn128", "resnet18", "6000", "12000")  # how the names of larger models and of longer trainings end


def test_models_are_split_by_steps_and_network_as_their_names_say():
    profile, models = grid.load("shapes")
    runs = tables.frame(RUNS, models)
    parts = tables.split(runs, profile, models)
    assert sum(map(len, parts)) == len(runs) and all(len(part) == 0 for part in tables.split(NOTHING, profile, models))
    for names, end in zip((set(part["model"]) for part in parts), ("", "-long", FURTHER)):
        assert names and all(name.endswith(end) for name in names)
    assert not any(name.endswith(("-long", *FURTHER)) for name in set(parts[0]["model"]))
