import matplotlib.pyplot as plt
import numpy as np
import torch
from conftest import ring, sample

from kaod import data_plots, geometry, plots


def labels(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


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
    figure, axes = plt.subplots()
    plots.keypoints(axes, found)
    coloured, grey = (len(np.unique(dots.get_facecolor(), axis=0)) for dots in axes.collections)
    assert coloured == 16 and grey == 1
    plt.close(figure)
