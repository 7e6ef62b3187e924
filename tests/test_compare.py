from kaod.evaluation import compare


def metrics(value):
    return {kind: {"AP50": value} for kind in ("st", "rt", "cr", "tr")}


def test_differences_above_the_tolerance_are_named():
    table, off = compare.compare({"fcos": metrics(0.5), "kaod": metrics(0.6)},
                                 {"fcos": metrics(0.52), "kaod": metrics(0.52)}, 0.05)
    assert off == [f"kaod -{kind}: 0.6000, committed 0.5200" for kind in ("st", "rt", "cr", "tr")]
    assert "0.5000 (0.5200)" in table and table.splitlines()[1].startswith("fcos")


def test_nothing_committed_is_no_difference():
    table, off = compare.compare({"new": metrics(0.5)}, {})
    assert off == [] and "(" not in table
