"""The sliders, without a browser and in one."""

import io
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pytest
from conftest import built
from PIL import Image
from test_pipeline import Clone

from kaod import params
from kaod.data import datasets, files, shapes
from kaod.figures import sliders
from kaod.training import checkpoints

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]


def untrained(profile, models, name: str) -> bytes:
    """One of params.yaml's models for the drawn shapes, as a file's content."""
    classes = list(shapes.OUTLINES)
    detector, changed = built(profile, models, name, len(classes), 16)
    return checkpoints.to_bytes(detector, changed, datasets.DataSet(classes, [1] * len(classes), []), 16)


@pytest.fixture
def trained(tmp_path, drawn):
    """A profile whose runs hold two untrained models of the size of the profile shapes, and photos."""
    for name in ("fcos", "kaod"):
        files.write_bytes(tmp_path / "runs" / name / "model.pt", untrained(*params.load("shapes"), name))
    return SimpleNamespace(runs=tmp_path / "runs"), [Path(sample.path) for sample in drawn[0]]


def pixels(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("L"), float)


def test_kaod_comes_first_and_without_a_model_a_command_is_named(trained):
    profile, _ = trained
    assert list(sliders.checkpoints(profile)) == ["kaod", "fcos"]
    shutil.rmtree(profile.runs)
    with pytest.raises(ValueError, match="no trained model here yet; `dvc repro train` makes one"):
        sliders.checkpoints(profile)


def test_a_frame_turns_the_right_half_only_and_takes_less_than_300_ms(trained):
    profile, photos = trained
    checkpoint = sliders.checkpoints(profile)["kaod"]
    still, turned = (pixels(sliders.frame(checkpoint, photos[0], angle)) for angle in (0, 40))
    half = still.shape[1] // 2
    off = np.abs(still - turned)[40:]
    assert off[:, :half - 16].mean() < 1 < 5 < off[:, half + 16:].mean()
    assert np.array_equal(turned, pixels(sliders.frame(checkpoint, photos[0], 40)))
    spent = []
    for angle in range(9):
        began = time.process_time()  # of the processor: what else the machine does is not counted
        sliders.frame(checkpoint, photos[0], angle)
        spent.append(time.process_time() - began)
    print(f"a frame takes {np.median(spent):.3f} s (median of {len(spent)}; {min(spent):.3f} to {max(spent):.3f})")
    assert np.median(spent) < 0.3, spent


def test_a_model_that_is_trained_anew_is_read_anew(trained):
    profile, photos = trained
    models = sliders.checkpoints(profile)
    before = sliders.frame(models["kaod"], photos[0], least=0.05)
    content = models["fcos"].read_bytes()
    assert sliders.load(models["kaod"], 2) is sliders.load(models["kaod"], 2)
    files.write_bytes(models["kaod"], content)
    os.utime(models["kaod"], ns=(1, 1))  # whatever the clock's steps are
    assert sliders.frame(models["kaod"], photos[0], least=0.05) != before


def test_sliders_redraw_and_a_broken_photo_is_named(trained, tmp_path):
    profile, photos = trained
    broken = tmp_path / "broken.jpg"
    broken.write_text("no photo")
    box = sliders.panel(sliders.checkpoints(profile), [*photos, broken], first=1)
    controls = {each.description: each for each in box.children[:-2]}
    said, picture = box.children[-2:]
    assert said.value == str(photos[1])
    for name, value in (("turn, °", 30), ("to the right", 0.2), ("down", -0.1), ("photo", 2)):
        before = picture.value
        controls[name].value = value
        assert picture.value != before, name
    controls["model"].value = "fcos"  # boxes only
    controls["photo"].value = len(photos)
    assert "broken.jpg: not a readable photo" in said.value and not picture.value


@pytest.mark.slow
def test_a_slider_moved_in_a_browser_turns_the_photo(tmp_path):
    """JupyterLab in a clone with the tiny profile, driven by Chromium as a person would."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium, which is not here (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    clone = Clone(tmp_path / "clone")
    clone.select("tiny")
    clone("python", "-m", "kaod.data.download")
    files.write_bytes(clone.folder / "runs" / "tiny" / "kaod" / "model.pt", untrained(*params.load("tiny"), "kaod"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    environment = {**os.environ, "PYTHONPATH": str(clone.folder), "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
                   "JUPYTER_DATA_DIR": str(tmp_path / "data"), "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
                   "IPYTHONDIR": str(tmp_path / "ipython")}
    with open(tmp_path / "jupyter.log", "w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1",
             f"--port={address.rsplit(':')[-1]}", "--IdentityProvider.token=secret",
             "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"],
            cwd=clone.folder / "notebooks", env=environment, stdout=log, stderr=log)
    try:
        for _ in range(240):
            try:
                urlopen(f"{address}/api", timeout=1)
                break
            except (URLError, OSError):
                assert server.poll() is None, (tmp_path / "jupyter.log").read_text()
                time.sleep(0.5)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch_persistent_context(
                tmp_path / "profile", executable_path=CHROMIUM, args=FLAGS, viewport={"width": 1200, "height": 1400})
            page = browser.new_page()
            before, after, seconds = move_a_slider(page, f"{address}/lab/tree/06-explore.ipynb", tmp_path)
            # saved with its outputs: the text that the pipeline runs is the same
            notebook = clone.folder / "notebooks" / "06-explore.ipynb"
            text, shown = (notebook.with_suffix(".py").read_bytes(), notebook.read_bytes())
            page.keyboard.press("Control+s")
            for _ in range(60):
                page.wait_for_timeout(500)
                if notebook.read_bytes() != shown:
                    break
            page.wait_for_timeout(1000)
            page.screenshot(path=tmp_path / "saved.png")
            assert notebook.read_bytes() != shown and notebook.with_suffix(".py").read_bytes() == text
            browser.close()
    finally:
        server.terminate()
        server.wait(30)
    print(f"{seconds:.2f} s from the key to the new picture; screenshots in {tmp_path}")
    half = before.shape[1] // 2
    off = np.abs(before - after)[60:]
    assert off[:, half + 20:].mean() > 3 > off[:, :half - 20].mean()  # the turned photo, not the upright one


def move_a_slider(page, address: str, folder: Path):
    """Opens the notebook, runs it, presses a key on the slider `turn`; the picture before and after, and the time."""
    page.set_default_timeout(120_000)
    page.goto(f"{address}?token=secret")
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()  # before that, to run asks which kernel to take
    page.wait_for_timeout(1000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name=re.compile("^Run All Cells")).first.click()
    picture = page.locator("img.widget-image")
    try:
        picture.wait_for()
    finally:
        page.screenshot(path=folder / "before.png")
    picture.scroll_into_view_if_needed()
    page.wait_for_timeout(1000)
    before, source = pixels(picture.screenshot()), picture.get_attribute("src")
    handle = page.locator(".widget-hslider", has_text="turn").locator(".noUi-handle")
    handle.focus()
    began = time.monotonic()
    handle.press("ArrowRight")
    page.wait_for_function("old => document.querySelector('img.widget-image').src !== old", arg=source)
    seconds = time.monotonic() - began
    for _ in range(4):
        handle.press("ArrowRight")
    page.wait_for_timeout(3000)
    page.screenshot(path=folder / "after.png")
    return before, pixels(picture.screenshot()), seconds
