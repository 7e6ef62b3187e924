import matplotlib.pyplot as plt
import numpy as np
import torch

from kaod import geometry, losses
from kaod.figures import charts, idea, photos

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
