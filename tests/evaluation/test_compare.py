import json
import math

import pytest

from kaod import params
from kaod.data import files
from kaod.evaluation import compare

KINDS = ("st", "rt", "cr", "tr")


def metrics(value, **others):
    return {f"AP50-{kind}": value for kind in KINDS} | {"hull": None} | others


def test_differences_above_the_tolerance_are_named():
    table, off, largest = compare.compare({"fcos": metrics(0.5), "kaod": metrics(0.6)},
                                          {"fcos": metrics(0.52), "kaod": metrics(0.52)})
    assert off == [f"kaod AP50-{kind}: 0.6000, committed 0.5200" for kind in KINDS]
    assert "0.500 (0.520)" in table and table.splitlines()[1].startswith("fcos")
    assert largest == pytest.approx(0.08)


def test_only_what_differs_has_the_committed_figure_beside_it():
    table, off, largest = compare.compare({"kaod": metrics(0.5, hull=0.6, rectangle=0.7)},
                                          {"kaod": metrics(0.5, hull=0.8, rectangle=0.7)})
    assert table.count("(") == 1 and "0.600 (0.800)" in table and off == []  # only an AP50 can be too far off
    assert largest == pytest.approx(0.2)


def test_nothing_committed_is_no_difference():
    table, off, largest = compare.compare({"new": metrics(0.5)}, {})
    assert off == [] and "(" not in table and math.isnan(largest)
    table, off, _ = compare.compare({"new": metrics(0.5), "old": metrics(0.5)}, {"old": metrics(0.4)})
    assert "old" in off[0] and len(off) == 4 and table.count("(") == 4


@pytest.fixture
def committed(repository, monkeypatch):
    """Runs compare.main on made-up figures of the pipeline's models; git says what it is told to."""
    def run(before, changed=""):
        profile, models = params.load()
        for name in models:
            files.write_json(profile.results / "metrics" / f"{name}.json", metrics(0.5))
        said = {"show": json.dumps(before), "status": changed}
        monkeypatch.setattr(compare, "git", lambda command, *_: said[command])
        compare.main()

    return run


def test_the_last_word_says_where_to_look_next(committed, capsys):
    committed(metrics(0.5))
    said = capsys.readouterr().out
    assert "they are the committed ones" in said
    assert "runs/shapes/report/index.html" in said and "jupyter lab notebooks/06-explore.ipynb" in said
    assert "python -m kaod.predict runs/shapes/kaod/model.pt" in said
    committed(metrics(0.501))
    said = capsys.readouterr().out
    assert "another processor" in said and "`git restore dvc.lock results`" in said


def test_far_off_figures_fail_unless_an_input_changed(committed, capsys):
    with pytest.raises(SystemExit, match="fcos AP50-st: 0.5000, committed 0.6000"):
        committed(metrics(0.6))
    committed(metrics(0.6), " M params.yaml")
    assert "settings, data or code differ from the last commit" in capsys.readouterr().out
