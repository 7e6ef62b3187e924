from dataclasses import replace

import numpy as np
import pytest
import shapely
import torch
from conftest import as_command, sample
from layouts import read_coco, write_coco, write_voc
from PIL import Image

from kaod import geometry, params
from kaod.data import coco, datasets, download, files, warp
from kaod.evaluation import outlines

SETTINGS = params.load("tiny")[0].warp


@pytest.mark.parametrize("size", [(100, 100), (101, 77), (50, 200)])
@pytest.mark.parametrize("kind", [*warp.KINDS, "turn-90", "turn+45"])
def test_no_empty_border(size, kind):
    """Every pixel of the new photo comes from inside the old one."""
    for seed in range(20):
        T, (width, height) = warp.draw_map(kind, size, np.random.default_rng(seed), SETTINGS)
        frame = torch.tensor([0.0, 0, width, height], dtype=torch.float64)
        source = geometry.transform(geometry.inverse(T), geometry.corners(frame))
        assert source.min() > -1e-6 and (source <= torch.tensor(size).double() + 1e-6).all()


def test_a_shift_copies_pixels():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (77, 101, 3), np.uint8))
    for seed in range(5):
        T, (width, height) = warp.draw_map("tr", image.size, np.random.default_rng(seed), SETTINGS)
        left, top = (-T[:, 2]).round().int().tolist()
        expected = np.asarray(image)[top:top + height, left:left + width]
        assert (np.asarray(warp.warp_image(image, T, (width, height))) == expected).all()


@pytest.mark.parametrize("kind", ["turn+30", "turn+45", "turn-60"])
def test_the_last_digits_of_a_map_change_no_pixel(kind):
    """They differ from processor to processor, and many a pixel of a photo turned by 45° lies halfway between two."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 2, (65, 65, 3), np.uint8) * 255)
    T, size = warp.draw_map(kind, image.size, np.random.default_rng(0), SETTINGS)
    for seed in range(5):
        other = T * (1 + 1e-14 * torch.randn(2, 3, generator=torch.manual_seed(seed)).double())
        assert not torch.equal(other, T)
        assert warp.warp_image(image, other, size).tobytes() == warp.warp_image(image, T, size).tobytes()


def test_a_crop_without_a_turn_interpolates_between_four_pixels():
    """As a turned photo does, so that -rt beside -cr is the turn alone."""
    pixels = np.random.default_rng(0).integers(0, 256, (77, 101, 3), np.uint8)
    for seed in range(5):
        T, (width, height) = warp.draw_map("cr", (101, 77), np.random.default_rng(seed), SETTINGS)
        assert torch.equal(T[:, :2], torch.eye(2).double())
        (left, x), (top, y) = [divmod(-each, 1) for each in T[:, 2].tolist()]
        part = pixels[int(top):int(top) + height + 1, int(left):int(left) + width + 1].astype(float)
        across = (1 - x) * part[:, :-1] + x * part[:, 1:]
        expected = (1 - y) * across[:-1] + y * across[1:]
        found = np.asarray(warp.warp_image(Image.fromarray(pixels), T, (width, height)))
        assert np.abs(found - expected).max() < 0.501


def test_the_crop_moves_by_fractions_of_a_pixel_that_are_spread_evenly():
    moves = []
    for seed in range(200):
        T, size = warp.draw_map("cr", (101, 77), np.random.default_rng(seed), SETTINGS)
        moves.append(T[:, 2].numpy() + (np.array((101, 77)) - size) / 2)
    moves = np.array(moves)
    moves = moves[moves.any(1)]  # a turn by nearly nothing may leave no margin
    assert len(moves) > 190 and moves.min() >= 0 and moves.max() < 1
    assert np.abs(np.sort(moves, 0) - np.linspace(0, 1, len(moves))[:, None]).max() < 0.15  # Kolmogorov and Smirnov
    assert abs(np.corrcoef(moves.T)[0, 1]) < 0.2


def test_what_a_crop_draws_leaves_the_turn_and_the_shift_as_they_were():
    """These take the generator's first three numbers, so that the committed sets stay as they are."""
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        angle, (dx, dy) = rng.uniform(-30, 30), rng.uniform(-0.2, 0.2, 2)
        T, size = warp.draw_map("rt", (200, 100), np.random.default_rng(seed), SETTINGS)
        whole = torch.tensor([200.0, 100.0]).double()
        margin = (whole - torch.tensor(size)) / 2
        assert torch.equal(T, geometry.rigid(torch.tensor(angle, dtype=torch.float64), -margin, whole / 2))
        assert np.degrees(np.arctan2(T[1, 0].item(), T[0, 0].item())) == pytest.approx(angle)
        _, size = warp.draw_map("tr", (200, 100), np.random.default_rng(seed), SETTINGS)
        assert size == (200 - abs(round(200 * dx)), 100 - abs(round(100 * dy)))


@pytest.mark.parametrize("size", [(200, 100), (90, 160)])
def test_a_quarter_turn_moves_every_pixel_to_its_place(size):
    """Of a photo that is not square, so that the new one is taller or wider than the old."""
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    for kind, turns in (("turn+90", -1), ("turn-90", 1)):
        T, new = warp.draw_map(kind, size, None, SETTINGS)
        assert new == size[::-1]
        turned = np.asarray(warp.warp_image(Image.fromarray(pixels), T, new))
        assert np.abs(turned.astype(int) - np.rot90(pixels, turns)).max() <= 1
    for angle in warp.ANGLES:
        T, new = warp.draw_map(warp.turned(angle), size, None, SETTINGS)
        assert warp.warp_image(Image.fromarray(pixels), T, new).size == new


def test_rt_and_cr_are_the_same_size():
    for seed in range(10):
        sizes = [warp.draw_map(kind, (90, 70), np.random.default_rng(seed), SETTINGS)[1] for kind in ("rt", "cr")]
        assert sizes[0] == sizes[1]


def test_no_angle_no_shift_and_no_crop_give_the_source():
    still = replace(SETTINGS, angle=0.0, shift=0.0)
    given = sample([(10, 20, 30, 40), (50.5, 0, 100, 80)], [1, 2], [False, True], (100, 80),
                   [[np.array([[10, 20], [30, 20], [20, 40.0]])], []])
    for kind in warp.KINDS:
        T, size = warp.draw_map(kind, given.size, np.random.default_rng(0), still)
        assert size == given.size and warp.warp_sample(given, T, size, 0.25) is given
    T, size = warp.draw_map("turn+0", given.size, None, SETTINGS)
    assert warp.warp_sample(given, T, size, 0.25) is given


def test_outlines_move_with_their_pixels():
    """A drawn disc, warped as a picture and as a polygon."""
    ys, xs = np.mgrid[:120, :160] + 0.5
    disc = ((xs - 95) ** 2 / 400 + (ys - 50) ** 2 / 900) < 1
    turn = np.linspace(0, 2 * np.pi, 100, endpoint=False)
    outline = np.stack((95 + 20 * np.cos(turn), 50 + 30 * np.sin(turn)), 1)
    given = sample([(75, 20, 115, 80)], [1], size=(160, 120), polygons=[[outline]])
    T, (width, height) = warp.draw_map("rt", given.size, np.random.default_rng(1), SETTINGS)
    moved = warp.warp_sample(given, T, (width, height), 0.25)
    picture = np.asarray(warp.warp_image(Image.fromarray(np.repeat(disc[..., None] * np.uint8(255), 3, 2)), T,
                                         (width, height)))[..., 0] > 127
    rows, columns = np.nonzero(picture)
    box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert moved.boxes[0] == pytest.approx(box, abs=1)
    assert shapely.Polygon(moved.polygons[0][0]).area == pytest.approx(picture.sum(), rel=0.02)


def test_objects_that_mostly_left_are_ignored_and_others_dropped():
    given = sample([(0, 0, 20, 20), (0, 40, 40, 60), (60, 60, 80, 80)], [1, 2, 3])
    T = torch.tensor([[1, 0, -18], [0, 1, 0]], dtype=torch.float64)
    moved = warp.warp_sample(given, T, (50, 100), 0.25)
    assert moved.labels.tolist() == [1, 2, 3] and moved.ignore.tolist() == [True, False, False]
    assert moved.boxes[0] == pytest.approx([0, 0, 2, 20])
    for gone, ignored in ((15.2, True), (14.8, False)):  # of 20 columns: a quarter are 5
        T[0, 2] = -gone
        assert warp.warp_sample(given, T, (50, 100), 0.25).ignore[0] == ignored
    T[0, 2] = -25
    assert warp.warp_sample(given, T, (50, 100), 0.25).labels.tolist() == [2, 3]


def test_outlines_that_touch_the_frame_leave_only_areas_behind():
    """A U of which one end runs along the frame, and a triangle that stands on it beside a part that is inside: lines
    and points belong to no box."""
    u = np.array([(10, 10), (100, 10), (100, 60), (50, 60), (50, 50), (90, 50), (90, 20), (20, 20), (20, 50), (10, 50)])
    triangle, square = np.array([(10, 10), (30, 10), (20, 50)]), np.array([(60, 60), (80, 60), (80, 80), (60, 80)])
    given = sample([(10, 10, 100, 60), (10, 10, 80, 80)], [1, 2], size=(120, 100), polygons=[[u], [triangle, square]])
    lower_half = torch.tensor([[1, 0, 0], [0, 1, -50]], dtype=torch.float64)
    moved = warp.warp_sample(given, lower_half, (120, 50), 0.25)
    assert moved.boxes.tolist() == [[50, 0, 100, 10], [60, 10, 80, 30]]
    assert [len(parts) for parts in moved.polygons] == [1, 1] and not moved.ignore.any()


@pytest.mark.parametrize("kind", ["rt", "tr", "turn+90"])
def test_a_crowds_mask_moves_as_a_mask(tmp_path, kind):
    """What is ignored stays the mask, hole and all, with the box of what is left of it."""
    mask = np.zeros((80, 120), bool)
    mask[30:70, 20:60] = mask[10:20, 90:118] = True
    mask[40:60, 30:50] = False
    given = replace(sample([(40, 40, 60, 60), (20, 10, 118, 70)], [2, 1], [False, True], (120, 80)),
                    crowds={1: coco.encode(mask)})
    T, size = warp.draw_map(kind, given.size, np.random.default_rng(3), SETTINGS)
    moved = warp.warp_sample(given, T, size, 0.25)
    found = coco.decode(moved.crowds[1], size)
    picture = np.repeat(mask[..., None] * np.uint8(255), 3, 2)
    expected = np.asarray(warp.warp_image(Image.fromarray(picture), T, size))[..., 0] > 127
    assert (found != expected).sum() < 0.01 * expected.sum() and moved.ignore[1] and not moved.polygons[1]
    rows, columns = np.nonzero(found)
    assert moved.boxes[1] == pytest.approx([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], abs=1)
    name = "annotations/instances_x.json"
    write_coco(tmp_path, name, datasets.DataSet(["a", "b"], [1, 2], [moved]))
    (again,) = read_coco(tmp_path, name, [1, 2])
    assert again.crowds == moved.crowds and again.ignore.tolist() == [False, True]


def test_a_crowd_that_left_takes_its_mask_along():
    mask = np.zeros((80, 120), bool)
    mask[:10, :10] = True
    given = replace(sample([(0, 0, 10, 10), (60, 40, 80, 60)], [1, 1], [True, False], (120, 80)),
                    crowds={0: coco.encode(mask)})
    moved = warp.warp_sample(given, torch.tensor([[1, 0, -20], [0, 1, 0]]).double(), (100, 80), 0.25)
    assert moved.labels.tolist() == [1] and moved.crowds == {} and not moved.ignore.any()


def test_a_missing_manifest_is_one_line(repository, monkeypatch):
    assert as_command(monkeypatch, "kaod.data.warp").startswith(
        f"kaod.data.warp: {repository}/datasets/shapes/sets/annotations-instances_test.json: no such file")


def test_without_outlines_the_box_is_that_of_the_turned_corners():
    given = sample([(40, 40, 60, 60)], [1])
    T = geometry.rigid(torch.tensor(45.0).double(), torch.zeros(2).double(), torch.tensor([50.0, 50.0]).double())
    (box,) = warp.warp_sample(given, T, (100, 100), 0.25).boxes
    assert box == pytest.approx(50 + 10 * np.sqrt(2) * np.array([-1, -1, 1, 1]), abs=1e-3)


@pytest.fixture
def users(tmp_path, repository, drawn):
    """A function that checks a user's test set in a layout, and returns the profile."""
    samples, classes = drawn

    def make(layout: str, samples=samples):
        images = [each.image() for each in drawn[0]]
        images = [image.crop((0, 0, *each.size)) for image, each in zip(images, samples)]
        name = "s/test" if layout == "voc" else "annotations/instances_x.json"
        if layout == "voc":
            write_voc(tmp_path / "own", name, samples, images, classes)
        else:
            write_coco(tmp_path / "own", name, datasets.DataSet(classes, list(range(1, 8)), samples), images)
        profile = replace(params.load("tiny")[0], layout=layout, root=str(tmp_path / "own"), train_sets=[name],
                          test_sets=[name], draw=None)
        download.check(profile)
        return profile

    return make


@pytest.mark.parametrize("layout", ["voc", "coco"])
def test_warped_sets_are_the_same_bytes_each_time(users, drawn, layout):
    samples = [warp.warp_sample(each, torch.eye(2, 3).double(), (128, 90), 0.25) for each in drawn[0]]  # not square
    profile = users(layout, samples)
    for kind in ("rt", "cr", "tr", "turn+75"):
        digests = []
        for _ in range(2):
            warp.write(profile, kind, profile.runs / "warped")
            root = profile.runs / "warped"
            digests.append({path.relative_to(root): files.digest(path) for path in root.rglob(f"{kind}*/*.*")}
                           | {kind: files.digest(root / f"{kind}.json")})
        count = profile.warp.sweep if kind == "turn+75" else len(samples)
        assert digests[0] == digests[1] and len(digests[0]) == count + 2  # photos, maps.json, the annotations
        again = warp.test_set(profile, kind)
        assert len(again.samples) == count
        assert any(any(each.polygons) for each in again.samples) == (layout == "coco")
        ids = [str(each.id) for each in warp.test_set(profile, "st").samples[:count]]
        assert list(files.read_json(root / kind / "maps.json")) == sorted(ids)
        assert [str(each.id) for each in again.samples] == ids
        for each in again.samples:
            each.image()  # readable, and of the annotated size


def test_each_photo_and_each_seed_has_maps_of_its_own(users):
    profile, maps = users("coco"), []
    for seed in (0, 1):
        warp.write(replace(profile, warp=replace(SETTINGS, seed=seed)), "rt", profile.runs / "warped")
        maps += files.read_json(profile.runs / "warped" / "rt" / "maps.json").values()
    assert len({str(each) for each in maps}) == 16


def test_without_outlines_there_is_a_second_set_of_ellipses(users, monkeypatch):
    """Boxes alone, as in VOC: the same photos with tighter boxes, and COCO files of all sets."""
    profile = users("voc")
    monkeypatch.setattr(params, "load", lambda: (profile, {}))
    warp.main()
    found = {kind: warp.test_set(profile, kind) for kind in warp.available(profile)}
    assert list(found) == ["st", "rt", "cr", "tr", "rt-ellipse", *map(warp.turned, warp.ANGLES)]
    for loose, tight in zip(found["rt"].samples, found["rt-ellipse"].samples, strict=True):
        assert (loose.labels == tight.labels).all() and (np.asarray(loose.image()) == np.asarray(tight.image())).all()
        wider = loose.boxes - tight.boxes
        assert (wider[:, :2] <= 0.01).all() and (wider[:, 2:] >= -0.01).all() and np.abs(wider).max() > 0.5
    assert outlines.ground_truth(found["rt"].samples, "rt") == "corners"
    assert outlines.ground_truth(found["rt-ellipse"].samples, "rt-ellipse") == "ellipses"
    for kind, dataset in found.items():
        content = files.read_json(profile.runs / "warped" / f"{kind}.json")
        assert [item["id"] for item in content["images"]] == [each.id for each in dataset.samples]
        root = profile.data if kind == "st" else profile.runs / "warped" / kind.removesuffix("-ellipse")
        assert all((root / item["file_name"]).is_file() for item in content["images"])


def test_photos_of_one_name_keep_apart(tmp_path, drawn, repository):
    """As cameras number them, each in its own folder."""
    samples, classes = drawn
    root, name = tmp_path / "own", "annotations/instances_x.json"
    twins = [replace(each, path=root / "x" / str(number) / "photo.jpg", id=number + 7)
             for number, each in enumerate(samples)]
    for each, twin in zip(samples, twins):
        twin.path.parent.mkdir(parents=True)
        twin.path.write_bytes(each.path.read_bytes())
    coco.write(root / name, datasets.DataSet(classes, list(range(1, 8)), twins), root / "x")
    profile = replace(params.load("tiny")[0], root=str(root), train_sets=[name], test_sets=[name], draw=None,
                      warp=replace(SETTINGS, angle=0.0, shift=0.0))
    download.check(profile)
    warp.write(profile, "tr", profile.runs / "warped")
    again = warp.test_set(profile, "tr").samples
    assert [each.id for each in again] == [each.id for each in twins]
    assert files.read_json(profile.runs / "warped/tr/maps.json").keys() == {str(each.id) for each in twins}
    assert len({each.path for each in again}) == len({each.path for each in warp.test_set(profile, "st").samples}) == 8
    for old, new in zip(samples, again):
        assert np.abs(np.asarray(new.image(), float) - np.asarray(old.image(), float)).mean() < 10
