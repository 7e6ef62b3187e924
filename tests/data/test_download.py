import functools
import hashlib
import http.server
import io
import re
import stat
import tarfile
import threading
import zipfile
from dataclasses import replace

import pytest
import yaml
from conftest import as_command
from layouts import write_coco, write_voc
from PIL import Image

from kaod import params
from kaod.data import datasets, download, fetch, files


class Server(http.server.SimpleHTTPRequestHandler):
    """Serves bytes by name; `faults` maps a path to what goes wrong there, once for each entry of its list."""

    content: dict[str, bytes] = {}
    faults: dict[str, list[str]] = {}
    asked: list[str | None] = []
    released = threading.Event()  # what a stalled answer waits for

    def do_GET(self):
        self.asked.append(self.headers.get("Range"))
        body = self.content.get(self.path)
        fault = self.faults.get(self.path, []) and self.faults[self.path].pop(0)
        if body is None or fault in ("408", "429", "503"):
            return self.send_error(int(fault or 404))
        if fault and fault.startswith("page"):
            self.send_response(200)
            self.send_header("Content-Type", "text/html" if fault == "page without length" else "text/plain")
            if fault == "page":
                self.send_header("Content-Length", "18")
            self.end_headers()
            return self.wfile.write(b"<html>log in</html"[:18])
        start = int(self.headers["Range"][6:-1]) if "Range" in self.headers and fault != "no range" else 0
        if start >= len(body):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if fault != "unknown length":
            self.send_header("Content-Length", str(len(body) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        if fault == "stall":
            self.wfile.write(body[start:start + 1000])
            return self.released.wait(10)
        if fault == "wrong byte":
            body = body[:-1] + b"?"
        self.wfile.write(body[start:len(body) // 2] if fault in ("cut", "unknown length") else body[start:])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    """(URL of a file, its content, the handler)"""
    monkeypatch.setattr(fetch, "PAUSE", 0)
    handler = type("Handler", (Server,), {"content": {}, "faults": {}, "asked": []})
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler))
    threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
    handler.content["/a.tar"] = bytes(range(256)) * 400
    yield f"http://127.0.0.1:{running.server_port}/a.tar", handler.content["/a.tar"], handler
    running.shutdown()
    running.server_close()


def get(url, path, body, md5=None):
    fetch.fetch(url, path, md5 or hashlib.md5(body).hexdigest(), len(body))


def test_a_cut_connection_is_resumed(server, tmp_path):
    url, body, handler = server
    handler.faults["/a.tar"] = ["cut", "503"]
    get(url, tmp_path / "a.tar", body)
    assert (tmp_path / "a.tar").read_bytes() == body and not (tmp_path / "a.tar.part").exists()
    assert handler.asked == [None, *[f"bytes={len(body) // 2}-"] * 2]


@pytest.mark.parametrize("fault", ["stall", "unknown length"])
def test_a_stalled_or_silently_cut_connection_is_resumed(server, tmp_path, monkeypatch, fault):
    url, body, handler = server
    monkeypatch.setattr(fetch, "TIMEOUT", 0.5)
    handler.faults["/a.tar"] = [fault]
    get(url, tmp_path / "a.tar", body)
    handler.released.set()
    assert (tmp_path / "a.tar").read_bytes() == body and len(handler.asked) == 2 and handler.asked[1]


def test_many_cuts_are_no_failure_while_bytes_come(server, tmp_path):
    url, body, handler = server
    pieces = iter(range(1, 100))
    handler.do_GET = lambda self: piece(self, next(pieces))

    def piece(self, number):
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        self.send_response(206 if start else 200)
        self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        self.wfile.write(body[start:number * len(body) // (3 * fetch.TRIES) + 1])

    get(url, tmp_path / "a.tar", body)
    assert (tmp_path / "a.tar").read_bytes() == body and next(pieces) > 2 * fetch.TRIES


def test_a_wrong_byte_is_noticed_and_the_next_run_starts_over(server, tmp_path):
    url, body, handler = server
    handler.faults["/a.tar"] = ["wrong byte"]
    with pytest.raises(ValueError, match="dropped"):
        get(url, tmp_path / "a.tar", body)
    get(url, tmp_path / "a.tar", body)
    assert (tmp_path / "a.tar").read_bytes() == body


def test_a_server_without_ranges_starts_over(server, tmp_path):
    url, body, handler = server
    handler.faults["/a.tar"] = ["no range"]
    (tmp_path / "a.tar.part").write_bytes(body[:100])
    get(url, tmp_path / "a.tar", body)
    assert (tmp_path / "a.tar").read_bytes() == body


def test_a_complete_part_needs_no_more(server, tmp_path):
    url, body, _ = server
    (tmp_path / "a.tar.part").write_bytes(body)
    get(url, tmp_path / "a.tar", body)
    assert (tmp_path / "a.tar").read_bytes() == body


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    url, body, _ = server
    with pytest.raises(ValueError, match=r"a\.tar: md5 .* expected 0000"):
        get(url, tmp_path / "a.tar", body, "0000")
    assert list(tmp_path.iterdir()) == []


def test_errors_name_the_url(server, tmp_path, monkeypatch):
    url, body, handler = server
    with pytest.raises(ValueError, match="none.tar: the server answered 404 Not Found$"):  # running again won't help
        get(url.replace("a.tar", "none.tar"), tmp_path / "x", body)
    assert len(handler.asked) == 1
    handler.faults["/a.tar"] = ["503"] * fetch.TRIES
    with pytest.raises(ValueError, match="a.tar: the server answered 503"):
        get(url, tmp_path / "x", body)
    with pytest.raises(ValueError, match="5 times; run again"):
        get("http://127.0.0.1:9/a.tar", tmp_path / "x", body)


@pytest.mark.parametrize("status", ["408", "429", "503"])
def test_errors_that_may_pass_are_tried_again(server, tmp_path, status):
    url, body, handler = server
    handler.faults["/a.tar"] = [status] * (fetch.TRIES - 1)
    get(url, tmp_path / "a.tar", body)
    assert (tmp_path / "a.tar").read_bytes() == body and len(handler.asked) == fetch.TRIES


@pytest.mark.parametrize("page", ["page", "page without length"])
def test_a_login_page_does_not_replace_what_came_so_far(server, tmp_path, page):
    url, body, handler = server
    part = tmp_path / "a.tar.part"
    part.write_bytes(body[:1000])
    handler.faults["/a.tar"] = [page]
    with pytest.raises(ValueError, match=rf"a\.tar: expected {len(body):,} bytes; the server sends (18|unknown), of "
                                         r"type text/.*; .*a\.tar\.part is kept"):
        get(url, tmp_path / "a.tar", body)
    assert part.read_bytes() == body[:1000]
    get(url, tmp_path / "a.tar", body)
    assert (tmp_path / "a.tar").read_bytes() == body and handler.asked[-1] == "bytes=1000-"


@pytest.mark.parametrize("url", ["file:///tmp/a.tar", "ftp://example.org/a.tar", "example.org/a.tar"])
def test_only_http_is_spoken(tmp_path, url):
    with pytest.raises(ValueError, match="a.tar: expected a URL that starts with http:// or https://"):
        get(url, tmp_path / "a.tar", b"")


def archive(path, members: dict[str, bytes], link: str | None = None):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as content:
            for name, body in members.items():
                content.writestr(name, body)
        return path
    with tarfile.open(path, "w") as content:
        for name, body in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            content.addfile(member, io.BytesIO(body))
        if link:
            member = tarfile.TarInfo("link")
            member.type, member.linkname = tarfile.SYMTYPE, link
            content.addfile(member)
    return path


@pytest.mark.parametrize("name", ["a.tar", "a.zip"])
def test_members_that_leave_the_folder_are_refused(tmp_path, name):
    path = archive(tmp_path / name, {"fine.txt": b"", "../evil.txt": b""})
    with pytest.raises(ValueError, match="evil.txt"):
        fetch.unpack(path, tmp_path / "out")
    assert not (tmp_path / "evil.txt").exists()


@pytest.mark.parametrize("name", ["/evil.txt", "deep/../../evil.txt"])
@pytest.mark.parametrize("suffix", ["tar", "zip"])
def test_absolute_and_winding_names_are_refused(tmp_path, name, suffix):
    with pytest.raises(ValueError, match="would leave"):
        fetch.unpack(archive(tmp_path / f"a.{suffix}", {"fine.txt": b"", name: b""}), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []  # not even the one before


@pytest.mark.parametrize("name", ["top//evil.txt", "top/../evil.txt", "top/deep/../../evil.txt"])
@pytest.mark.parametrize("suffix", ["tar", "zip"])
def test_members_are_checked_as_they_are_written_without_their_leading_folder(tmp_path, name, suffix):
    with pytest.raises(ValueError, match="would leave"):
        fetch.unpack(archive(tmp_path / f"a.{suffix}", {"top/fine.txt": b"", name: b""}), tmp_path / "out", "top")
    assert list((tmp_path / "out").iterdir()) == []
    good = archive(tmp_path / f"b.{suffix}", {"top/fine.txt": b"1", "topmost.txt": b"2"})
    fetch.unpack(good, tmp_path / "out", "top")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {
        "fine.txt": b"1", "topmost.txt": b"2"}


def test_a_tar_that_ends_in_a_zip_is_a_tar(tmp_path):
    inner = archive(tmp_path / "inner.zip", {"x.txt": b""}).read_bytes()
    path = archive(tmp_path / "a.tar", {"inner.zip": inner})
    path.write_bytes(path.read_bytes() + inner)
    assert zipfile.is_zipfile(path)
    fetch.unpack(path, tmp_path / "out")
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["inner.zip"]


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_whatever_is_no_file_is_refused_before_anything_is_written(tmp_path, kind):
    with tarfile.open(tmp_path / "a.tar", "w") as content:
        content.addfile(tarfile.TarInfo("fine.txt"))
        odd = tarfile.TarInfo("odd")
        odd.type, odd.linkname = kind, "fine.txt"
        content.addfile(odd)
    with pytest.raises(ValueError, match="a.tar: member 'odd' is neither a file nor a folder"):
        fetch.unpack(tmp_path / "a.tar", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_links_and_devices_are_refused_and_broken_archives_named(tmp_path):
    for target in ("/etc/passwd", "inside.txt"):
        with pytest.raises(ValueError, match="'link' is neither a file nor a folder"):
            fetch.unpack(archive(tmp_path / "b.tar", {}, target), tmp_path / "out")
    with tarfile.open(tmp_path / "d.tar", "w") as content:
        device = tarfile.TarInfo("device")
        device.type = tarfile.CHRTYPE
        content.addfile(device)
    with pytest.raises(ValueError, match="'device' is neither"):
        fetch.unpack(tmp_path / "d.tar", tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "e.zip", "w") as content:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        content.writestr(link, "/etc/passwd")
    with pytest.raises(ValueError, match="'link' is neither"):
        fetch.unpack(tmp_path / "e.zip", tmp_path / "out")
    (tmp_path / "c.tar").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="c.tar"):
        fetch.unpack(tmp_path / "c.tar", tmp_path / "out")


def test_download_unpacks_once(server, tmp_path, repository):
    url, _, handler = server
    body = archive(tmp_path / "b.tar", {"VOCdevkit/VOC2007/x.txt": b"hello"}).read_bytes()
    handler.content["/a.tar"] = body
    (repository / "data").mkdir()
    (repository / "data" / "archives.yaml").write_text(yaml.safe_dump({"voc": [
        {"url": url, "md5": hashlib.md5(body).hexdigest(), "size": len(body), "strip": "VOCdevkit"}]}))
    profile = params.load("voc")[0]
    for _ in range(2):
        download.download(profile)
        assert (profile.folder / "VOC2007" / "x.txt").read_bytes() == b"hello" and len(handler.asked) == 1
        assert not (profile.folder / "a.tar").exists()
        (profile.folder / "a.tar").write_bytes(body)  # as if the first run had been stopped before it took it away
    download.download(profile)
    assert not (profile.folder / "a.tar").exists() and len(handler.asked) == 1
    for marker in profile.folder.glob(".unpacked-*"):
        marker.unlink()
    handler.content["/copy/a.tar"] = handler.content.pop("/a.tar")
    download.download(profile, url.replace("/a.tar", "/copy/"))  # a mirror has it
    listing = repository / "data" / "archives.yaml"
    listing.write_text(listing.read_text().replace(f"size: {len(body)}", f"size: {10 ** 18}"))
    for marker in profile.folder.glob(".unpacked-*"):
        marker.unlink()
    with pytest.raises(ValueError, match=r"1 archives to fetch and unpack need 2000000000\.0 GB"):
        download.download(profile)
    with pytest.raises(ValueError, match="no archives for the profile 'tiny'"):
        download.download(params.load("tiny")[0])


def test_drawing_leaves_a_whole_data_set_and_a_manifest(repository):
    profile = params.load("tiny")[0]
    profile = replace(profile, draw=replace(profile.draw, train=20, test=2))
    download.draw(profile)
    found = download.check(profile)
    assert [item["name"] for item in found["categories"]] == sorted({item["name"] for item in found["categories"]})
    assert [each["photos"] for each in found["sets"].values()] == [20, 2]
    assert [path.name for path in profile.folder.parent.iterdir()] == ["tiny"]


def test_a_users_own_copy_is_linked_and_watched(tmp_path, repository, drawn):
    samples, classes = drawn
    own = tmp_path / "own"
    for name in ("s/train", "s/test"):
        write_voc(own, name, samples, [each.image() for each in samples], classes)
    mask = own / "s" / "SegmentationObject" / f"{samples[0].path.stem}.png"
    Image.new("L", (128, 128)).save(mask)
    before = {path: path.stat().st_mtime_ns for path in own.rglob("*")}
    profile = replace(params.load("voc")[0], root=str(own), train_sets=["s/train"], test_sets=["s/test"])
    download.link(profile)
    first = download.check(profile)
    assert {path: path.stat().st_mtime_ns for path in own.rglob("*")} == before
    linked = profile.folder / "source" / "s" / "Annotations" / f"{samples[0].path.stem}.xml"
    assert linked.is_symlink() and files.digest(linked) == files.digest(own / "s/Annotations" / linked.name)
    assert (profile.folder / "source" / mask.relative_to(own)).resolve() == mask
    path = own / "s" / "Annotations" / linked.name
    path.write_text(path.read_text().replace("<difficult>0", "<difficult>1"))
    assert download.check(profile)["sets"]["s/train"]["md5"] != first["sets"]["s/train"]["md5"]
    samples[0].path.with_name("x").touch()
    (own / "s" / "JPEGImages" / f"{samples[1].path.stem}.jpg").unlink()
    with pytest.raises(ValueError, match=f"{samples[1].path.stem}.jpg: not a readable photo .*No such file"):
        download.check(profile)


def test_what_is_wrong_with_the_data_is_listed_or_left_out(tmp_path, repository, drawn, capsys):
    """A cut photo, a photo of another size, a broken annotation, a box without area, a class of the test set alone."""
    samples, classes = drawn
    own = tmp_path / "own"
    for name in ("s/train", "s/test"):
        write_voc(own, name, samples, [each.image() for each in samples], classes)
    photos, annotations = own / "s" / "JPEGImages", own / "s" / "Annotations"
    cut = photos / f"{samples[0].path.stem}.jpg"
    cut.write_bytes(cut.read_bytes()[:-200])
    Image.new("RGB", (20, 30)).save(photos / f"{samples[1].path.stem}.jpg")
    (annotations / f"{samples[2].path.stem}.xml").write_text("<annotation><size>")
    path = annotations / f"{samples[3].path.stem}.xml"
    path.write_text(re.sub(r"<xmin>[\d.]+</xmin>", "<xmin>128</xmin>", path.read_text(), count=1))
    profile = replace(params.load("voc")[0], root=str(own), train_sets=["s/train"], test_sets=["s/test"])
    download.link(profile)
    with pytest.raises(ValueError) as error:
        download.check(profile)
    said = str(error.value).splitlines()
    assert said[0].endswith("4 faults in the data (voc.skip_bad: true in params.yaml would leave them out):")
    for line, of in zip(sorted(said[1:]), sorted([
            f"{cut}: not a readable photo",
            f"{photos / samples[1].path.stem}.jpg: 20×30 pixels, but its annotation says 128×128",
            f"{annotations / samples[2].path.stem}.xml: not a VOC annotation",
            f"{path}: object 1"]), strict=True):
        assert line.startswith(of)
    profile = replace(profile, skip_bad=True)
    found = download.check(profile)
    assert "left out, as voc.skip_bad says: 4 faults" in capsys.readouterr().out
    files.write_json(profile.folder / "manifest.json", found)
    left = datasets.load(profile, ["s/train"])
    assert [each.path.stem for each in left.samples] == [each.path.stem for each in samples[3:]]
    assert len(left.samples[0].labels) == len(samples[3].labels) - 1
    assert found["sets"]["s/train"]["photos"] == 5


def test_what_is_wrong_with_coco_data_is_listed_or_left_out(tmp_path, repository, drawn):
    """A box without area, an annotation of no image, a file that is no photo; the test set shares the first."""
    samples, classes = drawn
    dataset = datasets.DataSet(classes, list(range(1, len(classes) + 1)), samples)
    own, name = tmp_path / "own", "annotations/instances_train.json"
    write_coco(own, name, dataset, [each.image() for each in samples])
    content = files.read_json(own / name)
    content["annotations"][0]["bbox"][2] = 0
    content["annotations"][1]["image_id"] = 999
    files.write_json(own / name, content)
    broken = own / "train" / content["images"][5]["file_name"]
    broken.write_bytes(b"no photo")
    profile = replace(params.load("coco")[0], root=str(own), train_sets=[name], test_sets=[name], skip_bad=False)
    download.link(profile)
    with pytest.raises(ValueError) as error:
        download.check(profile)
    first, *lines = str(error.value).splitlines()
    assert "3 faults" in first and len(lines) == 3
    for start in (f"{own / name}: annotation 1: ", f"{own / name}: annotation 2: it names an unknown image",
                  f"{broken}: not a readable photo"):
        assert sum(line.startswith(start) for line in lines) == 1, start
    profile = replace(profile, skip_bad=True)
    files.write_json(profile.folder / "manifest.json", download.check(profile))
    left = datasets.load(profile, [name]).samples
    assert len(samples[0].labels) == 2  # both are lost: a photo without them would show that there is nothing
    assert [(each.path.stem, len(each.labels)) for each in left] == [
        (each.path.stem, len(each.labels)) for number, each in enumerate(samples) if number not in (0, 5)]


@pytest.fixture
def ours(tmp_path, repository):
    """A function that writes a COCO data set of photos of 50×40 pixels, and passes it through the door: the boxes that
    are left, {photo: how many}. Each set is {photo: its boxes}; `edit` changes a set's content."""
    def read(train, test, edit=lambda content: None, **settings):
        root = tmp_path / "ours"
        for name, photos in (("train", train), ("test", test)):
            images = [{"id": number, "file_name": photo, "width": 50, "height": 40}
                      for number, photo in enumerate(photos, 1)]
            boxes = [(number, box) for number, each in enumerate(photos.values(), 1) for box in each]
            content = {"images": images, "categories": [{"id": 1, "name": "cat"}], "annotations": [
                {"id": number, "image_id": image, "category_id": 1, "bbox": box}
                for number, (image, box) in enumerate(boxes, 1)]}
            if name == "train":
                edit(content)
            files.write_json(root / "annotations" / f"instances_{name}.json", content)
            for photo in photos:
                path = root / settings.get("photos", name) / photo
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (50, 40)).save(path)
        profile = replace(params.load("coco")[0], root=str(root), **{
            "train_sets": ["annotations/instances_train.json"], "test_sets": ["annotations/instances_test.json"],
            "skip_bad": False} | settings)
        files.write_json(profile.folder / "manifest.json", download.check(profile))
        return {each.path.relative_to(root).as_posix(): len(each.labels)
                for each in datasets.load(profile, profile.train_sets + profile.test_sets).samples}

    return read


BOX, FLAT = [5, 5, 20, 10], [5, 5, 0, 10]


def test_a_photo_whose_objects_cannot_be_read_goes_whole(ours):
    """Without them it would teach that there is nothing."""
    train = {"flat.jpg": [FLAT], "half.jpg": [FLAT, BOX], "empty.jpg": [], "good.jpg": [BOX]}
    left = {"train/half.jpg": 1, "train/empty.jpg": 0, "train/good.jpg": 1, "test/a.jpg": 1}
    assert ours(train, {"a.jpg": [BOX]}, skip_bad=True) == left
    wide = {**left}
    del wide["train/good.jpg"]
    assert ours(train, {"a.jpg": [BOX]}, lambda content: content["images"][3].update(width="wide"),
                skip_bad=True) == wide
    assert ours(train, {"a.jpg": [BOX]}, lambda content: content["images"][3].update(width="50.0", id=4.0),
                skip_bad=True) == left


def test_in_voc_too_a_photo_whose_objects_cannot_be_read_goes_whole(own):
    path = own.data / "s" / "Annotations" / "000000.xml"
    path.write_text(re.sub("<name>[^<]+</name>", "", path.read_text()))
    files.write_json(own.folder / "manifest.json", download.check(replace(own, skip_bad=True)))
    assert [each.path.stem for each in datasets.load(own, own.train_sets).samples] == [
        f"{number:06}" for number in range(1, 8)]


@pytest.mark.parametrize("train, test, said", [
    ({}, {"a.jpg": [BOX]}, "instances_train.json: the set annotations/instances_train.json has no photos$"),
    ({"a.jpg": [BOX]}, {}, "instances_test.json: the set annotations/instances_test.json has no photos$"),
    ({"a.jpg": []}, {"a.jpg": [BOX]}, "the training sets annotations/instances_train.json hold no objects$"),
    ({"a.jpg": [BOX]}, {"a.jpg": []}, "the test sets annotations/instances_test.json hold no objects$"),
    ({"a.jpg": [FLAT]}, {"a.jpg": [BOX]}, "train.json has no photos that can be used$")])
def test_empty_sets_stop_at_the_door(ours, repository, train, test, said):
    with pytest.raises(ValueError, match=said):
        ours(train, test, skip_bad=True)
    assert not (repository / "datasets" / "coco" / "sets").exists()


def test_an_empty_list_stops_at_the_door_and_so_do_annotations_that_all_fail(own, capsys):
    listing = own.data / "t" / "ImageSets" / "Main" / "test.txt"
    listing.write_text("\n")
    with pytest.raises(ValueError, match=f"^{listing}: the set t/test has no photos$"):
        download.check(own)
    for path in (own.data / "s" / "Annotations").iterdir():
        path.write_text(path.read_text().replace("<width>128<", "<width>wide<"))
    with pytest.raises(ValueError, match=r"(?s)8 faults .*\.xml: not a VOC annotation \(size/width is 'wide'"):
        download.check(own)
    with pytest.raises(ValueError, match="^[^\n]* the training sets s/train hold no objects$"):
        download.check(replace(own, skip_bad=True))
    assert "size/width is 'wide'; expected" in capsys.readouterr().out


def test_a_photo_that_stands_twice_in_a_set_is_a_fault_and_counts_once(ours, own):
    listing = own.data / "t" / "ImageSets" / "Main" / "test.txt"
    listing.write_text(f"{listing.read_text()}000001\n000001.jpg\n")
    with pytest.raises(ValueError, match=f"1 faults .*\n{listing}: 000001 stands there 3 times$"):
        download.check(own)
    assert download.check(replace(own, skip_bad=True))["sets"]["t/test"]["photos"] == 4

    def twice(content):
        content["images"][1]["file_name"] = "a.jpg"

    photos = {"a.jpg": [BOX], "b.jpg": [BOX]}
    with pytest.raises(ValueError, match="1 faults .*\n.*: image 2: file_name is 'a.jpg', which image 1 has, too$"):
        ours(photos, photos, twice)
    assert ours(photos, photos, twice, skip_bad=True) == {"train/a.jpg": 1, "test/a.jpg": 1, "test/b.jpg": 1}


def test_what_may_not_be_meant_is_named_once_and_stops_nothing(ours, tmp_path, capsys):
    """A photo that viewers turn, one in training and test, polygons of two points, a set without outlines."""
    def flat(content):
        content["annotations"][0]["segmentation"] = [[5, 5, 25, 15]]

    exif = Image.Exif()
    exif[0x0112] = 3
    photos = {"a.jpg": [BOX, BOX], "b.jpg": [BOX]}
    found = {"images/a.jpg": 2, "images/b.jpg": 1}
    root = tmp_path / "ours"
    assert ours(photos, photos, flat, photos="images") == found
    said = capsys.readouterr().out.splitlines()
    assert said == [
        f"{root}: 2 photos in both training and test sets; the first: {root}/images/a.jpg",
        f"{root}: 1 photos with polygons of fewer than three points, which are no outlines; the first: "
        f"{root}/images/a.jpg",
        f"{root}: the training sets have boxes only, no outlines: K = 16 (coco.vertices.k: auto)"]
    Image.new("RGB", (50, 40)).save(root / "images" / "b.jpg", exif=exif)
    profile = replace(params.load("coco")[0], root=str(root), photos="images", test_sets=[
        "annotations/instances_test.json"], train_sets=["annotations/instances_train.json"])
    download.check(profile)
    assert capsys.readouterr().out.splitlines()[0] == (
        f"{root}: 1 photos that viewers turn (EXIF orientation); boxes have to be those of the pixels as stored; the "
        f"first: {root}/images/b.jpg")


@pytest.mark.parametrize("key, value", [("train_sets", ["../s/train"]), ("test_sets", ["/t/test"]), ("photos", "../x"),
                                        ("train_sets", ["s/train", "s/train"]), ("test_sets", [""])])
def test_sets_that_leave_the_datas_folder_are_refused_before_anything_is_made(repository, own, monkeypatch, key, value):
    settle(repository, "voc", **{"root": own.root, "train_sets": ["s/train"], "test_sets": ["t/test"], key: value})
    said = as_command(monkeypatch, "kaod.data.download")
    assert said.startswith(f"kaod.data.download: params.yaml: voc.{key}")
    assert not own.folder.exists()


@pytest.fixture
def own(tmp_path, drawn):
    """A user's own copy in VOC's layout, and a profile for it."""
    samples, classes = drawn
    for name, part in (("s/train", samples), ("t/test", samples[:4])):
        write_voc(tmp_path / "own", name, part, [each.image() for each in part], classes)
    return replace(params.load("voc")[0], root=str(tmp_path / "own"), train_sets=["s/train"], test_sets=["t/test"])


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("place", [".", "VOCdevkit", "..", "../.."])
def test_a_root_in_or_around_the_place_for_links_is_refused(repository, own, place):
    """Which is emptied before links are made."""
    (own.folder / "VOCdevkit").mkdir(parents=True)
    (own.folder / "VOCdevkit" / "precious.jpg").write_bytes(b"20 GB")
    before = contents(repository)
    profile = replace(own, root=str(own.folder / place))
    with pytest.raises(ValueError, match=r"params.yaml: voc.root: .* is, lies in or holds .*datasets/voc"):
        download.link(profile)
    assert contents(repository) == before


@pytest.mark.parametrize("name", ["train2017/1.jpg", "source.zip.part", ".unpacked-1", "s/manifest.json"])
def test_a_download_stays_beside_links_and_real_files_among_them_are_never_taken_for_ours(repository, own, name):
    """As of a download before the user named a copy. Nothing is deleted."""
    path = own.folder / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"20 GB")
    download.link(own)
    assert path.read_bytes() == b"20 GB"
    real = own.folder / "source" / name
    real.parent.mkdir(exist_ok=True)
    real.write_bytes(b"20 GB")
    before = contents(repository)
    with pytest.raises(ValueError, match=rf"datasets/voc/source: holds files that are no links.*\({name}\); please"):
        download.link(replace(own, root=str(repository / "elsewhere")))
    assert contents(repository) == before


def test_links_are_made_anew_for_other_sets_and_the_copy_stays(repository, own):
    before = contents(own.data)
    download.link(own)
    first = set(contents(own.folder))
    download.link(own)
    assert contents(own.data) == before and set(contents(own.folder)) == first
    (own.data / "s" / "Annotations" / "000000.xml").unlink()  # its link points nowhere now
    download.link(replace(own, train_sets=["t/test"]))
    assert set(contents(own.folder)) < first and len(list(own.folder.rglob("*.xml"))) == 4
    assert not list(own.folder.rglob("train.txt"))


def test_a_download_after_a_copy_of_ones_own_leaves_the_copy_alone(server, repository, own):
    url, _, handler = server
    before = contents(own.data)
    download.link(own)
    name = "s/Annotations/000000.xml"
    body = archive(repository / "b.tar", {name: b"fetched"}).read_bytes()
    handler.content["/a.tar"] = body
    (repository / "data").mkdir()
    (repository / "data" / "archives.yaml").write_text(yaml.safe_dump({"voc": [
        {"url": url, "md5": hashlib.md5(body).hexdigest(), "size": len(body)}]}))
    download.download(replace(own, root=None))
    assert (own.folder / name).read_bytes() == b"fetched" and contents(own.data) == before


def test_drawing_replaces_links_but_no_download(repository, own):
    settings = replace(params.load("tiny")[0].draw, train=1, test=1)
    before, sets = contents(own.data), ["annotations/instances_a.json", "annotations/instances_b.json"]
    drawn = replace(own, root=None, layout="coco", draw=settings, train_sets=sets[:1], test_sets=sets[1:])
    download.link(own)
    download.draw(drawn)
    assert contents(own.data) == before and not any(path.is_symlink() for path in own.folder.rglob("*"))
    (own.folder / ".unpacked-1").touch()
    with pytest.raises(ValueError, match="datasets/voc: holds a download .* please move"):
        download.draw(drawn)
    assert (own.folder / ".unpacked-1").exists()


def test_all_faults_are_in_a_file_beside_the_manifest_and_the_sets_stay(repository, own):
    download.check(own)
    before = contents(own.folder / "sets")
    path = own.data / "s" / "Annotations" / "000000.xml"
    content = path.read_text()
    flat = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>0</xmax><ymax>9</ymax></bndbox>"
    lines = 30 * f"<object><name>line</name>{flat}</object>"
    path.write_text(content.replace("</annotation>", f"{lines}</annotation>"))
    listing = own.folder / "faults.txt"
    with pytest.raises(ValueError, match=rf"(?s)30 faults in.*\n… and 10 more; all are in {listing}$") as error:
        download.check(own)
    lines = listing.read_text().splitlines()
    assert len(lines) == 30 and str(error.value).splitlines()[1:-1] == lines[:20]
    assert len(before) == 2 and contents(own.folder / "sets") == before
    path.write_text(content)
    download.check(own)
    assert not listing.exists()


def settle(repository, profile: str, **settings) -> None:
    """Chooses the profile in params.yaml, with these settings."""
    path = repository / "params.yaml"
    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(content | {"profile": profile, profile: content[profile] | settings}))


def edit(path, old: str, new: str) -> None:
    content, count = re.subn(old, new, path.read_text(), count=1)
    assert count == 1
    path.write_text(content)


XMIN, XMAX = r"<xmin>[\d.]+</xmin>", r"(?<=</ymin>)<xmax>[\d.]+</xmax>"
VOC_FAULTS = {  # what happens to the photo p.jpg and its annotation p.xml, and what the user reads of which of them
    "unknown class": (lambda photo, xml: edit(xml, "<name>[^<]+", "<name>moon"),
                      r"p\.xml: object 1 \(moon\): class 'moon' is not among those of the training sets: [\w, ]+"),
    "box outside": (lambda photo, xml: edit(xml, f"{XMIN}(<ymin>.*?</ymin>){XMAX}",
                                            r"<xmin>201</xmin>\1<xmax>230</xmax>"),
                    r"p\.xml: object 1 \(\w+\): its box \(200, .*\) lies outside the photo of 128×128 pixels"),
    "no area": (lambda photo, xml: edit(xml, XMIN, "<xmin>128</xmin>"),
                r"p\.xml: object 1 \(\w+\): its box \(127, .*\) has no area"),
    "missing photo": (lambda photo, xml: photo.unlink(), r"p\.jpg: not a readable photo \(.*No such file.*\)"),
    "cut photo": (lambda photo, xml: photo.write_bytes(photo.read_bytes()[:-200]),
                  r"p\.jpg: not a readable photo \(image file is truncated.*\)"),
    "broken XML": (lambda photo, xml: xml.write_text(xml.read_text()[:-20]), r"p\.xml: not a VOC annotation \(.*\)"),
    "other size": (lambda photo, xml: Image.new("RGB", (20, 30)).save(photo),
                   r"p\.jpg: 20×30 pixels, but its annotation says 128×128")}


@pytest.mark.parametrize("fault", VOC_FAULTS)
def test_the_user_reads_what_is_wrong_with_voc_data(repository, own, monkeypatch, fault):
    folder = own.data / "t"
    stem = (folder / "ImageSets" / "Main" / "test.txt").read_text().split()[0]
    damage, line = VOC_FAULTS[fault]
    damage(folder / "JPEGImages" / f"{stem}.jpg", folder / "Annotations" / f"{stem}.xml")
    settle(repository, "voc", root=own.root, train_sets=own.train_sets, test_sets=own.test_sets)
    first, *rest = as_command(monkeypatch, "kaod.data.download").splitlines()
    assert first == (f"kaod.data.download: {own.data}: 1 faults in the data (voc.skip_bad: true in params.yaml would "
                     "leave them out):")
    assert len(rest) == 1 and re.fullmatch(f"{folder}/(JPEGImages|Annotations)/{line.replace('p', stem, 1)}", rest[0])
    assert not (own.folder / "manifest.json").exists()
    settle(repository, "voc", root=own.root, train_sets=own.train_sets, test_sets=own.test_sets, skip_bad=True)
    assert as_command(monkeypatch, "kaod.data.download") == ""
    assert files.read_json(own.folder / "manifest.json")["faults"] == rest


COCO_FAULTS = {
    "unknown class": (lambda photo, item: item.update(category_id=77),
                      r"annotation 1: it names an unknown image or category: category_id is 77 \(not in this .*"),
    "box outside": (lambda photo, item: item.update(bbox=[200, 10, 30, 30]),
                    r"annotation 1: its box \(200, 10, 230, 40\) lies outside the photo of 128×128 pixels"),
    "no area": (lambda photo, item: item.update(bbox=[10, 10, 0, 30]),
                r"annotation 1: its box \(10, 10, 10, 40\) has no area"),
    "odd polygon": (lambda photo, item: item.update(segmentation=[[1, 2, 3, 4, 5]]),
                    "annotation 1: a polygon of its segmentation is not a list of an even number of .*"),
    "missing photo": (lambda photo, item: photo.unlink(), r"not a readable photo \(.*No such file.*\)"),
    "cut photo": (lambda photo, item: photo.write_bytes(photo.read_bytes()[:-200]),
                  r"not a readable photo \(image file is truncated.*\)"),
    "other size": (lambda photo, item: Image.new("RGB", (20, 30)).save(photo),
                   "20×30 pixels, but its annotation says 128×128")}


@pytest.mark.parametrize("fault", [*COCO_FAULTS, "broken JSON", "missing JSON"])
def test_the_user_reads_what_is_wrong_with_coco_data(tmp_path, repository, drawn, monkeypatch, fault):
    samples, classes = drawn
    root, names = tmp_path / "own", ["annotations/instances_a.json", "annotations/instances_b.json"]
    for name, part in zip(names, (samples[:4], samples[4:])):
        write_coco(root, name, datasets.DataSet(classes, list(range(1, len(classes) + 1)), part),
                            [each.image() for each in part])
    settle(repository, "coco", root=str(root), train_sets=names[:1], test_sets=names[1:], skip_bad=False)
    path = root / names[1]
    if fault == "broken JSON":
        path.write_text(path.read_text()[:-20])
        assert re.fullmatch(rf"kaod\.data\.download: {path}: not valid JSON \(.*\)",
                            as_command(monkeypatch, "kaod.data.download"))
        return
    if fault == "missing JSON":
        path.unlink()
        assert re.fullmatch(rf"kaod\.data\.download: {path}: no such file; .* annotations of the photos in {root}/b",
                            as_command(monkeypatch, "kaod.data.download"))
        return
    content = files.read_json(path)
    photo = root / "b" / content["images"][0]["file_name"]
    damage, line = COCO_FAULTS[fault]
    damage(photo, content["annotations"][0])
    files.write_json(path, content)
    first, *rest = as_command(monkeypatch, "kaod.data.download").splitlines()
    assert first.startswith(f"kaod.data.download: {root}: 1 faults in the data (coco.skip_bad: true in params.yaml")
    assert len(rest) == 1 and re.fullmatch(f"({path}|{photo}): {line}", rest[0])


def test_a_mirror_is_named_on_the_command_line(server, tmp_path, repository, own, monkeypatch):
    url, _, handler = server
    body = archive(tmp_path / "b.tar", {f"top/{path.relative_to(own.data)}": content
                                        for path, content in contents(own.data).items()}).read_bytes()
    handler.content["/copy/b.tar"] = body
    (repository / "data").mkdir()
    (repository / "data" / "archives.yaml").write_text(yaml.safe_dump({"voc": [
        {"url": "http://127.0.0.1:9/b.tar", "md5": hashlib.md5(body).hexdigest(), "size": len(body), "strip": "top"}]}))
    settle(repository, "voc", train_sets=own.train_sets, test_sets=own.test_sets)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    assert as_command(monkeypatch, "kaod.data.download", "--mirror", "file:///copy") == (
        "kaod.data.download: file:///copy/b.tar: expected a URL that starts with http:// or https://")
    assert as_command(monkeypatch, "kaod.data.download", "--mirror", url.replace("/a.tar", "/copy/")) == ""
    assert len(handler.asked) == 1 and files.read_json(own.folder / "manifest.json")["sets"]["t/test"]["photos"] == 4
