"""Single values of users' files, and what a user reads of one that is wrong: in each reader, at each key."""

import copy
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from layouts import read_coco

from kaod.data import coco, fields, files, voc


@pytest.mark.parametrize("value", [96, 96.0, "96", "96.0", " 96 ", "9.6e1"])
def test_one_number_however_it_is_written(value):
    found = fields.whole(value, "width")
    assert found == 96 and isinstance(found, int) and fields.number(value, "width") == 96


@pytest.mark.parametrize("value", [None, "", "wide", "96 px", True, [96], {"px": 96}, np.nan, "nan", np.inf, "1e999",
                                   10 ** 400, "9" * 5000])
def test_what_is_no_number_is_named_with_its_key(value):
    for read in (fields.number, fields.whole):
        with pytest.raises(ValueError, match="^width is .*; expected a (finite|whole) number$") as error:
            read(value, "width")
        assert len(str(error.value)) < 140


def test_numbers_that_are_out_of_bounds_are_refused():
    for value in (95.5, "95.5"):
        assert fields.number(value, "width") == 95.5
        with pytest.raises(ValueError, match=f"width is {value!r}; expected a whole number"):
            fields.whole(value, "width")
    with pytest.raises(ValueError, match="width is 0; expected at least 1"):
        fields.whole(0, "width", "at least 1", 1)
    assert fields.numbers([1, "2", 3.5], "bbox").tolist() == [1, 2, 3.5]
    for value in ([1, 2], [1, 2, None], [1, 2, [3]], [[1, 2, 3]], "123", {"0": 1}, None, [1, 2, np.nan]):
        with pytest.raises(ValueError, match="^bbox is .*; expected three"):
            fields.numbers(value, "bbox", "three", 3)


def test_flags_names_ids_and_paths():
    assert [fields.flag(each, "difficult") for each in (0, 1, "0", "1", 1.0, True, False, None, "")] == [
        False, True, False, True, True, True, False, False, False]
    assert fields.text(" a cat ", "name") == "a cat" and fields.text("猫　1", "name") == "猫　1"
    assert [fields.identity(each, "id") for each in (3, 3.0, "3", "a/b")] == [3, 3, "3", "a/b"]
    assert [fields.path(each, "key") for each in ("a.jpg", "cam1/a.jpg", "./a.jpg", "cam1\\a.jpg", "a..b.jpg")] == [
        "a.jpg", "cam1/a.jpg", "a.jpg", "cam1/a.jpg", "a..b.jpg"]
    for read, values in ((fields.flag, (2, "yes", [1])), (fields.text, ("", " ", "a\nb", "a\0", "\ud800", 3, None)),
                         (fields.identity, ("", 1.5, None, True, [1])),
                         (fields.path, ("../a.jpg", "cam1/../../a.jpg", "/a.jpg", "..\\a.jpg", "", None))):
        for value in values:
            with pytest.raises(ValueError, match="^key is (.|\n)*; expected "):
                read(value, "key")


PYTHONS = re.compile(r"NoneType|object has no|argument|codec|convert|subscriptable|hashable|iterable|invalid literal|"
                     r"array|operand|not supported|Error|Expecting|unpack|ordinal|embedded|digits|recursion")
"""Words of Python's own texts, which no user is to read."""


def check_lines(lines: list[str], folder, key: str) -> None:
    """Each line names a file in the folder, and the key or what is made of it."""
    for line in lines:
        assert line.startswith(f"{folder}/") and "\n" not in line and len(line) < 900
        said = line.replace(str(folder), "")
        assert re.search(key, said) and not PYTHONS.search(said), line


def places(value, place=()):
    """The place of each value in nested lists and objects, as keys and indices, from the outermost on."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*place, key)
        yield from places(inner, (*place, key))


COCO = {
    "images": [{"id": 1, "file_name": "a.jpg", "width": 50, "height": 40},
               {"id": 2, "file_name": "b.jpg", "width": 50, "height": 40}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 3, "bbox": [10, 5, 30, 20], "area": 9, "iscrowd": 0, "difficult": 0,
         "segmentation": [[10, 5, 40, 5, 40, 25]]},
        {"id": 2, "image_id": 2, "category_id": 4, "bbox": [10, 5, 30, 20],
         "segmentation": {"size": [40, 50], "counts": [405, 20, 1575]}},
        {"id": 3, "image_id": 2, "category_id": 4, "bbox": [10, 5, 30, 20], "iscrowd": 1,
         "segmentation": coco.encode(np.eye(40, 50, dtype=bool))}],
    "categories": [{"id": 3, "name": "cat", "supercategory": "animal"}, {"id": 4, "name": "dog"}]}
MISSING = object()
VALUES = [MISSING, None, "", "moon", -3, 10 ** 400, float("nan"), float("inf"), 1.5, True, [], [1], {}, {"a": 1}]
ALSO = {  # what else a message may say in place of a key
    "bbox": "its box", "segmentation": "its run-length mask", "id": "(image|category)_id",
    "images": r"image_id|image \d", "categories": r"category_id|category \d"}


@pytest.mark.parametrize("place", list(places(COCO)), ids=lambda place: ".".join(map(str, place)))
def test_a_wrong_value_anywhere_in_a_coco_file_is_one_line_that_names_the_key(tmp_path, place):
    name, key = "annotations/instances_x.json", [part for part in place if isinstance(part, str)][-1]
    for value in VALUES:
        content = copy.deepcopy(COCO)
        inner = content
        for part in place[:-1]:
            inner = inner[part]
        if value is MISSING:
            del inner[place[-1]]
        else:
            inner[place[-1]] = value
        files.write_json(tmp_path / name, content)
        faults = []
        try:
            ids = [item["id"] for item in coco.categories(tmp_path, name)]
            for sample in read_coco(tmp_path, name, ids, faults):
                assert np.isfinite(sample.boxes).all() and min(sample.size) > 0 and np.isfinite(sample.areas).all()
        except ValueError as error:
            faults.append(str(error))
        assert len(faults) <= 3  # of an image or a category that is gone, each of its annotations
        check_lines(faults, tmp_path, rf"\b({key}|{ALSO.get(key, key)})")


XML = """<annotation><filename>1.jpg</filename><size><width>50</width><height>40</height><depth>3</depth></size>
<object><name>dog</name><difficult>1</difficult><bndbox><xmin>11</xmin><ymin>5.5</ymin><xmax>30.6</xmax><ymax>20</ymax>
</bndbox></object><object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>50</xmax><ymax>40</ymax></bndbox>
</object></annotation>"""
TAGS = [(number, element.tag) for number, element in enumerate(ElementTree.fromstring(XML).iter())][1:]


@pytest.fixture
def devkit(tmp_path):
    for path, content in (("Annotations/1.xml", XML), ("ImageSets/Main/x.txt", "1\n"), ("JPEGImages/1.jpg", "")):
        files.write_bytes(tmp_path / "own" / path, content.encode())
    return tmp_path / "own"


def read_voc(devkit) -> list[str]:
    """The faults of the devkit's set, whose classes are its own."""
    faults = []
    try:
        names = voc.classes(devkit.parent, ["own/x"], faults)
        for sample in voc.read(devkit.parent, "own/x", names, faults):
            assert np.isfinite(sample.boxes).all() and min(sample.size) > 0
    except ValueError as error:
        faults.append(str(error))
    return list(dict.fromkeys(faults))


@pytest.mark.parametrize("number, tag", TAGS)
def test_a_wrong_value_anywhere_in_a_voc_file_is_one_line_that_names_the_key(devkit, number, tag):
    inner = "its box" if tag in ("xmin", "ymin", "xmax", "ymax") else "class" if tag == "name" else tag
    for value in (MISSING, "", " ", "moon", "-3", "9" * 400, "nan", "inf", "1e999", "1.5", "<a>1</a>"):
        tree = ElementTree.fromstring(XML)
        element = list(tree.iter())[number]
        if value is MISSING:
            next(each for each in tree.iter() if element in list(each)).remove(element)
        else:
            element.clear()
            element.text = value
        (devkit / "Annotations" / "1.xml").write_bytes(ElementTree.tostring(tree).replace(b"&lt;", b"<").replace(
            b"&gt;", b">"))
        faults = read_voc(devkit)
        assert len(faults) <= 1
        check_lines(faults, devkit, rf"\b({tag}|{inner})\b")


@pytest.mark.parametrize("line, said", [
    ("1", ""), ("1.jpg", ""), ("1.JPG", ""), ("1.xml", ""), ("1 -1", ""), ("\ufeff1", ""), ("1\r", ""), ("", ""),
    ("./1.jpg", ""), ("moon", "moon.xml: no such file"), ("moon.jpg", "moon.jpg.xml: no such file"),
    ("9" * 400, "9.xml: file name too long"), ("../1", "x.txt: line 1: the name is '../1'; expected a path"),
    ("/1", "x.txt: line 1: the name is '/1'; expected a path"), ("1\0", "x.txt: expected text in UTF-8"),
    ("1".encode("utf-16"), "x.txt: expected text in UTF-8; line 1 has the byte 0xff"),
    ("1".encode("utf-16-le"), "x.txt: expected text in UTF-8; it looks like UTF-16"),
    ("1\nmün".encode("latin-1"), "x.txt: expected text in UTF-8; line 2 has the byte 0xfc")])
def test_a_list_is_read_however_tools_write_it_or_named(devkit, line, said):
    (devkit / "ImageSets" / "Main" / "x.txt").write_bytes(line if isinstance(line, bytes) else line.encode())
    faults = read_voc(devkit)
    assert len(faults) == bool(said) and (not said or said in faults[0])
    check_lines(faults, devkit, "xml|txt")


@pytest.mark.parametrize("content", [b"", b"[", b"nothing", b"\xff\xfe", "mün".encode("latin-1"), b"[" * 100_000,
                                     b'{"a":' * 100_000, b"9" * 5000, b"null", b"[]", b'"text"', b"NaN"])
def test_what_is_no_coco_file_is_one_line(tmp_path, content):
    files.write_bytes(tmp_path / "x.json", content)
    with pytest.raises(ValueError) as error:
        coco.categories(tmp_path, "x.json")
    said = str(error.value)
    assert said.startswith(f"{tmp_path}/x.json: not ") and "\n" not in said and len(said) < 300
    assert not re.search("codec|recursion|digits", said)


@pytest.mark.parametrize("content", ["", "<", "<a>", "<annotation/>", "text", "<a>" * 50_000,
                                     '<?xml version="1.0" encoding="none"?><annotation/>',
                                     '<?xml version="1.0" encoding="gb2312"?><annotation/>'])
def test_what_is_no_voc_file_is_one_line(devkit, content):
    (devkit / "Annotations" / "1.xml").write_text(content)
    (said,) = read_voc(devkit)
    assert said.startswith(f"{devkit}/Annotations/1.xml: not a VOC annotation (") and "\n" not in said
