import re
import shutil

import nbformat
import pytest

from kaod import ROOT
from kaod.data import files
from kaod.figures import notebooks, report

NOTEBOOKS = [ROOT / "notebooks" / f"{name}.ipynb" for name in notebooks.names()]


def write(path, title: str, text: str, outputs=()):
    cells = [nbformat.v4.new_markdown_cell(f"# {title}\n\n{text}"),
             nbformat.v4.new_code_cell("x = 1 < 2", outputs=list(outputs))]
    notebook = notebooks.normalise(nbformat.v4.new_notebook(cells=cells), outputs=True)
    files.write_bytes(path, notebooks.to_bytes(notebook))
    return path


def test_pages_are_linked_and_what_is_stale_goes(tmp_path):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "stale.html").touch()
    picture = nbformat.v4.new_output("display_data", data={"image/png": "iVBORw0KGgo="})
    report.gather([write(tmp_path / "00-a.ipynb", "Is A < B?", "See [b](01-b.ipynb).\n\nMore.", [picture]),
                   write(tmp_path / "01-b.ipynb", "And B?", "Not [c](02-c.ipynb) here:")], tmp_path / "report", "tiny")
    pages = {path.name: path.read_text() for path in (tmp_path / "report").iterdir()}
    assert pages.keys() == {"index.html", "00-a.html", "01-b.html"}
    assert '<a href="00-a.html">Is A &lt; B?</a>' in pages["index.html"] and "More." not in pages["index.html"]
    assert '<a href="01-b.html">next</a>' in pages["00-a.html"] and "next</a>" not in pages["01-b.html"]
    assert 'See <a href="01-b.html">b</a>' in pages["00-a.html"] and "data:image/png;base64,iVBOR" in pages["00-a.html"]
    assert 'href="02-c.ipynb"' in pages["01-b.html"]  # not part of the report


def test_the_committed_notebooks_make_a_report_without_a_network_and_with_the_same_bytes(tmp_path):
    for name in ("first", "second"):
        report.gather(NOTEBOOKS, tmp_path / name, "shapes")
    pages = sorted((tmp_path / "first").iterdir())
    assert [path.stem for path in pages] == [*(path.stem for path in NOTEBOOKS), "index"]
    for path in pages:
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()
        loaded = re.findall(r"<(?:script|link|iframe)\b|\bsrc=\"(?!data:)|@import|url\((?![\"']?data:)",
                            path.read_text())
        assert not loaded, path


def test_a_notebook_that_did_not_run_is_named(tmp_path):
    with pytest.raises(ValueError, match="gone.ipynb: no such notebook"):
        report.gather([tmp_path / "gone.ipynb"], tmp_path / "report", "shapes")


@pytest.mark.parametrize("width", [390, 1280])
def test_the_report_fits_a_phone_and_a_desk_offline(tmp_path, width):
    browser_path = shutil.which("chromium")
    if browser_path is None:
        pytest.skip("needs Chromium, which is not here (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    report.gather(NOTEBOOKS, tmp_path, "shapes")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_context(viewport={"width": width, "height": 800}, offline=True).new_page()
        wrong = []
        page.on("requestfailed", lambda request: wrong.append(request.url))
        page.on("console", lambda message: wrong.append(message.text))
        page.goto((tmp_path / "index.html").as_uri())
        for path in NOTEBOOKS:
            page.locator(f'a[href="{path.stem}.html"]').first.click()
            assert page.evaluate("document.documentElement.scrollWidth") == width, path  # nothing sticks out
            assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)"), path
            page.go_back()
        browser.close()
    assert not wrong
