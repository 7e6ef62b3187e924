# %% [markdown]
# # What did the paper find, and what do we find?
#
# The paper's section 6 is frank about the weak spots of its method. Here each of its findings stands beside what this
# repository measured.
#
# **Read the two apart.** The paper trained on VOC and COCO for days. Our figures are of drawn shapes and of short
# trainings from scratch. They show whether an effect is there, and which way it points. They neither confirm nor refute
# the paper's digits.

# %% tags=["parameters"]
profile = "shapes"  # a section of params.yaml whose grid was run
keypoints = 16      # K of its models

# %%
import pandas as pd
import torch
from IPython.display import Markdown

from experiments import charts, grid, tables
from kaod import ROOT, losses, params
from kaod.data import files
from kaod.figures import idea
from kaod.figures.charts import markdown, results_table, shape_table, style, turning_table

style()
profile, _ = params.load(profile)
models = grid.load()[1]
found = tables.load(profile)  # one row a figure of a run: model, seed, figure, value
short, long, _ = tables.split(found, profile, models)  # the pipeline's 1,500 steps, and 3,000
names = ["fcos", "fcos-turned", "head", "kaod-paper", "kaod"]
main, main_long = short[short["model"].isin(names)], long[long["model"].isin([f"{name}-long" for name in names])]
absent = tables.not_run(found, profile, models)
said = f"Not run yet: {', '.join(absent)}. `dvc repro experiments/dvc.yaml` runs them."
Markdown(said if absent else "All models have run.")

# %% [markdown]
# [04-does-it-help](04-does-it-help.ipynb) says what each model is. AP50 is average precision at an IoU of .5, and AP is
# COCO's. A mean over several seeds has a 95 % interval by Student's t; a single seed has none.
#
# ## 1. Is training slow?
#
# *The paper:* yes. Every location's keypoints are mapped and matched, and twice the keypoints (K from 16 to 32) take
# twice the time.
#
# *Here* the loss compares only the locations where an object is: hundreds of matchings a step in place of tens of
# thousands. The cost that is left is the second view, which is a second photo to the network. The table gives ratios of
# a step's time. The two of a ratio were measured in turn, so that other work on the machine hits both
# (`benchmarks/train_step.py`, one thread of a CPU, the small network of the drawn shapes).

# %%
ratios = files.read_json(ROOT / "results" / "benchmarks" / "train_step-cpu.json")["ratios"]
rows = {"KAOD with both views / FCOS on as many photos": "KAOD-16 / FCOS on the same two views",
        "KAOD with the keypoint loss / without it, which sees one view": "keypoint loss / none",
        "all locations, as in the paper / foreground only": "all locations / foreground",
        "Hungarian matching / index by index": "matching / index to index",
        "32 keypoints / 16 (the paper: 2)": "K = 32 / K = 16", "48 keypoints / 16": "K = 48 / K = 16"}
times = pd.Series({words: ratios[name]["median"] for words, name in rows.items()})
Markdown(markdown(times.to_frame("ratio"), digits=2))

# %% [markdown]
# What more keypoints bring is a second question. The next table is of `kaod-long` with 8, 16, 32 and 48 of them, seed 0
# alone. Sections 3 and 5 explain the columns on the right.

# %%
K = {"kaod-k8-long": "K = 8", "kaod-long": "K = 16", "kaod-k32-long": "K = 32", "kaod-k48-long": "K = 48"}
columns = {"AP50-st": "AP50 -st", "AP-st": "AP -st", "AP50-rt": "AP50 -rt", "AP-rt": "AP -rt", "hull": "hull's IoU",
           "rectangle": "rotated box's IoU", "spread": "spread"}
Markdown(tables.table(found[found["seed"] == 0], columns, rows=K))

# %% [markdown]
# ## 2. Does it need more iterations?
#
# *The paper:* with the keypoint loss, up to three times as many.
#
# *Here* AP of the test photos was measured on the way, with all seeds but that of the pipeline's own runs:

# %%
steps, parts = profile.train.steps, profile.train.snapshots
others = main[main["seed"] != profile.train.seed]
on_the_way = others.replace({"figure": {"AP-st": f"AP-after{steps}"}})  # the last point is the trained model
figure = charts.curves(on_the_way, "AP-after", xlabel="steps", ylabel="AP -st", title="AP over the trainings")

# %%
after = {f"AP-after{steps * part // parts}": f"{steps * part // parts:,} steps" for part in range(1, parts + 1)}
Markdown(tables.table(on_the_way, after))

# %% [markdown]
# The same of trainings of twice as many steps:

# %%
steps = params.apply(profile, models["kaod-long"]).train.steps
figure = charts.curves(main_long.replace({"figure": {"AP-st": f"AP-after{steps}"}}), "AP-after", xlabel="steps",
                       ylabel="AP -st", title="AP over the long trainings")

# %% [markdown]
# This has two limits. The learning rate falls as a cosine to 0 at the last step, so AP on the way is not that of a
# training that ends there, and the last steps gain much by the schedule alone. And a step of `kaod-paper`, which has
# two views, takes more time than one of the others (section 1).

# %% [markdown]
# ## 3. Do the keypoints collapse?
#
# *The paper:* mostly. All in the centre of the box is the easy way to be consistent.
#
# *Here* the *spread* tells: the mean distance between two keypoints over the box's diagonal. We speak of a collapse
# below half of what keypoints have that stand evenly on the box's outline. Keypoints start apart, on a circle.

# %%
square = torch.tensor([[0.0, 0, 1, 1]]).double()
even = losses.spread(idea.on_outline([(0, 0), (1, 0), (1, 1), (0, 1)], keypoints)[None], square).item()
figure = charts.spreads(found, even)

# %% [markdown]
# **Do they turn with the object?** The paper does not measure it. [02-results](02-results.ipynb) explains the figures
# below and sets them beside keypoints that do not turn. Keypoints that turn have a turn of 30° and a distance of 0. The
# hulls of keypoints that do not turn may agree better when they are not turned back. `kaod-attached-45-long` was made
# to turn: its keypoints are compared by index, and a hinge keeps them apart.

# %%
turns = {"turn30": "turn found, of 30°", "turn-distance30": "distance after turning back",
         "turn-hull30": "hulls' IoU, turned back", "turn-hull_unturned30": "hulls' IoU, not turned back"}
Markdown(tables.table(found, turns))

# %% [markdown]
# ## 4. Is it better than FCOS on turned photos?
#
# *The paper:* on VOC with ResNet-50 (.594 against .591), but not with ResNet-101 (.610 against .627) and not on COCO.
# On photos as they are, and on shifted ones, FCOS is ahead.
#
# *Here* -cr is cropped like -rt but not turned. AP on -rt minus AP on -cr is therefore what the turn alone costs. A
# model that does not mind turning is at 0.

# %%
figure = charts.dots(tables.turning(found), {"AP50-rt": "AP50", "AP-rt": "AP"}, zero=True, xlabel="-rt minus -cr",
                     title="What a turn costs beyond its crop (strokes: seeds; hollow: one seed)")

# %% [markdown]
# Differences to FCOS, taken seed by seed:

# %%
versions = {f"{metric}-{kind}": f"{metric} -{kind}" for kind in ("st", "cr", "rt", "tr") for metric in ("AP50", "AP")}
Markdown(tables.table(short, versions, "fcos"))

# %%
Markdown(tables.table(long, versions, "fcos-long"))

# %% [markdown]
# The main models with all photos turned by one angle. Training turned photos by up to 30°.

# %%
figure = charts.curves(main, "AP50-turn", xlabel="turn in degrees, clockwise", ylabel="AP50",
                       title="All photos turned by one angle")

# %%
figure = charts.curves(main_long, "AP50-turn", xlabel="turn in degrees, clockwise", ylabel="AP50",
                       title="All photos turned by one angle, after twice as many steps")

# %% [markdown]
# ## 5. How good are the masks and the rotated boxes?
#
# *The paper* shows both in pictures. It proposes to measure the masks, and does not.
#
# *Here* the outlines of the drawn objects are known. A mask from keypoints is worth something where it beats what the
# box alone gives: the box filled, or its inscribed ellipse. No convex mask can pass the bound. The digits are in
# [04-does-it-help](04-does-it-help.ipynb).

# %%
masks = {"box": "the box, filled", "ellipse": "the ellipse in the box", "hull": "the keypoints' hull", "bound": "bound"}
with_keypoints = found[found["model"].isin(found[found["figure"] == "hull"]["model"])]
figure = charts.dots(with_keypoints, masks, xlabel="mean IoU with the true outline, over the objects that were found",
                     title="Masks, trained without labels of masks")

# %% [markdown]
# The rotated box is the smallest rectangle around the keypoints. It has to beat the upright box as it is. That is hard
# where an object's own rectangle is nearly upright, or nearly a square.

# %%
boxes = {"rectangle_box": "the upright box", "rectangle": "the keypoints' rectangle"}
figure = charts.dots(with_keypoints, boxes, xlabel="mean IoU with the true outline's smallest rectangle",
                     title="Rotated boxes, trained without labels of rotated boxes")

# %% [markdown]
# ## 6. What comes after the paper: labels that turn back
#
# The paper's keypoints are only asked to be consistent, and theirs is a ring that does not turn. The pipeline's `kaod`
# asks for more. It learns from turned views whose keypoints turn back to the photo, where the labelled box is exact
# ([00](00-what-is-the-idea.ipynb) draws it). Here are the pipeline's models on the drawn shapes of today, one seed
# each, with `kaod-paper` as the paper's method. [02-results](02-results.ipynb) has more of them.

# %%
_, pipeline = params.load(profile.name)
paths = {name: profile.results / "details" / f"{name}.json" for name in pipeline}
details = {name: files.read_json(path) for name, path in paths.items() if path.exists()}
Markdown(results_table(details) or "Not evaluated yet.")

# %%
Markdown(shape_table(details, "IoU with the outline") or "No outlines are known for this test set.")

# %%
Markdown(turning_table(details) or "Not measured yet.")

# %% [markdown]
# **How far should T turn in training?** `kaod-long` with other angles, seed 0 alone. Wider turns hold up where photos are
# turned further, and cost AP where they are not: the training has more to learn in as many steps.

# %%
T = {"kaod-15-long": "±15°", "kaod-long": "±30°", "kaod-45-long": "±45°", "kaod-90-long": "±90°",
     "kaod-180-long": "±180°"}
columns = {"AP-st": "AP -st", "AP-rt": "AP -rt", "AP50-turn+30": "AP50, all by 30°", "AP50-turn+60": "by 60°",
           "AP50-turn+90": "by 90°", "hull": "hull's IoU", "rectangle": "rotated box's IoU"}
Markdown(tables.table(found[found["seed"] == 0], columns, rows=T))

# %% [markdown]
# ## In short
#
# The paper's method (`kaod-paper`) first, then labels that turn back (`kaod`), on the drawn shapes. *Better* and
# *worse* stand where the 95 % interval does not contain 0. *Open* is not distinguishable from noise.

# %%
sides = [("photos as they are", "kaod-paper", "fcos", "st"), ("rotated photos", "kaod-paper", "fcos", "rt"),
         ("rotated photos, the loss alone", "kaod-paper", "head", "rt"),
         ("photos as they are, labels turned back", "kaod", "fcos", "st"),
         ("rotated photos, labels turned back", "kaod", "fcos", "rt"),
         ("rotated photos, FCOS on turned copies", "kaod", "fcos-turned", "rt"),
         ("rotated photos, what the loss adds at equal views", "kaod-both", "kaod", "rt")]
sides += [(f"{words}, twice as many steps", f"{model}-long", f"{reference}-long", kind)
          for words, model, reference, kind in sides if f"{model}-long" in models and f"{reference}-long" in models]
sides += [("rotated photos, FCOS with the true boxes, twice as many steps", "kaod-long", "fcos-outlines-long", "rt")]
claims = {f"{metric}, {words}": (f"{metric}-{kind}", model, reference)
          for words, model, reference, kind in sides for metric in ("AP50", "AP")}
claims |= {"IoU of the hull with the outline, the paper's loss": ("hull", "kaod-paper", "head"),
           "IoU of the hull with the outline, labels turned back": ("hull", "kaod", "kaod-paper"),
           "IoU of the rotated box, the paper's loss": ("rectangle", "kaod-paper", "head")}
Markdown(tables.verdicts(found, claims))
