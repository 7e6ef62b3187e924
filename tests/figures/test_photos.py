import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from conftest import ring
from PIL import Image

from kaod import geometry
from kaod.figures import charts, photos


def labels(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def said(figure) -> list[str]:
    """The figure's legend, in words."""
    legend, = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_versions_of_a_photo_are_titled_and_objects_named(drawn):
    samples, classes = drawn
    figure = photos.versions({"st": samples[:2], "rt": samples[2:4]}, classes)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["-st: as it is", "", "-rt: rotated", ""]
    assert said(figure) == ["labelled box", "true outline", "ignored object"]
    assert labels(figure.axes[0]) == [classes[label - 1] for label in samples[0].labels]
    assert np.asarray(figure.axes[0].images[0].get_array()).shape == (128, 128, 3)
    plt.close("all")


def test_keypoints_follow_their_object_whatever_its_class_and_are_grey_without_one():
    points = ring((50, 40), 20)
    first = {"keypoints": points[None], "labels": np.array([1]), "boxes": np.array([[30.0, 20, 70, 60]])}
    T = geometry.rigid(torch.tensor(30.0).double(), torch.tensor([5.0, 0]).double(), torch.tensor([50.0, 50]).double())
    moved = geometry.transform(T, torch.from_numpy(points)).numpy()
    second = {"keypoints": np.stack((moved[::-1], moved + 60)), "labels": np.array([2, 1]),
              "boxes": np.stack([[*each.min(0), *each.max(0)] for each in (moved, moved + 60)])}
    found = photos.follow(first, second, T)
    assert np.allclose(found["keypoints"][0], moved) and np.array_equal(found["keypoints"][1], moved + 60)
    assert found["followed"].tolist() == [True, False]
    assert not photos.follow(first | {"keypoints": points[:0].reshape(0, 16, 2)}, second, T)["followed"].any()
    twice = {key: np.stack((value[0], value[0])) for key, value in second.items()}
    assert photos.follow(first, twice, T)["followed"].sum() == 1  # one partner, one follower
    figure, axes = plt.subplots()
    photos.keypoints(axes, found)
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
    assert said(photos.picture(image, boxes_only, ["a"])) == ["upright box"]
    figure = photos.picture(image, found, ["a"])
    assert said(figure) == ["upright box", *photos.FROM_POINTS]
    assert said(photos.pair({"one": image, "two": image}, [boxes_only, found], ["a"])) == said(figure)
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
    charts.save(photos.picture(Image.new("RGB", size), found_in(size), ["a"]), tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.size == (drawn[0], drawn[1] + 26)  # and a legend
    plt.close("all")


def test_before_and_after_and_strips_have_a_legend(drawn):
    samples, classes = drawn
    still = np.array([[1.0, 0, 0], [0, 1, 0]])
    columns = {"kaod": [found_in((128, 128)), found_in((128, 128))]}
    figure = photos.before_and_after([(samples[0], samples[1])], columns, [still], classes)
    assert said(figure.subfigs[-1]) == ["labelled box", "true outline", "upright box", *photos.FROM_POINTS]
    figure = photos.strip(samples[0], {"0 steps": {0: ring((64, 64), 20)}}, classes)
    assert said(figure) == ["labelled box", *photos.FROM_POINTS]
    plt.close("all")
