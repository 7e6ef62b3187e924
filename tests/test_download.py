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
from PIL import Image

from kaod import datasets, download, files, params


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
        if body is None or fault == "503":
            return self.send_error(503 if fault else 404)
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
    monkeypatch.setattr(download, "PAUSE", 0)
    handler = type("Handler", (Server,), {"content": {}, "faults": {}, "asked": []})
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler))
    threading.Thread(target=running.serve_forever, daemon=True).start()
    handler.content["/a.tar"] = bytes(range(256)) * 400
    yield f"http://127.0.0.1:{running.server_port}/a.tar", handler.content["/a.tar"], handler
    running.shutdown()
    running.server_close()


def fetch(url, path, body, md5=None):
    download.fetch(url, path, md5 or hashlib.md5(body).hexdigest(), len(body))


def test_a_cut_connection_is_resumed(server, tmp_path):
    url, body, handler = server
    handler.faults["/a.tar"] = ["cut", "503"]
    fetch(url, tmp_path / "a.tar", body)
    assert (tmp_path / "a.tar").read_bytes() == body and not (tmp_path / "a.tar.part").exists()
    assert handler.asked == [None, *[f"bytes={len(body) // 2}-"] * 2]


@pytest.mark.parametrize("fault", ["stall", "unknown length"])
def test_a_stalled_or_silently_cut_connection_is_resumed(server, tmp_path, monkeypatch, fault):
    url, body, handler = server
    monkeypatch.setattr(download, "TIMEOUT", 0.5)
    handler.faults["/a.tar"] = [fault]
    fetch(url, tmp_path / "a.tar", body)
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
        self.wfile.write(body[start:number * len(body) // (3 * download.TRIES) + 1])

    fetch(url, tmp_path / "a.tar", body)
    assert (tmp_path / "a.tar").read_bytes() == body and next(pieces) > 2 * download.TRIES


def test_a_wrong_byte_is_noticed_and_the_next_run_starts_over(server, tmp_path):
    url, body, handler = server
    handler.faults["/a.tar"] = ["wrong byte"]
    with pytest.raises(ValueError, match="dropped"):
        fetch(url, tmp_path / "a.tar", body)
    fetch(url, tmp_path / "a.tar", body)
    assert (tmp_path / "a.tar").read_bytes() == body


def test_a_server_without_ranges_starts_over(server, tmp_path):
    url, body, handler = server
    handler.faults["/a.tar"] = ["no range"]
    (tmp_path / "a.tar.part").write_bytes(body[:100])
    fetch(url, tmp_path / "a.tar", body)
    assert (tmp_path / "a.tar").read_bytes() == body


def test_a_complete_part_needs_no_more(server, tmp_path):
    url, body, _ = server
    (tmp_path / "a.tar.part").write_bytes(body)
    fetch(url, tmp_path / "a.tar", body)
    assert (tmp_path / "a.tar").read_bytes() == body


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    url, body, _ = server
    with pytest.raises(ValueError, match=r"a\.tar: md5 .* expected 0000"):
        fetch(url, tmp_path / "a.tar", body, "0000")
    assert list(tmp_path.iterdir()) == []


def test_errors_name_the_url(server, tmp_path, monkeypatch):
    url, body, handler = server
    with pytest.raises(ValueError, match="none.tar: the server answered 404"):
        fetch(url.replace("a.tar", "none.tar"), tmp_path / "x", body)
    handler.faults["/a.tar"] = ["503"] * download.TRIES
    with pytest.raises(ValueError, match="a.tar: the server answered 503"):
        fetch(url, tmp_path / "x", body)
    with pytest.raises(ValueError, match="5 times; run again"):
        fetch("http://127.0.0.1:9/a.tar", tmp_path / "x", body)


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
        download.unpack(path, tmp_path / "out")
    assert not (tmp_path / "evil.txt").exists()


@pytest.mark.parametrize("name", ["/evil.txt", "deep/../../evil.txt"])
@pytest.mark.parametrize("suffix", ["tar", "zip"])
def test_absolute_and_winding_names_are_refused(tmp_path, name, suffix):
    with pytest.raises(ValueError, match="would leave"):
        download.unpack(archive(tmp_path / f"a.{suffix}", {"fine.txt": b"", name: b""}), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []  # not even the one before


def test_links_and_devices_are_refused_and_broken_archives_named(tmp_path):
    for target in ("/etc/passwd", "inside.txt"):
        with pytest.raises(ValueError, match="'link' is neither a file nor a folder"):
            download.unpack(archive(tmp_path / "b.tar", {}, target), tmp_path / "out")
    with tarfile.open(tmp_path / "d.tar", "w") as content:
        device = tarfile.TarInfo("device")
        device.type = tarfile.CHRTYPE
        content.addfile(device)
    with pytest.raises(ValueError, match="'device' is neither"):
        download.unpack(tmp_path / "d.tar", tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "e.zip", "w") as content:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        content.writestr(link, "/etc/passwd")
    with pytest.raises(ValueError, match="'link' is neither"):
        download.unpack(tmp_path / "e.zip", tmp_path / "out")
    (tmp_path / "c.tar").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="c.tar"):
        download.unpack(tmp_path / "c.tar", tmp_path / "out")


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
    found = download.manifest(profile)
    assert [item["name"] for item in found["categories"]] == sorted({item["name"] for item in found["categories"]})
    assert found["sets"]["shapes/train"]["photos"] == 20 and found["sets"]["shapes/test"]["photos"] == 2
    assert [path.name for path in profile.folder.parent.iterdir()] == ["tiny"]


def test_a_users_own_copy_is_linked_and_watched(tmp_path, repository, drawn):
    samples, classes = drawn
    own = tmp_path / "own"
    for name in ("s/train", "s/test"):
        datasets.write_voc(own, name, samples, [each.image() for each in samples], classes)
    before = {path: path.stat().st_mtime_ns for path in own.rglob("*")}
    profile = replace(params.load("voc")[0], root=str(own), train_sets=["s/train"], test_sets=["s/test"])
    download.link(profile)
    first = download.manifest(profile)
    assert {path: path.stat().st_mtime_ns for path in own.rglob("*")} == before
    linked = profile.folder / "s" / "Annotations" / f"{samples[0].name}.xml"
    assert linked.is_symlink() and files.digest(linked) == files.digest(own / "s/Annotations" / linked.name)
    for place in (f"Polygons/{samples[0].name}.json", f"SegmentationObject/{samples[0].name}.png"):
        assert (own / "s" / place).is_file() == (profile.folder / "s" / place).is_symlink()
    assert (profile.folder / "s" / "Polygons").is_dir()
    path = own / "s" / "Annotations" / linked.name
    path.write_text(path.read_text().replace("<difficult>0", "<difficult>1"))
    assert download.manifest(profile)["sets"]["s/train"]["annotations_md5"] != first["sets"]["s/train"][
        "annotations_md5"]
    samples[0].path.with_name("x").touch()
    (own / "s" / "JPEGImages" / f"{samples[1].name}.jpg").unlink()
    with pytest.raises(ValueError, match=f"{samples[1].name}.jpg: not a readable photo .*No such file"):
        download.manifest(profile)


def test_what_is_wrong_with_the_data_is_listed_or_left_out(tmp_path, repository, drawn, capsys):
    """A cut photo, a photo of another size, a broken annotation, a box without area, a class of the test set alone."""
    samples, classes = drawn
    own = tmp_path / "own"
    for name in ("s/train", "s/test"):
        datasets.write_voc(own, name, samples, [each.image() for each in samples], classes)
    photos, annotations = own / "s" / "JPEGImages", own / "s" / "Annotations"
    cut = photos / f"{samples[0].name}.jpg"
    cut.write_bytes(cut.read_bytes()[:-200])
    Image.new("RGB", (20, 30)).save(photos / f"{samples[1].name}.jpg")
    (annotations / f"{samples[2].name}.xml").write_text("<annotation><size>")
    path = annotations / f"{samples[3].name}.xml"
    path.write_text(re.sub(r"<xmin>[\d.]+</xmin>", "<xmin>128</xmin>", path.read_text(), count=1))
    profile = replace(params.load("voc")[0], root=str(own), train_sets=["s/train"], test_sets=["s/test"])
    download.link(profile)
    with pytest.raises(ValueError) as error:
        download.manifest(profile)
    said = str(error.value).splitlines()
    assert said[0].endswith("4 faults in the data (voc.skip_bad: true in params.yaml would leave them out):")
    for line, of in zip(sorted(said[1:]), sorted([
            f"{cut}: not a readable photo",
            f"{photos / samples[1].name}.jpg: 20×30 pixels, but its annotation says 128×128",
            f"{annotations / samples[2].name}.xml: not a VOC annotation",
            f"{path}: object 1"]), strict=True):
        assert line.startswith(of)
    profile = replace(profile, skip_bad=True)
    found = download.manifest(profile)
    assert "left out, as voc.skip_bad says: 4 faults" in capsys.readouterr().out
    files.write_json(profile.folder / "manifest.json", found)
    left = datasets.load(profile, ["s/train"])
    assert [each.name for each in left.samples] == [each.name for each in samples[3:]]
    assert len(left.samples[0].labels) == len(samples[3].labels) - 1
    assert found["sets"]["s/train"]["photos"] == 5


def test_what_is_wrong_with_coco_data_is_listed_or_left_out(tmp_path, repository, drawn):
    """A box without area, an annotation of no image, a file that is no photo; the test set shares the first."""
    samples, classes = drawn
    dataset = datasets.DataSet(classes, list(range(1, len(classes) + 1)), samples)
    own, name = tmp_path / "own", "annotations/instances_train.json"
    datasets.write_coco(own, name, dataset, [each.image() for each in samples])
    content = files.read_json(own / name)
    content["annotations"][0]["bbox"][2] = 0
    content["annotations"][1]["image_id"] = 999
    files.write_json(own / name, content)
    broken = own / "train" / content["images"][5]["file_name"]
    broken.write_bytes(b"no photo")
    profile = replace(params.load("coco")[0], root=str(own), train_sets=[name], test_sets=[name], skip_bad=False)
    download.link(profile)
    with pytest.raises(ValueError) as error:
        download.manifest(profile)
    first, *lines = str(error.value).splitlines()
    assert "3 faults" in first and len(lines) == 3
    for start in (f"{own / name}: annotation 1: ", f"{own / name}: annotation 2 names an unknown image",
                  f"{broken}: not a readable photo"):
        assert sum(line.startswith(start) for line in lines) == 1, start
    profile = replace(profile, skip_bad=True)
    files.write_json(profile.folder / "manifest.json", download.manifest(profile))
    left = datasets.load(profile, [name]).samples
    assert [each.name for each in left] == [each.name for number, each in enumerate(samples) if number != 5]
    assert sum(len(each.labels) for each in left) == sum(
        len(each.labels) for number, each in enumerate(samples) if number != 5) - 2
