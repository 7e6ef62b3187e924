from dataclasses import replace

import numpy as np
import pytest

from kaod import params
from kaod.data import datasets, files, shapes, vertices


def test_the_same_seed_draws_the_same_bytes(tmp_path, tiny):
    draw = replace(tiny[0].draw, train=3, test=2)
    for name in ("a", "b"):
        shapes.write(tmp_path / name, draw, ["s/train", "s/test"])
    written = [{path.relative_to(tmp_path / name): files.digest(path) for path in (tmp_path / name).rglob("*.*")}
               for name in ("a", "b")]
    assert written[0] == written[1] and len(written[0]) == 5 * 4 + 4
    shapes.write(tmp_path / "c", replace(draw, seed=1), ["s/train", "s/test"])
    assert files.digest(tmp_path / "c/s/JPEGImages/000000.jpg") != files.digest(tmp_path / "a/s/JPEGImages/000000.jpg")


def test_masks_and_polygons_agree(drawn):
    samples, _ = drawn
    for each in samples:
        seen = vertices.outlines(each.path.parents[1] / "SegmentationObject" / f"{each.name}.png")
        assert list(seen) == list(range(1, len(each.labels) + 1))
        for outline, parts, box in zip(seen.values(), each.polygons, each.boxes):
            drawn_area = datasets.polygon(parts)
            assert outline.difference(drawn_area.buffer(1.5)).area == 0  # nothing outside the polygon
            assert outline.area > 0.5 * drawn_area.area  # and at least half of it is seen
            assert drawn_area.bounds == pytest.approx(box, abs=0.02)
            assert 0 <= box.min() and box.max() <= 128


def test_the_classes_lead_to_sixteen_keypoints():
    counts = [len(outline) for outline in shapes.OUTLINES.values()]
    assert len(counts) >= 6 and len(set(counts)) == len(counts)
    assert vertices.choose_k(np.median(counts)) == 16
    assert list(shapes.OUTLINES) == sorted(shapes.OUTLINES)


def test_two_levels_get_their_share_of_positive_locations(tmp_path):
    """At least 15 % each, by FCOS's own matching on 60 photos."""
    import torch

    from kaod import model

    profile, models = params.load("shapes")
    shapes.write(tmp_path, replace(profile.draw, train=60, test=1), profile.train_sets + profile.test_sets)
    photos = datasets.Photos(datasets.read_voc(tmp_path, profile.train_sets[0], list(shapes.OUTLINES)))
    detector = model.build(profile.model, profile.keypoints, replace(models["kaod"], kpl=False), 7, 8).train()
    found = []
    inherited = detector.matched_losses
    detector.matched_losses = lambda *given: found.append(inherited(*given)) or found[-1]
    images, targets = datasets.collate([photos[i] for i in range(60)])
    with torch.no_grad():
        detector([image.float() / 255 for image in images], targets)
    _, (_, location, _) = found[0]
    positive = location.bincount(minlength=341)
    shares = torch.stack([each.sum() for each in positive.split([256, 64, 16, 4, 1])]) / positive.sum()
    assert (shares >= 0.15).sum() >= 2, shares
