import matplotlib.pyplot as plt
import numpy as np
import pytest
import shapely
import torch

from kaod import geometry, losses, params
from kaod.figures import charts, idea, photos
from kaod.training import augment

IMAGE, CORNERS = idea.photo(236)
P = idea.on_outline(CORNERS, 8)
T = geometry.rigid(*(torch.tensor(each, dtype=torch.float64) for each in (25.0, (12.0, -8.0), (128.0, 128.0))))
PLACE = geometry.enclosing(P).unflatten(0, (2, 2)).mean(0)


def test_points_lie_on_the_outline_at_equal_distances():
    square = np.array([(0, 0), (4, 0), (4, 4), (0, 4)], float)
    assert idea.on_outline(square, 8).tolist() == [
        [0, 0], [2, 0], [4, 0], [4, 2], [4, 4], [2, 4], [0, 4], [0, 2]]


def test_the_second_list_is_the_first_in_another_order_and_matching_finds_it():
    back = geometry.transform(geometry.inverse(T), idea.second_list(P, T, noise=0))
    assert not torch.allclose(back, P, atol=1)
    assert losses.matched_costs(P[None], back[None], False, 0.1).mean() > 10
    assert losses.matched_costs(P[None], back[None], True, 0.1).mean() < 1e-6


def test_the_soft_box_grows_to_the_points_with_sharpness_and_shares_sum_to_one():
    hard = geometry.enclosing(P)
    off = [(idea.soft_box(P, PLACE, 13.0, sharpness) - hard).abs().max() for sharpness in (0.5, 2, 8, 100)]
    assert off == sorted(off, reverse=True) and off[-1] < 1e-3
    assert torch.isclose(idea.shares(P, PLACE, 13.0, 0.5).sum(), torch.tensor(1.0).double())


def test_shares_are_coloured_as_they_are_below_zero_and_above_one():
    figure = idea.soft_boxes(IMAGE, P, PLACE, 13.0, (0.5, 2))
    found = [idea.shares(P, PLACE, 13.0, sharpness) for sharpness in (0.5, 2)]
    assert min(map(torch.min, found)) < 0 and max(map(torch.max, found)) > 1
    for axes, share in zip(figure.axes, found):
        points, = axes.collections
        assert points.get_clim() == (min(map(torch.min, found)).item(), max(map(torch.max, found)).item())
        assert [text.get_text() for text in axes.texts] == [f"{share.max():.2f}", f"{share.min():.2f}"]
    plt.close("all")


def test_the_first_picture_fits_the_readme_and_shows_all_there_is():
    charts.style()
    figure = idea.idea(16)
    width, height = figure.get_size_inches() * figure.dpi
    assert width <= 880 and height <= 330
    legend, = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["labelled box", *photos.FROM_POINTS]
    assert [sum(len(each.get_offsets()) for each in axes.collections) for axes in figure.axes] == [0, 16, 16]
    plt.rcdefaults()
    plt.close("all")


def test_the_second_view_by_no_motion_is_the_photo():
    still = torch.tensor([[1.0, 0, 0], [0, 1, 0]]).double()
    assert np.array_equal(np.asarray(idea.view(IMAGE, still)), np.asarray(IMAGE))


def test_the_pictures_state_the_figures_that_the_package_computes():
    figure = idea.two_views(IMAGE, P, idea.second_list(P, T, noise=0), T, PLACE)
    assert figure.axes[3].get_title() == "mapped back, matched: loss 0.000"
    far = torch.tensor([[1.0, 0, 300], [0, 1, 0]]).double()
    figure = idea.masks(IMAGE, P, PLACE, {"turned": T, "gone": far})
    assert [axes.get_title().rsplit(": ")[-1] for axes in figure.axes] == ["m = 1", "m = 0"]
    figure = idea.for_free(IMAGE, CORNERS, 16, (0, 90))
    said = [axes.get_xlabel() for axes in figure.axes]
    assert said[0] == said[1] != ""  # a quarter turn changes no IoU
    plt.close("all")


OUTLINE = torch.from_numpy(CORNERS)
LABEL = geometry.enclosing(OUTLINE)


def drawn(axes):
    """The boxes' corners (4, 2) that a panel shows, without the black below them, and its points (K, 2)."""
    points, = axes.collections
    return [torch.from_numpy(patch.get_xy()[:4]) for patch in axes.patches[1::2]], torch.from_numpy(
        np.asarray(points.get_offsets()))


def iou(first, second):
    first, second = (shapely.Polygon(ring.numpy()) for ring in (first, second))
    return first.intersection(second).area / first.union(second).area


@pytest.mark.parametrize("angle", [-40, 25])
def test_the_boxes_of_a_turned_copy_are_those_of_training_and_the_true_one_that_of_the_outline(angle):
    T = idea.motion(IMAGE, angle)
    corners, ellipse, true = idea.turned_boxes(CORNERS, T).values()
    assert torch.equal(true, geometry.enclosing(geometry.transform(T, OUTLINE)))
    assert (corners[:2] <= true[:2]).all() and (corners[2:] >= true[2:]).all()
    assert (corners[2:] - corners[:2] > ellipse[2:] - ellipse[:2]).all()


@pytest.mark.parametrize("kind", ["corners", "ellipse"])
def test_the_guesses_for_a_turned_copy_are_what_training_on_turned_copies_takes(kind, monkeypatch):
    T = idea.motion(IMAGE, 25)
    monkeypatch.setattr(geometry, "random_rigid", lambda *_: T[None])
    target = {"boxes": LABEL[None], "labels": torch.tensor([1])}
    settings, _ = params.load("tiny")
    _, copied = augment.turned_copy(torch.zeros(3, 256, 256).double(), target, settings.keypoints, kind)
    named, = (box for words, box in idea.turned_boxes(CORNERS, T).items() if kind in words)
    assert torch.allclose(copied["boxes"][0], named)


def test_keypoints_turned_back_have_the_labelled_box_and_come_from_where_training_has_them():
    figure = idea.labels_turned_back(IMAGE, CORNERS, OUTLINE, 25)
    (_, _, _), P_T = drawn(figure.axes[0])
    (label,), back = drawn(figure.axes[1])
    T = idea.motion(IMAGE, 25)
    for axes, photo in zip(figure.axes, (idea.view(IMAGE, T, "mean"), IMAGE)):
        assert np.array_equal(axes.images[0].get_array(), np.asarray(photo))
    assert torch.allclose(P_T, geometry.transform(T, OUTLINE)) and not torch.allclose(P_T, back, atol=5)
    assert torch.allclose(label, geometry.corners(LABEL)) and torch.allclose(geometry.enclosing(back), LABEL)
    anchor = torch.tensor([[90.0, 110, 106, 126]]).double()  # 16 pixels, around a location of the copy
    offsets = (P_T - geometry.centers(anchor)) / 16
    offsets, anchors = losses.turned_back(offsets[None, None], anchor, T[None], torch.tensor([[256, 256]]))
    assert torch.allclose(geometry.centers(anchors[0]) + 16 * offsets[0, 0], back)
    plt.close("all")


def test_the_legend_states_the_ious_of_the_boxes_as_they_are_drawn():
    figure = idea.labels_turned_back(IMAGE, CORNERS, OUTLINE, 25)
    (*guesses, true), P_T = drawn(figure.axes[0])
    assert torch.allclose(true, geometry.corners(geometry.enclosing(P_T)))
    legend, = figure.legends
    said = [text.get_text() for text in legend.get_texts()]
    assert [float(words.rsplit(" ")[-1]) for words in said[:2]] == [round(iou(each, true), 2) for each in guesses]
    assert said[2:] == ["true box, of the turned outline", "boxes on other axes", "labelled box", "keypoints"]
    plt.close("all")


def test_boxes_on_all_axes_touch_the_keypoints_and_the_label_is_one_of_them():
    figure = idea.labels_turned_back(IMAGE, CORNERS, OUTLINE, 25, others=(-25, 0))
    (*others, label), P_T = drawn(figure.axes[2])
    assert torch.allclose(label, idea.on_axes(P_T, 25)) and len(others) == 2
    for ring in (*others, label):
        sides = [shapely.LineString(side) for side in zip(ring.tolist(), ring.roll(-1, 0).tolist())]
        assert shapely.Polygon(ring.numpy()).buffer(1e-6).covers(shapely.MultiPoint(P_T.numpy()))
        assert max(side.distance(shapely.MultiPoint(P_T.numpy())) for side in sides) < 1e-6
        across = ring[1] - ring[0]
        assert any(np.isclose(torch.rad2deg(torch.atan2(across[1], across[0])), turn) for turn in (-25, 0, 25))
    plt.close("all")
