import numpy as np
import torch
from conftest import ring

from kaod import predict


def test_every_output_follows_from_the_keypoints():
    points = np.stack((ring((50, 40), 20), np.full((16, 2), 7.0), ring((2, 40), 20)))
    found = {"boxes": np.zeros((3, 4)), "scores": np.ones(3), "labels": np.ones(3, int), "keypoints": points}
    told = predict.describe(found, (100, 80))
    assert told["rotated_corners"].shape == (3, 4, 2) and told["rotated_boxes"].shape == (3, 5)
    assert told["masks"].shape == (3, 80, 100) and told["masks"].sum((1, 2)).tolist()[1] == 0
    assert 0 < told["masks"][2].sum() < told["masks"][0].sum()  # cut at the image's border
    assert np.allclose(told["rotated_boxes"][0, :2], (50, 40))
    assert np.allclose(told["rotated_boxes"][1], (7, 7, 0, 0, 0))


def test_without_three_keypoints_there_is_no_rotated_box():
    found = {"boxes": np.zeros((1, 4)), "scores": np.ones(1), "labels": np.ones(1, int)}
    assert predict.describe(found, (100, 80)) == found
    two = found | {"keypoints": np.array([[(0, 0), (9, 9.0)]])}
    assert predict.describe(two, (100, 80)).keys() == two.keys()


def test_keypoints_are_in_the_photos_own_pixels(tiny):
    """A photo of twice the size is resized to the same input, and its boxes and keypoints come back twice as large."""
    from kaod import model

    profile, models = tiny
    detector = model.build(profile.model, profile.keypoints, models["kaod"], 7, 8).eval()
    detector.score_thresh = 0.0
    small = torch.rand(3, 64, 64)
    large = small.repeat_interleave(2, 1).repeat_interleave(2, 2)
    detector.transform.min_size, detector.transform.max_size = (64,), 64
    ours, twice = detector([small, large])
    best = {name: each["keypoints"][each["scores"].argmax()] for name, each in (("1", ours), ("2", twice))}
    assert best["1"].shape == (8, 2) and twice["boxes"].max() <= 128 and ours["boxes"].max() <= 64
    assert torch.allclose(twice["keypoints"].amax() / ours["keypoints"].amax(), torch.tensor(2.0), rtol=0.1)
