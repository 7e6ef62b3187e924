# %% [markdown]
# # Does it help?
#
# The pipeline trains each of its models once. One run does not tell a difference from noise, and FCOS alone is too weak
# a rival. Someone who wants robustness to turning can train FCOS on turned copies. So this notebook compares a grid of
# models, the main ones with several seeds, which `dvc repro experiments/dvc.yaml` makes. All of them have the settings
# and, for each seed, the photos of the pipeline's models. They train for as many steps, or for twice as many, 3,000:
# those are called *long*. Some train for 6,000 or 12,000.
#
# | model | what it is |
# |---|---|
# | fcos | torchvision's FCOS, with the first boxes of KAOD's circle of keypoints |
# | fcos-zero | torchvision's FCOS with its own start: boxes without size |
# | fcos-2x | FCOS with twice as many photos a step: as much work as two views |
# | fcos-corners-long | FCOS, every second photo a turned copy; its boxes are those of the boxes' turned corners |
# | fcos-turned | the same with the boxes of the turned ellipses inscribed in the boxes, the better guess |
# | fcos-outlines-long | the same with the true boxes, from the outlines: the bound of what labels could give FCOS |
# | head | the keypoint head alone: labels on the photo, no keypoint loss |
# | kaod-paper | the paper's method: two views, labels on the first, keypoint loss with Hungarian matching |
# | kaod-paper-by-index-long | the same without matching: keypoints compared index by index |
# | all-locations-long | kaod-paper with the loss over all locations, the background too |
# | paper-long | kaod-paper as the paper writes it: a sum over all locations, in pixels, and −ln IoU for the boxes |
# | kaod | labels turned back: every second photo turned, one view |
# | kaod-both | two views with labels on both, and the keypoint loss; half the photos a step, so as many views as kaod |
# | kaod-no-kpl | two views with labels on both, of as many photos as kaod, and no keypoint loss |
# | kaod-one-view | on real photos: labels turned back, every second photo turned, one view, no keypoint loss |
# | kaod-both-45 | kaod-both with as many photos as kaod, so twice the views, and turns of up to 45° |
# | kaod-no-kpl-45-long | kaod-both-45 without the keypoint loss, trained for twice as many steps |
# | kaod-attached | kaod-both, compared index by index, with a hinge that keeps keypoints apart |
# | kaod-attached-45-long | the same with as many photos as kaod, turns of up to 45°, twice as many steps |
# | kaod-k8-long, -k32-long, -k48-long | kaod with other numbers of keypoints than 16 |
# | kaod-15-long, -45-, -90-, -180-long | kaod with turns of up to so many degrees in training, in place of 30 |
# | fcos-long, kaod-long, … | the models of these names, trained for twice as many steps |
# | fcos-turned-45-6000, kaod-45-6000, kaod-both-45-6000, … | turns of up to 45°, 6,000 or 12,000 steps |
# | fcos-fpn128, kaod-45-fpn128, … | trained as long, with 128 channels after the backbone in place of 64 |
# | kaod-45-resnet18 | trained as long, with resnet18 as the backbone |
#
# [08-what-do-we-find](08-what-do-we-find.ipynb) takes the paper's findings one by one.

# %% tags=["parameters"]
profile = "shapes"  # a section of params.yaml whose grid was run
sets = ["class5", "dsb_nuclei", "hituav_cars"]  # others, of real photos

# %%
import pandas as pd
from IPython.display import Markdown, display

from experiments import charts, grid, tables
from kaod import params
from kaod.figures.charts import markdown, style

style()
profile, _ = params.load(profile)
models = grid.load()[1]
runs = tables.load(profile)  # one row a figure of a run: model, seed, figure, value
AP = {f"{metric}-{kind}": f"{metric} -{kind}" for kind in ("st", "cr", "rt", "tr") for metric in ("AP50", "AP")}
short, long, further = tables.split(runs, profile, models)  # 1,500 steps, 3,000, and more or another network
absent = tables.not_run(runs, profile, models)
said = f"Not run yet: {', '.join(absent)}. `dvc repro experiments/dvc.yaml` runs them."
Markdown(said if absent else "All models have run.")

# %% [markdown]
# ## The answer in one table
#
# `kaod` stands beside what people do today, FCOS on turned copies, and beside FCOS, the bound and the paper's method.
# The first table is of trainings of twice as many steps as in the pipeline. A difference is the mean over the seeds,
# with its 95 % interval by Student's t. It is *better* or *worse* where the interval does not contain 0. Else it is
# *open*: it is not distinguishable from noise. The sections below explain each figure.

# %%
asked = {"AP, photos as they are": "AP-st", "AP, rotated photos": "AP-rt", "AP50, all turned by 30°": "AP50-turn+30",
         "AP50, all turned by −30°": "AP50-turn-30"}
rivals = ["fcos", "fcos-turned", "kaod-paper"]
claims = {f"{words}, against {rival}": (figure, "kaod-long", f"{rival}-long")
          for rival in [*rivals, "fcos-corners", "fcos-outlines"] for words, figure in asked.items()}
Markdown(tables.verdicts(long, claims))

# %% [markdown]
# The same after the pipeline's number of steps:

# %%
claims = {f"{words}, against {rival}": (figure, "kaod", rival) for rival in rivals for words, figure in asked.items()}
Markdown(tables.verdicts(short, claims))

# %% [markdown]
# ## AP
#
# AP50 is average precision where a detection is right from an IoU of .5 on. AP is COCO's: the mean over ten such bounds
# from .5 to .95. It also asks how well a box fits. The test set has four versions: as it is (-st), rotated (-rt),
# cropped like -rt but not rotated (-cr), and shifted (-tr).
#
# The table gives means over the seeds, with 95 % intervals where there are several seeds. Three seeds make wide
# intervals. A single seed has none. Seed 0 of the pipeline's models is the pipeline's run. Each file in
# `results/shapes/grid/` names its command, commit and hardware.

# %%
Markdown(tables.table(runs, AP))

# %% [markdown]
# What each of them cost: the photos of all steps (each of 1,000 photos comes many times), the views of them that the
# network computed, and the time. Two trainings ran side by side, beside other work, so the minutes tell little more
# than the views do. They are means over the seeds whose training was neither interrupted nor the pipeline's.

# %%
spent = {}
for name in runs["model"].unique():
    of_model = params.apply(profile, models[name])
    photos = of_model.train.steps * of_model.train.batch
    seconds = runs[(runs["model"] == name) & (runs["figure"] == "seconds_per_step")]["value"].mean()
    spent[name] = {"photos": photos, "views": photos * (1 + (of_model.keypoints.kpl or of_model.keypoints.labels == "both")),
                   "minutes": seconds * of_model.train.steps / 60}
Markdown(markdown(pd.DataFrame.from_dict(spent, orient="index"), digits=0))

# %% [markdown]
# ## Against FCOS
#
# Two models with one seed saw the same photos in the same order, if their batches are of one size. So differences are
# taken seed by seed.

# %%
Markdown(tables.table(short, AP, "fcos"))

# %%
Markdown(tables.table(long, AP, "fcos-long"))

# %% [markdown]
# The same as a picture. Bars are 95 % intervals, strokes are the seeds, and a hollow mark is a single seed.

# %%
against = pd.concat([tables.differences(short, "fcos"), tables.differences(long, "fcos-long")])
figure = charts.dots(against, {name: AP[name] for name in ("AP50-st", "AP50-rt", "AP-st", "AP-rt")}, zero=True,
                     xlabel="difference to fcos, or fcos-long", title="AP50 and AP minus those of FCOS")

# %% [markdown]
# ## Against FCOS on turned copies
#
# Training on turned copies is the usual way to robustness. The reference here is `fcos-turned`, whose boxes are the
# better guess. `fcos-outlines-long` is what FCOS would have if somebody knew the true boxes.

# %%
Markdown(tables.table(short, AP, "fcos-turned"))

# %%
Markdown(tables.table(long, AP, "fcos-turned-long"))

# %% [markdown]
# ## With a larger network, or more steps
#
# The network of the drawn shapes is small, so that it trains in minutes. Here are larger ones, and the small one
# trained for 6,000 and 12,000 steps, one seed each. The others trained for 3,000, twice as many as in the pipeline.
# `kaod-both-45` has two views of each photo, so twice the views of the others.

# %%
small = long[long["model"].isin(["fcos-long", "fcos-turned-long", "kaod-45-long", "kaod-both-45-long"]) & (long["seed"] == 0)]
Markdown(tables.table(pd.concat([small, further[further["seed"] == 0]]), AP | {
    "AP50-turn-30": "AP50, all by −30°", "AP50-turn+30": "by 30°", "hull": "hull", "rectangle": "rotated box"}))

# %% [markdown]
# ## On real photos
#
# The profile of each set in params.yaml says what it is. Its `kaod` has two views of each photo, with labels on both,
# the keypoint loss, and turns of up to 90°. `kaod-no-kpl` is the same without the loss, `kaod-one-view` has one view,
# of which every second is turned, at the price of FCOS. All see the same photos, so those with two views compute twice
# as much. `dvc repro experiments/photos/dvc.yaml` makes these runs. The first table of a set has the figures: AP as it
# is and turned, the mask, its ellipse, and rotated boxes, with oriented AP50 as the DOTA devkit counts it. The second
# has the differences to `fcos-turned`, seed by seed.

# %%
columns = {"AP-st": "AP -st", "AP-rt": "AP -rt", "AP50-turn-30": "AP50, all by −30°", "AP50-turn+30": "by 30°"}
shapes = {"hull": "hull", "ellipse": "ellipse", "rectangle": "rotated box", "rectangle_box": "upright box",
          "oriented-AP50": "oriented AP50", "oriented-AP50_box": "upright boxes' AP50"}
real = {name: tables.load(params.load(name)[0]) for name in sets}
for name, of_set in real.items():
    display(Markdown(f"**{name}**\n\n{tables.table(of_set, columns | shapes)}"),
            Markdown(tables.table(of_set, columns, "fcos-turned")))

# %% [markdown]
# What the keypoint loss adds there, to two views with labels on both: `kaod` minus `kaod-no-kpl`.

# %%
for name, of_set in real.items():
    display(Markdown(f"**{name}**\n\n{tables.table(of_set, columns | shapes, 'kaod-no-kpl', {'kaod': 'kaod'})}"))

# %% [markdown]
# ## Turned by any angle
#
# Here the first photos of the test set are all turned by one angle, and cropped. Training turned photos by up to 30°:
# the copies of FCOS, and the views of KAOD. The pictures show AP50 of `kaod-long` minus that of two others, and AP50 of
# `kaod` minus that of three others. The crop differs from angle to angle, so compare models rather than angles. Of 65
# intervals about three do not contain 0 by chance alone. What counts is a pattern, such as neighbouring angles that
# agree.

# %%
figure = charts.by_angle(runs, "kaod-long", ["fcos-long", "fcos-turned-long"])

# %%
figure = charts.by_angle(runs, "kaod", ["fcos", "fcos-turned", "kaod-paper"])

# %% [markdown]
# ## Masks and rotated boxes
#
# The keypoints' hull is a mask that nobody labelled. The first table is its mean IoU with the true outline, over the
# objects that were found. Beside it stand what the box alone gives (filled, or as its inscribed ellipse) and the bound,
# the best that a convex hull could reach. A hull is worth something where it beats the ellipse.

# %%
Markdown(tables.table(runs, {"box": "box", "ellipse": "ellipse", "hull": "hull", "bound": "bound"}))

# %% [markdown]
# The same as AP50 and AP of masks, classes aside:

# %%
Markdown(tables.table(runs, {f"mask-{metric}-{kind}": f"{metric}, {kind}"
                             for kind in ("box", "ellipse", "hull") for metric in ("AP50", "AP")}))

# %% [markdown]
# The rotated box is the smallest rectangle around the keypoints. Its IoU with that of the true outline stands beside
# what the upright box has as it is. The columns on the right are of objects that are at least 1.3 times as long as wide
# and tilted by more than 10°: of others the upright box is right already, or the angle means little.

# %%
Markdown(tables.table(runs, {"rectangle_box": "upright box", "rectangle": "rotated box",
                             "rectangle_box-tilted": "upright box, tilted", "rectangle-tilted": "rotated box, tilted"}))

# %% [markdown]
# ## Where the keypoints stand
#
# *Spread* is the mean distance between two keypoints over the box's diagonal. Near 0 they have collapsed into one
# place. *Overhang* is the share of the hull outside the box; the box is a soft extent of the keypoints, and smaller
# than the hard one.
#
# Whether the keypoints turn with the object is another question:
# [08-what-do-we-find](08-what-do-we-find.ipynb), section 3.

# %%
Markdown(tables.table(runs, {"spread": "spread", "overhang": "overhang"}))
