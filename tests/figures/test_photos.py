import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from conftest import ring, sample
from matplotlib.colors import to_rgb
from PIL import Image

from kaod import geometry
from kaod.figures import data_plots, plots


def labels(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def said(figure) -> list[str]:
    """The figure's legend, in words."""
    legend, = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_a_model_looks_the_same_everywhere_and_no_two_in_a_figure_look_alike():
    names = [*plots.MODELS, *(f"mine-{number}" for number in range(12))]
    names.remove("kaod")
    looks = plots.looks(names)
    assert list(looks) == names and len({(look["color"], look["marker"]) for look in looks.values()}) == len(names)
    assert all(to_rgb(look["color"]) != to_rgb("#F0E442") for look in looks.values())  # yellow on white
    assert plots.looks(["kaod"])["kaod"] == plots.looks(["fcos", "kpl-hm"])["kpl-hm"] == looks["kpl-hm"]
    assert plots.looks(["kpl-hm-long"])["kpl-hm-long"] == looks["kpl-hm"]
    both = plots.looks(["fcos", "fcos-long"])
    assert both["fcos"] == looks["fcos"] != both["fcos-long"]
    few = plots.looks(["fcos", "faster-rcnn"])
    assert few["faster-rcnn"]["color"] != few["fcos"]["color"]
    axes, = plots.curves({"kaod": {0: 0.1, 9: 0.2}, "fcos": {0: 0.1, 9: 0.2}}, "").axes
    assert [line.get_color() for line in axes.lines] == [looks[name]["color"] for name in ("kpl-hm", "fcos")]
    plt.close("all")


def test_class_counts_sizes_and_the_table_of_a_data_set():
    sets = {"training": [sample([(0, 0, 10, 40), (0, 0, 20, 20)], [1, 2]), sample([(0, 0, 20, 20)], [2])],
            "test": [sample([(0, 0, 10, 10)], [1], ignore=[True])]}
    axes, = data_plots.class_counts(sets, ["a", "b"]).axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "b"]
    assert labels(axes) == ["1", "2", "1", "0"]
    axes, = data_plots.object_sizes(sets).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["training: median 20 px",
                                                                           "test: median 10 px"]
    assert data_plots.data_table(sets).splitlines()[2:] == ["| training | 2 | 3 | 0 | 1.50 |",
                                                            "| test | 1 | 1 | 1 | 1.00 |"]
    plt.close("all")


def test_versions_of_a_photo_are_titled_and_objects_named(drawn):
    samples, classes = drawn
    figure = data_plots.versions({"st": samples[:2], "rt": samples[2:4]}, classes)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["-st: as it is", "", "-rt: rotated", ""]
    assert said(figure) == ["labelled box", "true outline", "ignored object"]
    assert labels(figure.axes[0]) == [classes[label - 1] for label in samples[0].labels]
    assert np.asarray(figure.axes[0].images[0].get_array()).shape == (128, 128, 3)
    plt.close("all")


def test_logs_are_running_means_and_models_without_keypoints_are_not_in_the_gauge():
    log = [{"step": i, "classification": float(i), "spread": 0.5} for i in range(1, 41)]
    figure = plots.gauge({"fcos": [{"step": 1, "classification": 1.0}], "kaod": log}, even=0.56)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert lines.keys() == {"kaod", "evenly on the box's outline: 0.56", "collapsed: 0"}
    assert np.allclose(lines["kaod"].get_ydata(), 0.5)
    line = plots.losses({"kaod": log}).axes[0].lines[0]
    assert line.get_xdata()[0] == 20 and np.isclose(line.get_ydata()[0], 10.5)  # the mean of 1 to 20
    plt.close("all")


def test_keypoints_follow_their_object_whatever_its_class_and_are_grey_without_one():
    points = ring((50, 40), 20)
    first = {"keypoints": points[None], "labels": np.array([1]), "boxes": np.array([[30.0, 20, 70, 60]])}
    T = geometry.rigid(torch.tensor(30.0).double(), torch.tensor([5.0, 0]).double(), torch.tensor([50.0, 50]).double())
    moved = geometry.transform(T, torch.from_numpy(points)).numpy()
    second = {"keypoints": np.stack((moved[::-1], moved + 60)), "labels": np.array([2, 1]),
              "boxes": np.stack([[*each.min(0), *each.max(0)] for each in (moved, moved + 60)])}
    found = plots.follow(first, second, T)
    assert np.allclose(found["keypoints"][0], moved) and np.array_equal(found["keypoints"][1], moved + 60)
    assert found["followed"].tolist() == [True, False]
    assert not plots.follow(first | {"keypoints": points[:0].reshape(0, 16, 2)}, second, T)["followed"].any()
    twice = {key: np.stack((value[0], value[0])) for key, value in second.items()}
    assert plots.follow(first, twice, T)["followed"].sum() == 1  # one partner, one follower
    figure, axes = plt.subplots()
    plots.keypoints(axes, found)
    coloured, grey = (len(np.unique(dots.get_facecolor(), axis=0)) for dots in axes.collections)
    assert coloured == 16 and grey == 1
    plt.close(figure)


def found_in(size) -> dict:
    """One detection, with keypoints, at the top of a photo."""
    points = ring((size[0] / 2, size[1] / 4), size[1] / 4, 8)
    return {"boxes": np.array([[*points.min(0), *points.max(0)]]), "labels": np.array([1]), "scores": np.array([0.9]),
            "keypoints": points[None], "rotated_boxes": None}


def test_pictures_say_what_is_drawn_and_names_stand_over_the_points():
    found = found_in((100, 80))
    boxes_only = {key: found[key] for key in ("boxes", "labels", "scores")}
    image = Image.new("RGB", (100, 80))
    assert said(plots.picture(image, boxes_only, ["a"])) == ["upright box"]
    figure = plots.picture(image, found, ["a"])
    assert said(figure) == ["upright box", *plots.FROM_POINTS]
    assert said(plots.pair({"one": image, "two": image}, [boxes_only, found], ["a"])) == said(figure)
    text, = figure.axes[0].texts
    assert text.get_text() == "a 0.90"
    assert text.get_zorder() > max(each.get_zorder() for each in figure.axes[0].collections)
    figure.draw_without_rendering()
    top = text.get_window_extent().y1
    assert top <= figure.axes[0].get_window_extent().y1 + 1  # the box begins at the photo's edge
    plt.close("all")


@pytest.mark.parametrize("size, drawn", [((100, 80), (480, 384)), ((600, 400), (600, 400)), ((4000, 3000), (1280, 960)),
                                         ((300, 2560), (150, 1280))])
def test_a_picture_is_as_large_as_letters_can_be_read_on(tmp_path, size, drawn):
    plots.save(plots.picture(Image.new("RGB", size), found_in(size), ["a"]), tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.size == (drawn[0], drawn[1] + 26)  # and a legend
    plt.close("all")


def test_before_and_after_and_strips_have_a_legend(drawn):
    samples, classes = drawn
    still = np.array([[1.0, 0, 0], [0, 1, 0]])
    columns = {"kaod": [found_in((128, 128)), found_in((128, 128))]}
    figure = plots.before_and_after([(samples[0], samples[1])], columns, [still], classes)
    assert said(figure.subfigs[-1]) == ["labelled box", "true outline", "upright box", *plots.FROM_POINTS]
    figure = plots.strip(samples[0], {"0 steps": {0: ring((64, 64), 20)}}, classes)
    assert said(figure) == ["labelled box", *plots.FROM_POINTS]
    assert said(plots.contact_sheet(samples, "title")) == ["labelled box", "true outline", "ignored object"]
    plt.close("all")


def test_the_tolerances_that_are_marked():
    axes, = plots.tolerance_curve({0: 16, 0.01: 12}, {"here": 0, "for masks": 0.0085}, "title").axes
    assert [line.get_label() for line in axes.lines[1:]] == ["here: 0 %", "for masks: 0.85 %"]
    plt.close("all")
