from dataclasses import replace

import numpy as np
import pytest
import shapely
import torch
from conftest import built
from PIL import Image

from kaod import geometry, params
from kaod.data import coco, datasets, files, shapes, vertices


def test_the_same_seed_draws_the_same_bytes(tmp_path, tiny):
    draw = replace(tiny[0].draw, train=3, test=2)
    sets = ["annotations/instances_a.json", "annotations/instances_b.json"]
    for name in ("a", "b"):
        shapes.write(tmp_path / name, draw, sets)
    written = [{path.relative_to(tmp_path / name): files.digest(path) for path in (tmp_path / name).rglob("*.*")}
               for name in ("a", "b")]
    assert written[0] == written[1] and len(written[0]) == 5 + 2
    shapes.write(tmp_path / "c", replace(draw, seed=1), sets)
    assert files.digest(tmp_path / "c/a/000000.jpg") != files.digest(tmp_path / "a/a/000000.jpg")


def test_outlines_are_those_of_the_pixels(monkeypatch):
    """White objects on black: what is white is what the outlines cover."""
    monkeypatch.setattr(shapes, "_colour", lambda rng, *_, **__: np.zeros(3))
    for seed in range(8):
        seen = iter(["black"] + 20 * ["white"])
        monkeypatch.setattr(shapes, "_texture", lambda rng, size, colour, seen=seen: Image.new(
            "RGB", (size * shapes.SCALE,) * 2, next(seen)))
        image, labels, outlines = shapes.draw(np.random.default_rng(seed), 128)
        white = np.asarray(image.convert("L")) > 127
        ys, xs = np.mgrid[:128, :128] + 0.5
        covered = shapely.contains_xy(geometry.polygon([points for points in outlines]), xs, ys)
        assert len(labels) == len(outlines) > 0 and (white != covered).sum() < 0.05 * covered.sum() + 20


def test_boxes_are_those_of_the_outlines(drawn):
    for each in drawn[0]:
        for parts, box in zip(each.polygons, each.boxes):
            assert geometry.polygon(parts).bounds == pytest.approx(box, abs=0.02)
            assert 0 <= box.min() and box.max() <= 128


def test_the_classes_lead_to_sixteen_keypoints():
    counts = [len(outline) for outline in shapes.OUTLINES.values()]
    assert len(counts) >= 6 and len(set(counts)) == len(counts)
    assert vertices.choose_k(np.median(counts)) == 16
    assert list(shapes.OUTLINES) == sorted(shapes.OUTLINES)


def test_two_levels_get_their_share_of_positive_locations(tmp_path):
    """At least 15 % each, by FCOS's own matching on 60 photos."""
    profile, models = params.load("shapes")
    shapes.write(tmp_path, replace(profile.draw, train=60, test=1), profile.train_sets + profile.test_sets)
    name = profile.train_sets[0]
    photos = datasets.Photos(coco.load(tmp_path / name, coco.photo_folder(tmp_path, name)).samples)
    detector = built(profile, models, "kaod-paper", 7, 8)[0].train()
    found = []
    inherited = detector.matched_losses
    detector.matched_losses = lambda *given: found.append(inherited(*given)) or found[-1]
    images, targets = datasets.collate([photos[i] for i in range(60)])
    with torch.no_grad():
        detector([image.float() / 255 for image in images], targets)
    positive = found[0][1].location.bincount(minlength=341)
    shares = torch.stack([each.sum() for each in positive.split([256, 64, 16, 4, 1])]) / positive.sum()
    assert (shares >= 0.15).sum() >= 2, shares
