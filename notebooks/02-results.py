# %% [markdown]
# # What are the results?
#
# Every model was tested four times: on the test photos as they are (**-st**), **r**o**t**ated by up to 30° either way
# (**-rt**), and shifted (**-tr**), as in the paper; and cropped like -rt but not turned (**-cr**), which tells what
# of a change on -rt is due to the crop: it cuts some objects, and what is left is larger after resizing, as the detector sees every
# photo at one size.
#
# Each model was trained once, with one seed: differences of a few hundredths may be chance.
# [04-does-it-help](04-does-it-help.ipynb) has several seeds.

# %% tags=["parameters"]
profile = None  # a section of params.yaml; None: the one that params.yaml selects

# %%
from IPython.display import Markdown

from kaod import ROOT, params
from kaod.data import files
from kaod.figures import plots

plots.style()
profile, models = params.load(profile)
metrics = {name: files.read_json(profile.results / "metrics" / f"{name}.json") for name in models}

# %% [markdown]
# ## Average precision
#
# The figure is **AP50**: average precision where a detection is right from an IoU of .5 on, the mean over classes, as VOC has it. It is not
# COCO's AP, which is the mean over ten such bounds from .5 to .95 and therefore much lower; that one is in the metrics files
# (`coco`). The ground truth of a turned photo is the box of the object's turned
# outline where outlines are known, else the box of the turned corners of its box, which is looser.

# %%
Markdown(plots.results_table(metrics))

# %%
figure = plots.ap_bars(metrics, f"AP50 on four versions of the test set: {profile.name}")
plots.save(figure, profile.results / "ap50.png")

# %% [markdown]
# How much does turning cost, beyond what the crop costs?

# %%
Markdown("\n".join(f"- {name}: -rt minus -cr {each['rt']['AP50'] - each['cr']['AP50']:+.3f}" for name, each in metrics.items()))

# %% [markdown]
# ## Turned by any angle
#
# The first photos of the test set, all turned by one angle. Beyond 30° neither the photos nor the second view of the
# keypoint loss went. The crop differs from angle to angle, so compare the models, not the angles.

# %%
if all("sweep" in each for each in metrics.values()):
    figure = plots.sweep(metrics, f"AP50 against the turn: {profile.name}")

# %% [markdown]
# ## Shape
#
# The keypoints' hull is a coarse mask that no label asked for. How well does it cover the object, for the objects that were
# found? Beside it: what the box alone would give, filled or as an inscribed ellipse, and the best that any convex hull could
# reach. The *spread* is the mean distance between two keypoints over the box's diagonal: near 0, the keypoints have collapsed
# into one point, and their consistency means nothing.

# %%
Markdown(plots.shape_table(metrics) or "No outlines are known for this test set.")

# %% [markdown]
# As masks, classes aside: AP at IoU .5. And the rotated box: IoU of the keypoints' minimum-area rectangle with the true
# outline's, beside the upright box as it is.

# %%
Markdown(plots.mask_table(metrics) or "No outlines are known for this test set.")

# %%
Markdown(plots.rectangle_table(metrics) or "No outlines are known for this test set.")

# %% [markdown]
# ## By class
#
# One seed, and in the drawn test set about a hundred objects a class: even a tenth may be chance here.

# %%
first, second = list(metrics)[0], list(metrics)[-1]
if first != second:
    figure = plots.class_differences(metrics, first, second)

# %% [markdown]
# ## The paper's tables
#
# The paper's Tables 1 and 2 switch the keypoint loss (KPL) and its Hungarian matching (HM) on and off. First the same rows on the
# **toy set** of drawn shapes, short trainings from scratch: means over the seeds, with 95 % intervals where there are several, from the
# grid that [04-does-it-help](04-does-it-help.ipynb) looks into.

# %%
grid = files.read_json(ROOT / "results" / "shapes" / "grid.json")
rows = {"FCOS": "fcos", "KAOD-16, no KPL": "no-kpl", "KAOD-16, KPL": "kpl", "KAOD-16, KPL and HM": "kpl-hm"}
Markdown(plots.grid_table({row: grid[name] for row, name in rows.items()}, {"AP50-st": "shapes, AP50 -st", "AP50-rt": "-rt", "AP50-tr": "-tr"}))

# %% [markdown]
# And these are the **paper's**, on VOC (its mAP is AP50) and COCO (its mAP is COCO's AP) with large backbones: what to compare with if you have run the profiles `voc` and
# `coco`. Between the two tables only the signs of differences can be compared, never the figures.

# %%
paper = files.read_json(ROOT / "data" / "paper.json")
Markdown(plots.paper_table(paper, "VOC"))

# %%
Markdown(plots.paper_table(paper, "COCO"))
