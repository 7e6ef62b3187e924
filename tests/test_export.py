"""The exported network finds what the detector finds."""

import io
import json
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import as_command, built
from torchvision.ops import batched_nms

from kaod import ROOT, export, predict
from kaod.data import datasets, files
from kaod.training import checkpoints


def checkpoint(folder, tiny, samples, classes, name: str):
    """A detector that finds something, and no background, without a training: weights outdo the bias of low scores."""
    detector, profile = built(*tiny, name, len(classes), 16)
    logits = detector.head.classification_head.cls_logits
    torch.nn.init.normal_(logits.weight, std=0.2)
    torch.nn.init.constant_(logits.bias[:1], -50)
    category_ids = [10 * number for number in range(len(classes))]
    files.write_bytes(folder / "model.pt", checkpoints.to_bytes(
        detector, profile, datasets.DataSet(classes, category_ids, []), 16))
    return folder / "model.pt"


@pytest.mark.parametrize("name", ["fcos", "kaod"])
def test_exported_and_suppressed_it_finds_what_the_detector_finds(tmp_path, tiny, drawn, name):
    samples, classes = drawn
    path = checkpoint(tmp_path, tiny, samples, classes, name)
    content, size = export.to_bytes(path)
    network = torch.export.load(io.BytesIO(content)).module()
    photos = torch.stack([predict.read(sample.image()) for sample in samples[:3]])  # 128 × 128: no resizing
    assert size == tuple(photos.shape[2:])
    detector, _, _ = checkpoints.load(path)
    with torch.inference_mode():
        wanted = detector(list(photos))
        boxes, scores, *points = network(photos)
    for number, each in enumerate(wanted):
        assert each["labels"].all()
        location, label = (scores[number] > detector.score_thresh).nonzero(as_tuple=True)
        found = scores[number][location, label]
        kept = batched_nms(boxes[number][location], found, label, detector.nms_thresh)[:len(each["scores"])]
        assert len(kept) == len(each["scores"]) > 0
        torch.testing.assert_close(found[kept], each["scores"])
        torch.testing.assert_close(boxes[number][location[kept]], each["boxes"])
        assert torch.equal(label[kept] + 1, each["labels"])
        if points:
            torch.testing.assert_close(points[0][number][location[kept]], each["keypoints"])


@pytest.mark.parametrize("name", [pytest.param("fcos", marks=pytest.mark.slow), "kaod"])
def test_in_onnx_it_finds_what_the_detector_finds_in_photos_of_any_size(tmp_path, tiny, drawn, name, monkeypatch):
    onnxruntime, _ = pytest.importorskip("onnxruntime"), pytest.importorskip("onnxscript")
    (samples, classes), (profile, models) = drawn, tiny
    small = replace(profile.model, backbone="resnet10", fpn_channels=32, head_convs=1, min_size=120, max_size=250)
    path = checkpoint(tmp_path, (replace(profile, model=small), models), samples, classes, name)
    predictor = predict.Predictor(path)
    predictor.detector.topk_candidates = 20  # so few that it matters
    monkeypatch.setattr(checkpoints, "load", lambda path: (
        predictor.detector, predictor.classes, predictor.category_ids))
    monkeypatch.setattr("sys.argv", ["export", str(path), str(tmp_path / "kaod.onnx"), "--onnx"])
    export.main()
    assert str(ROOT).encode() not in (tmp_path / "kaod.onnx").read_bytes()  # torch notes where each node is from
    session = onnxruntime.InferenceSession(tmp_path / "kaod.onnx", providers=["CPUExecutionProvider"])
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["classes"]) == classes and json.loads(about["category_ids"])[:3] == [0, 10, 20]
    drawings = torch.stack([predict.read(sample.image()) for sample in samples[:3]])
    wide = torch.nn.functional.interpolate(drawings[:1], (80, 186), mode="bilinear")
    for photos in (drawings, wide):  # one size becomes 120 × 120, the other 107 × 249: by float32 it would be 250
        found = dict(zip([each.name for each in session.get_outputs()], session.run(None, {"photos": photos.numpy()})))
        wanted = predictor.predict(photos, least=0)
        assert len(wanted) == len(photos) and all(len(values) == len(photos) for values in found.values())
        assert (np.diff(found["scores"]) <= 0).all() and ("keypoints" in found) == (name == "kaod")
        for number, each in enumerate(wanted):
            count = len(each["scores"])
            assert 10 < count < 100 and not found["scores"][number, count:].any()
            np.testing.assert_allclose(found["scores"][number, :count], each["scores"], atol=1e-3)
            apart = sum(abs(values[number, :count, None] - each[key]).reshape(count, count, -1).max(2)
                        for key, values in found.items())
            assert apart.min(0).max() < 0.05 and apart.min(1).max() < 0.05  # scores that are equal may change places


def test_without_the_extra_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ValueError, match=r"^--onnx needs more packages: pip install .*'\.\[onnx\]'$"):
        export.to_onnx(tmp_path / "model.pt")


def test_the_command_writes_a_file_with_the_classes_and_names_a_bad_checkpoint(tmp_path, tiny, drawn, monkeypatch):
    samples, classes = drawn
    path = checkpoint(tmp_path, tiny, samples, classes, "kaod")
    command = [sys.executable, "-m", "kaod.export"]
    done = subprocess.run([*command, path, tmp_path / "kaod.pt2"], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == f"{tmp_path / 'kaod.pt2'}: takes photos (N, 3, 128, 128), from 0 to 1\n", done.stderr
    extra = {"classes.json": ""}
    torch.export.load(tmp_path / "kaod.pt2", extra_files=extra)
    assert extra["classes.json"] == '["' + '", "'.join(classes) + '"]'
    for source in (tmp_path / "gone.pt", tmp_path):  # no file, and a folder
        for target in (["x.pt2"], ["x.onnx", "--onnx"]):
            assert re.fullmatch("kaod.export: .+", as_command(monkeypatch, "kaod.export", source, *target))
