import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from conftest import sample
from matplotlib.colors import to_rgb

from kaod import ROOT
from kaod.figures import charts


def test_a_model_looks_the_same_everywhere_and_no_two_in_a_figure_look_alike():
    names = [*charts.MODELS, *(f"mine-{number}" for number in range(12))]
    looks = charts.looks(names)
    assert list(looks) == names and len({(look["color"], look["marker"]) for look in looks.values()}) == len(names)
    assert all(to_rgb(look["color"]) != to_rgb("#F0E442") for look in looks.values())  # yellow on white
    assert charts.looks(["kaod-paper"])["kaod-paper"] == charts.looks(["fcos", "kaod-paper"])["kaod-paper"]
    few = charts.looks(["fcos", "faster-rcnn"])
    assert few["faster-rcnn"]["color"] != few["fcos"]["color"]
    axes, = charts.curves({"kaod": {0: 0.1, 9: 0.2}, "fcos": {0: 0.1, 9: 0.2}}, "").axes
    assert [line.get_color() for line in axes.lines] == [looks[name]["color"] for name in ("kaod", "fcos")]
    plt.close("all")


def test_class_counts_sizes_and_the_table_of_a_data_set():
    sets = {"training": [sample([(0, 0, 10, 40), (0, 0, 20, 20)], [1, 2]), sample([(0, 0, 20, 20)], [2])],
            "test": [sample([(0, 0, 10, 10)], [1], ignore=[True])], "turned": [sample([], [])]}
    axes, = charts.class_counts(sets, ["a", "b"]).axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "b"]
    assert [text.get_text() for text in axes.texts] == ["1", "2", "1", "0", "0", "0"]
    axes, = charts.object_sizes(sets).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["training: median 20 px",
                                                                           "test: median 10 px", "turned: no objects"]
    assert charts.data_table(sets).splitlines()[2:] == ["| training | 2 | 3 | 0 | 1.50 |",
                                                            "| test | 1 | 1 | 1 | 1.00 |",
                                                            "| turned | 1 | 0 | 0 | 0.00 |"]
    plt.close("all")


def test_logs_are_running_means_and_models_without_keypoints_are_not_in_the_gauge():
    log = [{"step": i, "classification": float(i), "spread": 0.5} for i in range(1, 41)]
    log = pd.DataFrame(log)
    figure = charts.gauge({"fcos": pd.DataFrame([{"step": 1, "classification": 1.0}]), "kaod": log}, even=0.56)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert lines.keys() == {"kaod", "evenly on the box's outline: 0.56", "collapsed: 0"}
    assert np.allclose(lines["kaod"].get_ydata(), 0.5)
    line = charts.losses({"kaod": log}).axes[0].lines[0]
    assert line.get_xdata()[0] == 20 and np.isclose(line.get_ydata()[0], 10.5)  # the mean of 1 to 20
    plt.close("all")


def test_the_tolerance_that_is_marked():
    axes, = charts.tolerance_curve({0: 16, 0.01: 12}, 0.0085, "title").axes
    assert [line.get_label() for line in axes.lines[1:]] == ["default: 0.85 %"]
    plt.close("all")


def test_a_table_has_dashes_for_what_is_missing_and_digits_for_floats_alone():
    frame = pd.DataFrame({"count": [1200, 3], "share": [0.12345, None], "word": ["yes", None]}, ["a", "b"])
    assert charts.markdown(frame.rename_axis("model"), 2).splitlines() == [
        "| model | count | share | word |", "| --- | --- | --- | --- |",
        "| a | 1,200 | 0.12 | yes |", "| b | 3 | – | – |"]
    assert charts.markdown(frame[:0]) == ""


def details(**more) -> dict:
    """Details of one model, on -st alone."""
    return {"st": {"AP50": 0.75, "coco": {"AP": 0.5, "AP50": 0.76}, "spread": None, "shape": {}, "masks": None, **more}}


def test_results_are_cocos_ap_and_ap50_and_shapes_are_told_where_outlines_are_known():
    head, _, row = charts.results_table({"fcos": details()}).splitlines()
    assert head.startswith("| AP: COCO's, IoU .5 to .95; AP50: IoU .5 | -st (as it is): AP | -st: AP50 | -rt (rotated)")
    assert row == "| fcos | 0.500 | 0.750 | – | – | – | – | – | – |"
    assert all(charts.shape_table({"fcos": details()}, title) == "" for title in charts.SHAPES)
    known = {"fcos": details(shape={"objects": 3, "box": 0.5}, masks={"box": {"AP50": 0.25}}),
             "kaod": details(shape={"objects": 4, "box": 0.5, "hull": 0.7}, spread=0.4, masks={"hull": {"AP50": 0.35}})}
    shape, rectangle, masks = (charts.shape_table(known, title).splitlines() for title in charts.SHAPES)
    assert shape[2:] == ["| fcos | 3 | 0.500 | – | – | – | – |", "| kaod | 4 | 0.500 | – | 0.700 | – | 0.400 |"]
    assert masks[2:] == ["| fcos | 0.250 | – | – | – |", "| kaod | – | – | 0.350 | – |"]
    assert rectangle[0] == "| IoU with the true rectangle | the box itself | rectangle of the keypoints |"


def test_the_turns_of_models_stand_beside_what_turns_and_what_does_not():
    still, turned = ({"turn": turn, "turn_matched": 30.0, "distance": away, "hull": 0.5, "hull_unturned": None}
                     for turn, away in ((0.0, 0.25), (30.0, 0.0)))
    of_30 = {"model": still | {"turn": 1.5}, "ring": still, "ellipse": still, "perfect": turned}
    known = {"fcos": details(turning=None), "kaod": details(turning={"30": of_30, "45": None})}
    head, _, *rows = charts.turning_table(known).splitlines()
    assert head.startswith("| photos turned by 30° | turn found, ° | distance after turning back | hulls' IoU")
    assert rows[0] == "| kaod | 1.500 | 0.250 | 0.500 | – |"
    assert rows[1].startswith("| kaod: its keypoints, not turned | 0.000 | 0.250 ")
    assert rows[3] == "| perfect: turned with the object | 30.000 | 0.000 | 0.500 | – |" and len(rows) == 4
    assert charts.turning_table({"old": details()}) == charts.turning_table(known, 45) == ""


def test_the_papers_tables():
    table = charts.paper_table(pd.read_csv(ROOT / "data" / "paper.csv"), 1).splitlines()
    assert table[0].startswith("| mAP, from the paper | resnet50 -st | ")
    assert table[2] == "| fcos | 0.738 | 0.591 | 0.733 | 0.765 | 0.627 | 0.760 |" and len(table) == 12


def test_bars_of_the_kinds_that_all_models_have():
    metrics = {"fcos": details() | {"rt": {"coco": {"AP": 0.3}}}, "kaod": details()}
    axes = charts.ap_bars(metrics, "title").axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["-st\nas it is"]
    assert [text.get_text() for text in axes.texts] == ["0.50", "0.50"]
    metrics = {"a": details(coco={"AP": None, "AP50": None}, AP50=None), "b": details()}  # one that found no objects
    assert [text.get_text() for text in charts.ap_bars(metrics, "title").axes[0].texts] == ["–", "0.50"]
    assert charts.results_table(metrics).splitlines()[2].startswith("| a | – | – |")
    line, = charts.curves({"a": {0: None, 15: None}}, "title").axes[0].lines
    assert np.isnan(line.get_ydata()).all()
    plt.close("all")
