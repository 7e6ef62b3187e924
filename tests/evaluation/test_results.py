import re
from dataclasses import replace

import numpy as np
import pytest
from conftest import found, ring, sample

from kaod.data import coco, datasets, files
from kaod.evaluation import results

DATASET = datasets.DataSet(["a", "b"], [3, 90], [replace(sample([], []), id=7), replace(sample([], []), id=11)])
DETECTIONS = [found([(1.234, 2, 30.5, 40), (5, 5, 9, 9)], [2, 1], [0.9, 0.25]) | {
    "keypoints": np.stack((ring((50, 50), 20), ring((30, 20), 7)))},
    found([], [], []) | {"keypoints": np.zeros((0, 16, 2))}]


def test_there_and_back(tmp_path):
    path = tmp_path / "deep" / "st.json"
    results.write(path, results.all_rows(DETECTIONS, DATASET))
    again = results.read(path, DATASET)
    for old, new in zip(DETECTIONS, again, strict=True):
        assert new["boxes"] == pytest.approx(old["boxes"], abs=0.011) and new["scores"] == pytest.approx(old["scores"])
        assert (new["labels"] == old["labels"]).all() and new["keypoints"].shape == old["keypoints"].shape
        assert new["keypoints"] == pytest.approx(old["keypoints"], abs=0.006)
    results.write(tmp_path / "again.json", results.all_rows(again, DATASET))
    assert files.digest(tmp_path / "again.json") == files.digest(path)  # nothing is rounded twice
    assert files.read_json(path)[0]["category_id"] == 90 and files.read_json(path)[0]["image_id"] == 7


def test_the_best_come_first_and_other_keys_are_left_alone():
    given = [{"image_id": 11, "category_id": 3, "bbox": [0, 0, 5, 5], "score": 0.2, "file_name": "x.jpg"},
             {"image_id": 11, "category_id": 90, "bbox": [1, 2, 3, 4], "score": 0.8}]
    nothing, both = results.from_rows(given, DATASET)
    assert both["labels"].tolist() == [2, 1] and both["boxes"][0].tolist() == [1, 2, 4, 6]
    assert "keypoints" not in both and nothing["boxes"].shape == (0, 4)
    assert [len(each["scores"]) for each in results.from_rows([], DATASET)] == [0, 0]


@pytest.mark.parametrize("change, message", [
    ({"image_id": 8}, "the image_id of a photo of this test set"), ({"category_id": 1}, "a category_id of 3, 90"),
    ({"bbox": [1, 2, -3, 4]}, "a bbox"), ({"bbox": [1, 2, 3]}, "a bbox"), ({"score": None}, "a score"),
    ({"score": float("nan")}, "a score"), ({"keypoints": [1, 2, 2]}, "16 keypoints"),
    ({"keypoints": None}, "16 keypoints"),
    ({"image_id": [7]}, "the image_id"), ({"bbox": [1, 2, 3, 10 ** 400]}, "a bbox"), ({"score": 1e300}, "a score")])
def test_a_wrong_row_is_named(tmp_path, change, message):
    wrong = results.all_rows(DETECTIONS, DATASET)
    wrong[1] |= change
    path = tmp_path / "rt.json"
    results.write(path, wrong)
    with pytest.raises(ValueError, match=f"rt.json: row 2: expected {message}"):
        results.read(path, DATASET)


BOX, CORNERS = [30, 20, 10, 4, 90], [32, 15, 32, 25, 28, 25, 28, 15]


@pytest.mark.parametrize("key, value", [("rotated_box", BOX), ("corners", CORNERS)])
def test_rotated_boxes_in_either_form(key, value):
    """Best first, as all that a row has; a photo without detections has none, of the right shape."""
    given = [row | {key: numbers, "bbox": [27, 15, 6, 10]} for row, numbers in zip(
        results.all_rows(DETECTIONS, DATASET), ([1.0] * len(value), value))]
    given[1]["score"] = 0.95
    full, empty = results.from_rows(given, DATASET)
    assert full["rotated_corners"].shape == (2, 4, 2) and empty["rotated_corners"].shape == (0, 4, 2)
    assert full["rotated_corners"][0] == pytest.approx(np.reshape(CORNERS, (4, 2)))
    assert "rotated_corners" not in results.from_rows(results.all_rows(DETECTIONS, DATASET), DATASET)[0]
    without = [row | {key: None} for row in results.all_rows(DETECTIONS, DATASET)]
    assert "rotated_corners" not in results.from_rows(without, DATASET)[0]


@pytest.mark.parametrize("first, change, message", [
    ({"rotated_box": BOX}, {"rotated_box": BOX[:4]}, "rotated_box [x, y, width, height, angle], as in row 1"),
    ({"rotated_box": BOX}, {"rotated_box": [1, 2, -3, 4, 5]}, "rotated_box [x, y"),
    ({"rotated_box": BOX}, {"rotated_box": [1, 2, 3, 4, float("nan")]}, "rotated_box [x, y"),
    ({"rotated_box": BOX}, {"corners": CORNERS}, "rotated_box [x, y"),
    ({"rotated_box": BOX}, {}, "rotated_box [x, y"),
    ({"corners": CORNERS}, {"corners": [[32, 15], [32, 25], [28, 25], [28, 15]]}, "corners [x1, y1, x2, y2, x3"),
    ({"corners": CORNERS}, {"corners": [1e6] * 8}, "corners [x1"),
    ({"corners": CORNERS}, {"rotated_box": BOX}, "corners [x1"),
    ({}, {"corners": CORNERS}, "neither rotated_box nor corners, as in row 1")])
def test_a_wrong_rotated_box_is_named(first, change, message):
    given = [row | more for row, more in zip(results.all_rows(DETECTIONS, DATASET), (first, change))]
    with pytest.raises(ValueError, match=f"results: row 2: expected {re.escape(message)}"):
        results.from_rows(given, DATASET)


def test_a_file_that_is_no_list_is_named(tmp_path):
    (tmp_path / "st.json").write_text("{}")
    with pytest.raises(ValueError, match="st.json: expected a list of detections"):
        results.read(tmp_path / "st.json", DATASET)
    with pytest.raises(FileNotFoundError, match="tr.json"):
        results.read(tmp_path / "tr.json", DATASET)


def test_photos_may_be_numbered_from_zero():
    dataset = replace(DATASET, samples=[replace(sample([], []), id=number) for number in range(3)])
    given = [{"image_id": number, "category_id": 3, "bbox": [number, 0, 5, 5], "score": 0.5} for number in range(3)]
    assert [each["boxes"][0, 0] for each in results.from_rows(given, dataset)] == [0, 1, 2]
    assert [image["id"] for image in coco.to_coco(dataset)["images"]] == [0, 1, 2]


def test_background_is_not_reported_as_the_last_class():
    """Label 0, which an untrained model gives, has no category."""
    found_too = found([(1, 2, 3, 4), (5, 5, 9, 9), (0, 0, 9, 9)], [0, 1, 2], [0.9, 0.8, 0.7]) | {
        "keypoints": np.stack((ring((50, 50), 20), ring((30, 20), 7), ring((9, 9), 3)))}
    given = results.to_rows(found_too, 7, DATASET.category_ids)
    assert [row["category_id"] for row in given] == [3, 90] and [row["score"] for row in given] == [0.8, 0.7]
    assert given[0]["keypoints"][:2] == [37, 20]
    assert results.to_rows(found([(1, 2, 3, 4)], [0], [0.9]), 7, DATASET.category_ids) == []
