"""The exported network finds what the detector finds."""

import io
import re
import subprocess
import sys

import pytest
import torch
from conftest import as_command, built
from torchvision.ops import batched_nms

from kaod import ROOT, export, predict
from kaod.data import datasets, files
from kaod.training import checkpoints


def checkpoint(folder, tiny, samples, classes, name: str):
    """A detector that finds something, without a training: the bias that keeps first scores low is taken away."""
    detector, profile = built(*tiny, name, len(classes), 16)
    torch.nn.init.normal_(detector.head.classification_head.cls_logits.weight, std=0.2)
    files.write_bytes(folder / "model.pt", checkpoints.to_bytes(
        detector, profile, datasets.DataSet(classes, [], []), 16))
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
        foreground = each["labels"] > 0  # an untrained network finds background, too
        each = {key: value[foreground] for key, value in each.items()}
        location, label = (scores[number] > detector.score_thresh).nonzero(as_tuple=True)
        found = scores[number][location, label]
        kept = batched_nms(boxes[number][location], found, label, detector.nms_thresh)[:len(each["scores"])]
        assert len(kept) == len(each["scores"]) > 0
        torch.testing.assert_close(found[kept], each["scores"])
        torch.testing.assert_close(boxes[number][location[kept]], each["boxes"])
        assert torch.equal(label[kept] + 1, each["labels"])
        if points:
            torch.testing.assert_close(points[0][number][location[kept]], each["keypoints"])


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
        assert re.fullmatch("kaod.export: .+", as_command(monkeypatch, "kaod.export", source, "x.pt2"))
