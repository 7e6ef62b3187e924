# %% [markdown]
# # What are the results?
#
# Every model is tested on four versions of the test photos: as they are (**-st**), rotated by up to 30° either way
# (**-rt**), cropped like -rt but not turned (**-cr**), and shifted (**-tr**). The paper has -st, -rt and -tr. The crop
# of -rt cuts some objects and, after resizing, shows the others larger. So -cr tells how much of a change on -rt is due
# to the crop.
#
# | model | how it was trained |
# |---|---|
# | fcos | torchvision's FCOS, on the photos as they are |
# | fcos-turned | FCOS, every second photo turned; its boxes are those of the ellipses in the labels, as is done today |
# | kaod-paper | the paper: labels on the photo, and the keypoint loss between the photo and a turned view |
# | kaod | our own step: every second photo turned, and its keypoints turned back to the labelled box |
#
# All saw the same photos in as many steps. `kaod-paper` sees two views of each, so its steps take twice as long. Each
# model was trained once, with one seed. A difference of a hundredth or two may be noise. The idea behind `kaod` is
# drawn in [00](00-what-is-the-idea.ipynb).

# %% tags=["parameters"]
profile = None  # a section of params.yaml; None: the one that params.yaml selects

# %%
import pandas as pd
from IPython.display import Markdown

from experiments import tables
from kaod import ROOT, params
from kaod.data import files
from kaod.figures import charts

charts.style()
profile, models = params.load(profile)
details = {name: files.read_json(profile.results / "details" / f"{name}.json") for name in models}

# %% [markdown]
# ## Average precision
#
# **AP** is COCO's average precision: the mean over ten bounds of the IoU, from .5 to .95, and over the classes.
# **AP50** counts a detection as right from an IoU of .5 on, as VOC does, so it is higher. The ground truth of a turned
# photo is the box of the object's turned outline. Where no outline is known, it is the box of the turned corners of the
# box, which is looser.

# %%
Markdown(charts.results_table(details))

# %%
figure = charts.ap_bars(details, f"AP on four versions of the test set: {profile.name}")
charts.save(figure, profile.results / "ap.png")

# %% [markdown]
# How much does turning cost, beyond what the crop costs?

# %%
rt, cr = (pd.DataFrame({name: {ap: each[kind][ap] for ap in ("AP", "AP50")} for name, each in details.items()},
                       dtype=float).T for kind in ("rt", "cr"))
Markdown(charts.markdown((rt - cr).rename_axis("-rt minus -cr")))

# %% [markdown]
# ## Turned by any angle
#
# The first photos of the test set, all turned by one angle. In training views turned by no more than the profile's
# `keypoints.angle`. The crop differs from angle to angle, so compare the models, not the angles.

# %%
if all("sweep" in each for each in details.values()):
    sweeps = {name: {int(angle): found["AP"] for angle, found in each["sweep"].items()}
              for name, each in details.items()}
    figure = charts.curves(sweeps, f"AP against the turn: {profile.name}", "turn in degrees, clockwise", "AP")
    figure.axes[0].set_xticks(range(-90, 91, 30))

# %% [markdown]
# ## Shape
#
# The keypoints' hull is a coarse mask that no label asked for. The table shows its IoU with the outline, over the
# objects that were found. Beside it stands what the box alone would give, filled or as an inscribed ellipse. The bound
# is the best that any convex hull could reach.
#
# The *spread* is the mean distance between two keypoints, over the box's diagonal. A spread near 0 means that the
# keypoints have collapsed into one point.

# %%
Markdown(charts.shape_table(details, "IoU with the outline") or "No outlines are known for this test set.")

# %% [markdown]
# The same as AP50 of masks, all classes together:

# %%
Markdown(charts.shape_table(details, "AP50 of masks") or "No outlines are known for this test set.")

# %% [markdown]
# The rotated box is the keypoints' minimum-area rectangle. The table shows its IoU with that of the true outline, and
# the IoU of the upright box.

# %%
Markdown(charts.shape_table(details, "IoU with the true rectangle") or "No outlines are known for this test set.")

# %% [markdown]
# ## Do the keypoints turn?
#
# Keypoints that belong to an object turn with it. The table compares the keypoints of some test photos with those of
# the same photos turned by 30°, clockwise, at the locations that learn an object:
#
# - the turn that fits the two sets best, keypoint by keypoint;
# - the mean distance of each keypoint from where it was, once turned back, in units of √(box area);
# - the IoU of the hulls of the two sets, once turned back, and without turning back.
#
# Below the models stand sets that do not look at the photo. The first is a model's own keypoints, which went along with
# the object and did not turn. The second is points on the ellipse in the object's box. The last row is keypoints that
# turn. Keypoints turn as far as their turn and their distance are nearer to those of the last row than to those of the
# sets that do not turn. Hulls that agree better without turning back did not turn. The other way round proves nothing:
# the hull of the ellipse follows the object's box.
#
# Nothing is matched here. A ring of K points looks the same after a turn by 360°/K, so a matched distance is small for
# a ring that does not turn at all.

# %%
Markdown(charts.turning_table(details) or "Not measured yet.")

# %% [markdown]
# ## By class
#
# AP50 on -st of each class; a dash where the test set has none. These are figures of one seed, and the drawn test set
# has about a hundred objects a class. Even a difference of a tenth may be noise.

# %%
classes = pd.DataFrame({name: each["st"]["classes"] for name, each in details.items()}, dtype=float)
Markdown(charts.markdown(classes.rename_axis("AP50 on -st")))

# %% [markdown]
# ## The paper's tables
#
# The paper's Tables 1 and 2 switch the keypoint loss (KPL) and its Hungarian matching (HM) on and off. First the same
# rows on the **drawn shapes**, from scratch, trained for twice as many steps as in the pipeline: means over the seeds,
# with 95 % intervals where there are several. [04-does-it-help](04-does-it-help.ipynb) has more models.

# %%
shapes, _ = params.load("shapes")
rows = {"fcos-long": "FCOS", "head-long": "KAOD-16, no KPL", "kaod-paper-by-index-long": "KAOD-16, KPL",
        "kaod-paper-long": "KAOD-16, KPL and HM"}
Markdown(tables.table(tables.load(shapes), {f"{figure}-{kind}": f"{figure} -{kind}" for kind in ("st", "rt", "tr")
                                            for figure in ("AP", "AP50")}, rows=rows))

# %% [markdown]
# These are the **paper's**, with large backbones: first of VOC, then of COCO. `kpl` and `hm` stand for the loss and its
# matching. The mAP on VOC is AP50, and that on COCO is COCO's AP. Compare them with the profiles `voc` and `coco`, if
# you have run them. Between the paper and the drawn shapes only the signs of differences can be compared, never the
# figures.

# %%
paper = pd.read_csv(ROOT / "data" / "paper.csv")
Markdown(charts.paper_table(paper, 1))

# %%
Markdown(charts.paper_table(paper, 2))
