import matplotlib.pyplot as plt
import pytest

from experiments import charts, tables
from kaod import params

FRAME = tables.load(params.load("shapes")[0])


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def labels(axes):
    return [tick.get_text() for tick in axes.get_yticklabels()]


def models(figure):
    return list(FRAME[FRAME["figure"] == figure]["model"].unique())


def test_nothing_is_drawn_where_nothing_ran():
    nothing = tables.frame([], [])
    assert charts.dots(nothing, {"AP50-st": "x"}) is charts.curves(nothing, "AP50-turn") is None
    assert charts.spreads(nothing, 0.5) is None and charts.dots(FRAME, {"other": "x"}) is None
    assert not plt.get_fignums()


def test_charts_show_all_runs():
    axes, = charts.spreads(FRAME, even=0.56).axes
    assert len(axes.texts) == (FRAME["figure"] == "spread").sum() > 0
    axes, = charts.dots(FRAME, {"hull": "hull", "box": "box"}).axes
    assert labels(axes) == list(FRAME[FRAME["figure"].isin(["hull", "box"])]["model"].unique())
    assert [len(line.get_xdata()) for line in axes.lines if line.get_marker() == "|"][0] == (
        FRAME["figure"] == "hull").sum()
    axes, = charts.curves(FRAME, "AP50-turn").axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == models("AP50-turn+30")


def test_seeds_and_means_stand_at_their_values():
    cost = tables.turning(FRAME[FRAME["model"] == "fcos"])
    axes, = charts.dots(cost, {"AP50-rt": "AP50"}, zero=True).axes
    assert labels(axes) == ["fcos"]
    seeds, mean = (line.get_xdata() for line in axes.lines[:2])
    assert list(seeds) == pytest.approx(list(cost[cost["figure"] == "AP50-rt"]["value"])) and len(seeds) == 3
    assert list(mean) == pytest.approx([seeds.mean()])


def test_by_angle_a_model_is_compared_with_each_rival():
    axes, = charts.by_angle(FRAME, "kaod-long", ["fcos-long", "fcos-turned-long"]).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["fcos-long", "fcos-turned-long"]
    means = tables.means(tables.differences(FRAME, "fcos-turned-long"))["mean"]
    last = [bars.lines[0].get_ydata()[-1] for bars in axes.containers]
    assert last[1] == means["kaod-long", "AP50-turn+90"] and last[0] > last[1]
    assert charts.by_angle(FRAME[FRAME["model"] == "fcos"], "kaod", ["fcos"]) is None


def test_a_curve_goes_from_the_least_number_to_the_greatest():
    axes, = charts.curves(FRAME[FRAME["model"] == "kaod-paper"], "AP50-turn").axes
    line = axes.lines[0]
    assert list(line.get_xdata()) == list(range(-90, 91, 15))
    means = tables.means(FRAME)["mean"]
    assert line.get_ydata()[-1] == means["kaod-paper", "AP50-turn+90"]
    assert line.get_ydata()[0] == means["kaod-paper", "AP50-turn-90"]
