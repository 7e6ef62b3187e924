import pickle
from pathlib import Path

import pytest
import torch
from conftest import built

from kaod.data import datasets
from kaod.training import checkpoints


def test_a_trained_detector_comes_back(tiny, tmp_path):
    detector, profile = built(*tiny, "kaod", 7, 8)
    detector.eval()
    path = tmp_path / "model.pt"
    dataset = datasets.DataSet(list("abcdefg"), [1, 2, 3, 5, 8, 13, 21], [])
    path.write_bytes(checkpoints.to_bytes(detector, profile, dataset, 8))
    again, *names = checkpoints.load(path)
    assert names == [dataset.classes, dataset.category_ids]
    images = [torch.rand(3, 128, 128)]
    detector.score_thresh = again.score_thresh = 0.0
    assert torch.equal(detector(images)[0]["keypoints"], again(images)[0]["keypoints"])
    whole, saved = path.read_bytes(), torch.load(path)
    for content in (b"no checkpoint", b"", whole[:-999], pickle.dumps({"weights": Path("code that would run")})):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="model.pt: not a checkpoint of this version of kaod .a broken file, or"):
            checkpoints.load(path)
    for content, message in ((torch.zeros(3), "it holds a Tensor"), ({"classes": []}, "it lacks 'model'"),
                             (saved | {"weights": {}}, "Error.* in loading state_dict")):
        torch.save(content, path)
        with pytest.raises(ValueError, match=f"model.pt: not a checkpoint of this version of kaod .{message}") as error:
            checkpoints.load(path)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="none.pt"):
        checkpoints.load(tmp_path / "none.pt")


def test_the_last_checkpoints_are_kept(tmp_path):
    weights = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(weights.parameters(), 0.1)
    run, log = checkpoints.Run(tmp_path, "run"), []
    for step in (8, 9, 10, 11):
        log.append({"step": step, "loss": 1 / step, "lr": 0.1 ** step})
        run.save(weights, optimizer, log)
    assert [path.name[5:12] for path in run.steps()] == ["0000011", "0000010"]
    again = run.resume(weights, optimizer)
    assert again == log and type(again[0]["step"]) is int  # the log comes back exactly
    assert checkpoints.Run(tmp_path, "other").resume(weights, optimizer) == [] and not run.steps()
