# %% [markdown]
# # Does the keypoint loss help?
#
# The pipeline trains each of its models once. That is too little to tell a difference from chance, and FCOS alone is too weak a
# rival: KAOD looks at two views of each photo, so FCOS may see as many; and whoever wants robustness to turning would train
# FCOS on turned copies. So here is a grid, made by `dvc repro experiments/dvc.yaml`:
#
# | model | what it is |
# |---|---|
# | fcos | torchvision's FCOS |
# | fcos-2x | the same, with twice as many photos a step: the same work as two views |
# | fcos-corners, fcos-ellipse | FCOS on turned copies, every other photo; their boxes are those of the turned corners, or of the turned ellipse inscribed in the box |
# | no-kpl | KAOD without keypoint loss |
# | kpl | KAOD with it, keypoints compared index by index |
# | kpl-hm | KAOD with it, and Hungarian matching: the pipeline's `kaod` |
# | kpl-hm-k8, kpl-hm-k32 | the same, with 8 or 32 keypoints in place of 16 |
# | paper | kpl-hm as the paper writes it: the sum over all locations, in pixels, −ln IoU for the boxes |
# | all-locations | kpl-hm, over all locations |
# | supervised | kpl-hm, and the second view learns its classes |
#
# Longer trainings of some of them, on photos of any colour, are in [08-what-do-we-find](08-what-do-we-find.ipynb).

# %% tags=["parameters"]
profile = "shapes"  # a section of params.yaml whose grid was run

# %%
from IPython.display import Markdown

from experiments import findings, grid
from kaod import params
from kaod.data import files
from kaod.figures import plots

plots.style()
profile, _ = params.load(profile)
table = findings.load(profile, "grid")
AP = {"AP50-st": "-st", "AP50-rt": "-rt (rotated)", "AP50-cr": "-cr (cropped like -rt)", "AP50-tr": "-tr (shifted)"}
Markdown(findings.missing(table, grid.of_table(grid.load()[1], "grid")))

# %% [markdown]
# ## AP50, and time
#
# Means over the seeds, with 95 % intervals by Student's t where there is more than one; with three seeds they are wide. A
# single seed has no interval: read it as one draw. Seconds are those of a training step, on the hardware that the cells in
# `results/` name. `all-locations` and `kpl-hm` differ in one thing: whether the loss takes the background, too.

# %%
Markdown(plots.grid_table(table, AP | {"seconds_per_step": "seconds a step"}))

# %% [markdown]
# ## Against FCOS
#
# Two models with one seed saw the same photos in the same order (fcos-2x: twice as many), so differences are taken seed by seed.
# In the picture a hollow mark is a single seed, and a bar a 95 % interval.

# %%
Markdown(plots.grid_table(table, AP, "fcos"))

# %%
figure = findings.differences(table, "fcos")

# %% [markdown]
# ## Against FCOS on turned copies
#
# This is what one would do without KAOD: train FCOS on turned copies. The boxes of those come from the turned ellipses here, the better
# of the two guesses.

# %%
Markdown(plots.grid_table(table, AP, "fcos-ellipse"))

# %% [markdown]
# ## Turned by any angle
#
# The first photos of the test set, all turned by one angle and cropped. The crop differs from angle to angle, so compare the
# models, not the angles. FCOS on turned copies, and the second view of the keypoint loss, turned by up to 30°.

# %%
turned = any("AP50-turn30" in entry["figures"] for entry in table.values())
figure = findings.grid_sweep(table) if turned else None

# %% [markdown]
# And the same as differences: KAOD with the keypoint loss and matching (`kpl-hm`) against FCOS, against KAOD without the loss, and against
# FCOS on turned copies, angle by angle. Three seeds make wide intervals, and there are 39 of them: one in twenty does not contain 0 by
# chance alone. What counts is a pattern, such as neighbouring angles that agree.

# %%
rivals = ["fcos", "no-kpl", "fcos-ellipse"]
figure = findings.by_angle(table, "kpl-hm", rivals) if "kpl-hm" in table else None
Markdown(findings.angles_told(table, "kpl-hm", rivals))

# %% [markdown]
# ## Against KAOD without keypoint loss
#
# This tells the loss from the head.

# %%
Markdown(plots.grid_table(table, AP | {"hull": "hull's IoU with the outline"}, "no-kpl"))

# %% [markdown]
# ## Shape
#
# IoU with the true outline of the objects that were found: the keypoints' hull, beside what the box alone gives, and the best that
# a convex hull could reach. *Spread* is the mean distance between keypoints over the box's diagonal; near 0 they have
# collapsed. *Overhang* is the share of the hull that lies outside the box: the box is a soft extent of the keypoints, smaller
# than the hard one.

# %%
Markdown(plots.grid_table(table, {"box": "box filled", "ellipse": "inscribed ellipse", "hull": "hull", "bound": "bound",
                                  "spread": "spread", "overhang": "overhang"}))

# %% [markdown]
# The same as AP50 of masks, classes aside; and the rotated box: IoU of the keypoints' minimum-area rectangle with that of the true
# outline, beside the upright box as it is.

# %%
masks = {"mask-AP50-box": "box filled", "mask-AP50-ellipse": "inscribed ellipse", "mask-AP50-hull": "hull",
         "rectangle_box": "rotated box: the upright one", "rectangle": "rotated box: keypoints'"}
known = any(entry["figures"].keys() & masks.keys() for entry in table.values())
Markdown(plots.grid_table(table, masks) if known else "Not in the figures of these cells.")

# %% [markdown]
# ## Repeatability
#
# The core claim, measured: a photo is turned, keypoints are predicted on both, and those of the turned one are turned back.
# How far are they from their partners? A collapsed set would be near 0 as well, so read it beside the spread above.

# %%
figure = findings.repeatability(table)

# %% [markdown]
# ## Other detectors
#
# Any detector can be evaluated on these test sets by its results in COCO's format (see the README). Here are two of torchvision's, with
# the backbone, photos, steps and schedule of `fcos`, one seed each; `experiments/other_detectors.py` trains them.

# %%
others = {path.stem: files.read_json(path) for path in sorted((profile.results / "detectors").glob("*.json"))}
Markdown(plots.results_table(others) if others else "None was evaluated.")
