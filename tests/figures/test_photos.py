import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import ring
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from PIL import Image

from kaod.data import labelled
from kaod.figures import charts, photos


def labels(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def said(figure) -> list[str]:
    """The figure's legend, in words."""
    legend, = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_versions_of_a_photo_are_titled_and_objects_named(drawn):
    samples, classes = drawn
    figure = photos.grid([("-st: as it is", [(sample, None) for sample in samples[:2]]),
                          ("-rt: rotated", [(sample, None) for sample in samples[2:4]])], classes)
    assert [axes.get_ylabel() for axes in figure.axes] == ["-st: as it is", "", "-rt: rotated", ""]
    assert said(figure) == ["labelled box", "true outline", "ignored object"]
    assert labels(figure.axes[0]) == [classes[label - 1] for label in samples[0].labels]
    assert np.asarray(figure.axes[0].images[0].get_array()).shape == (128, 128, 3)
    plt.close("all")


def test_a_keypoints_colour_is_its_place_in_the_list():
    _, axes = plt.subplots()
    photos.keypoints(axes, {"keypoints": np.stack((ring((50, 40), 20), ring((20, 20), 9)[::-1])), "labels": [1, 2]})
    first, second = (dots.get_facecolor() for dots in axes.collections)
    assert np.array_equal(first, second) and len(np.unique(first, axis=0)) == 16
    plt.close("all")


def found_in(size) -> dict:
    """One detection, with keypoints, at the top of a photo."""
    points = ring((size[0] / 2, size[1] / 4), size[1] / 4, 8)
    return {"boxes": np.array([[*points.min(0), *points.max(0)]]), "labels": np.array([1]), "scores": np.array([0.9]),
            "keypoints": points[None], "rotated_boxes": None}


def test_pictures_say_what_is_drawn_and_names_stand_over_the_points():
    found = found_in((100, 80))
    boxes_only = {key: found[key] for key in ("boxes", "labels", "scores")}
    image = Image.new("RGB", (100, 80))
    assert said(photos.picture([image], [boxes_only], ["a"])) == ["upright box"]
    figure = photos.picture([image], [found], ["a"])
    assert said(figure) == ["upright box", *photos.FROM_POINTS]
    assert said(photos.picture([image, image], [boxes_only, found], ["a"])) == said(figure)
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
    charts.save(photos.picture([Image.new("RGB", size)], [found_in(size)], ["a"]), tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.size == (drawn[0], drawn[1] + 26)  # and a legend
    plt.close("all")


@pytest.fixture
def font(tmp_path):
    """A font with one letter, 猫: a square."""
    pen = TTGlyphPen(None)
    for place in ("moveTo", "lineTo", "lineTo", "lineTo"):
        getattr(pen, place)({0: (0, 0), 1: (0, 900), 2: (900, 900), 3: (900, 0)}[len(pen.points)])
    pen.closePath()
    builder = FontBuilder(1000)
    builder.setupGlyphOrder([".notdef", "cat"])
    builder.setupCharacterMap({ord("猫"): "cat"})
    builder.setupGlyf({name: pen.glyph() for name in (".notdef", "cat")})
    builder.setupHorizontalMetrics({name: (1000, 0) for name in (".notdef", "cat")})
    builder.setupHorizontalHeader(ascent=900, descent=0)
    builder.setupNameTable({"familyName": "Cats", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "cats.ttf")
    return tmp_path / "cats.ttf"


def test_names_of_classes_are_legible_in_any_script(font, monkeypatch, recwarn):
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [
        each for each in font_manager.fontManager.ttflist if each.name == "DejaVu Sans"])
    charts.font_of.cache_clear()
    with plt.rc_context():
        found = found_in((100, 80))
        assert [charts.legible(name) for name in ("cat", "größe", "кошка", "قطة", "$a^$")] == [
            "cat", "größe", "кошка", "قطة", r"\$a^\$"] and not recwarn
        with pytest.warns(UserWarning, match="no installed font has '猫'"):
            figure = photos.picture([Image.new("RGB", (100, 80))], [found], ["猫 $^$"])
        assert labels(figure.axes[0]) == [r"\u732b \$^\$ 0.90"]
        font_manager.fontManager.addfont(font)
        charts.font_of.cache_clear()
        figure = photos.picture([Image.new("RGB", (100, 80))], [found], ["猫 $^$"])
        assert labels(figure.axes[0]) == [r"猫 \$^\$ 0.90"]
        figure.draw_without_rendering()
    assert not recwarn  # matplotlib warns of a letter that it cannot draw
    charts.font_of.cache_clear()


def test_grids_and_strips_have_a_legend(drawn):
    samples, classes = drawn
    rows = [(title, [(sample, None), (sample, found_in((128, 128)))])
            for title, sample in zip(("as it is", "turned"), samples)]
    figure = photos.grid(rows, classes, ["ground truth", "kaod"])
    assert [axes.get_title() for axes in figure.axes] == ["ground truth", "kaod", "", ""]
    assert said(figure) == ["labelled box", "true outline", "upright box", *photos.FROM_POINTS]
    figure = photos.strip(samples[0], {"0 steps": {0: ring((64, 64), 20)}}, classes)
    assert said(figure) == ["labelled box", *photos.FROM_POINTS]
    plt.close("all")


def test_the_sheet_has_a_row_for_each_kind_and_names_in_any_script(drawn):
    samples, _ = drawn
    objects = [(sample, labelled.Object(0, 1, sample.boxes[0].astype(float), score=0.5)) for sample in samples[:3]]
    figure = photos.sheet({"surest": objects, "least sure": objects[:1]}, ["a $ b $"])
    assert [axes.get_title() for axes in figure.axes] == [r"a \$ b \$ 0.50"] * 4 + [""] * 2
    assert [axes.get_ylabel() for axes in figure.axes] == ["surest", "", "", "least sure", "", ""]
    assert said(figure) == ["labelled box", "rotated box", "hull (mask)"]
    figure.draw_without_rendering()
    box, (left, right), (bottom, top) = samples[0].boxes[0], figure.axes[0].get_xlim(), figure.axes[0].get_ylim()
    assert left < box[0] < box[2] < right and top < box[1] < box[3] < bottom
    plt.close("all")
