# %% [markdown]
# # What did the paper find, and what do we find?
#
# The paper's section 6 is frank about its method's weak spots. Here each of its findings stands beside what this repository measured.
#
# **Read the two apart.** The paper trained on VOC and COCO for days; our figures are of a toy set of drawn shapes and of short trainings
# from scratch. They can show whether an effect is there, and which way it points. They cannot confirm or refute the paper's digits.

# %% tags=["parameters"]
profile = "shapes"  # a section of params.yaml whose grid was run
keypoints = 16      # K of its models

# %%
import torch
from IPython.display import Markdown

from experiments import findings, grid
from kaod import ROOT, losses, params
from kaod.data import files
from kaod.figures import drawings, plots

plots.style()
profile, _ = params.load(profile)
models = grid.load()[1]
table = findings.load(profile, "grid")  # means over the seeds, with 95 % intervals
Markdown(findings.missing(table, grid.of_table(models, "grid")))

# %% [markdown]
# ## 1. Is training slow?
#
# *The paper:* yes. Every location's keypoints are mapped and matched, and twice the keypoints (K from 16 to 32) take twice the time.
#
# *Here* only the locations where an object is are compared: hundreds of matchings a step in place of tens of thousands. What is left of
# the cost is the second view, which is a second photo to the network. Times of a step as ratios, the two measured in turn so that what
# else the machine does hits both (`benchmarks/train_step.py`, on two threads of a CPU, in the small network of the drawn shapes):

# %%
benchmark = files.read_json(ROOT / "results" / "benchmarks" / "train_step-cpu.json")
Markdown(findings.ratios(benchmark, {
    "KAOD-16 / FCOS on the same two views": "KAOD with both views over FCOS on as many photos",
    "keypoint loss / none": "KAOD with the keypoint loss over KAOD without it, which sees one view",
    "all locations / foreground": "all locations, as in the paper, over foreground only",
    "matching / index to index": "Hungarian matching over none"}))

# %% [markdown]
# What more keypoints cost, measured alike:

# %%
figure = findings.cost_of_k(benchmark)

# %% [markdown]
# And what they bring: the same training with 8, 16 and 32 keypoints. How the figures on the right are meant stands in sections 3 and 5.

# %%
Markdown(findings.by_k(table, {8: "kpl-hm-k8", 16: "kpl-hm", 32: "kpl-hm-k32"}))

# %% [markdown]
# ## 2. Does it need more iterations?
#
# *The paper:* with the keypoint loss, up to three times as many.
#
# *Here* a few models had a longer training (names in -long), with the hues of the training photos turned at random, so that shape alone
# tells the classes. AP50 of the test photos was measured on the way:

# %%
long = findings.load(profile, "long")
curves = findings.learning(long, {name: params.apply(profile, models[name]).train.steps for name in long})
figure = plots.curves(curves, "AP50 on -st over the longer trainings") if curves else None
Markdown(findings.missing(long, grid.of_table(models, "long")))

# %% [markdown]
# How many steps did each take? The first measured step at which it had 90 % of FCOS's final AP50, and of its own:

# %%
Markdown(findings.reached(curves, "fcos-long"))

# %% [markdown]
# Three limits. The learning rate falls as a cosine to 0 at the last step, so an AP on the way is not that of a training that ends there:
# these are no converged figures, and the last steps gain much by the schedule alone. Steps are only as fine as they were measured. And
# a seed or two are a draw or two. A step with two views also takes more time than one of FCOS or of no-kpl (section 1).

# %% [markdown]
# ## 3. Do the keypoints collapse?
#
# *The paper:* mostly. All in the centre of the box is the easy way to be consistent.
#
# *Here* the gauge is the mean distance between two keypoints, the *spread*. The keypoints start apart, on a circle, and are matched
# before they are compared.

# %%
square = torch.tensor([[0.0, 0, 1, 1]]).double()
even = losses.spread(drawings.on_outline([(0, 0), (1, 0), (1, 1), (0, 1)], keypoints)[None], square).item()
figure = findings.spreads(table, even)
Markdown(findings.collapsed(table, even))

# %% [markdown]
# And are they consistent? The distance of keypoints of a turned photo from those of the photo itself; less is better. It counts only
# where the gauge above is not near 0.

# %%
figure = findings.repeatability(table)

# %% [markdown]
# ## 4. Is it better than FCOS on turned photos?
#
# *The paper:* in one of the two settings on VOC (ResNet-50: .594 against .591; with ResNet-101 .610 against .627), and not on COCO. On
# photos as they are, and on shifted ones, FCOS is ahead.
#
# *Here* the crop that goes with a turn is told apart from the turn itself: -cr is cropped like -rt, but not turned, so AP50 on -rt minus
# that on -cr is what the turn costs. A model that does not mind turning is at 0.

# %%
figure = findings.turning(table)

# %%
versions = {"AP50-st": "AP50 -st", "AP50-cr": "-cr", "AP50-rt": "-rt", "AP50-tr": "-tr"}
Markdown(plots.grid_table(table, versions, "fcos"))

# %% [markdown]
# Differences to FCOS, seed by seed. A single seed has no interval: one draw.
#
# The drawn objects have typical colours, which no turn changes. In the longer trainings of section 2 a class is known by its shape alone,
# and a turned photo is a harder one. Differences to FCOS there, also with all photos turned by one angle:

# %%
turns = {f"AP50-turn{angle}": f"{angle}°" for angle in (-90, -60, -30, 30, 60, 90)}
Markdown(plots.grid_table(long, versions | turns, "fcos-long") if long else "Not run yet.")

# %%
figure = findings.grid_sweep(long) if long else None

# %% [markdown]
# ## 5. How good are the masks and the rotated boxes?
#
# *The paper* shows both in pictures and proposes to measure masks, but does not.
#
# *Here* the drawn objects' outlines are known. A mask from keypoints is worth something where it is better than what the box alone
# would give: the box itself, or the ellipse inscribed in it. No convex mask could pass the bound.

# %%
figure = findings.outlines(table)

# %%
Markdown(plots.grid_table(table, {"box": "box", "ellipse": "ellipse", "hull": "hull", "bound": "bound", "overhang": "overhang"}))

# %% [markdown]
# *Overhang* is the share of the hull that lies outside its box.
#
# The rotated box is the minimum-area rectangle of the keypoints. Its IoU with that of the true outline, beside the upright box taken for
# a rotated one: it has to beat that, and on objects whose own rectangle is nearly upright, or nearly a square, that is hard.

# %%
Markdown(plots.grid_table(table, {"rectangle": "keypoints' rectangle", "rectangle_box": "the upright box"}))

# %% [markdown]
# ## In short
#
# KAOD with keypoint loss and matching (kpl-hm), on this toy set. "Better" and "worse" stand where the 95 % interval does not contain 0.

# %%
Markdown("\n".join([
    f"- {findings.collapsed(table, even)}",
    findings.verdict(table, "AP50-st", "kpl-hm", "fcos", "AP50 on photos as they are"),
    findings.verdict(table, "AP50-rt", "kpl-hm", "fcos", "AP50 on turned photos"),
    findings.verdict(table, "AP50-rt", "fcos-2x", "fcos", "AP50 on turned photos, had FCOS the same work"),
    findings.verdict(table, "AP50-rt", "kpl-hm", "fcos-ellipse", "AP50 on turned photos, had FCOS turned copies"),
    findings.verdict(table, "AP50-rt", "kpl-hm", "no-kpl", "AP50 on turned photos, the loss alone"),
    findings.verdict(long, "AP50-rt", "kpl-hm-long", "fcos-long", "AP50 on turned photos, longer trainings on photos of any colour"),
    findings.verdict(table, "hull", "kpl-hm", "no-kpl", "the hull's IoU with the outline, the loss alone"),
    findings.verdict(table, "rectangle", "kpl-hm", "no-kpl", "the rotated box's IoU with the outline's, the loss alone"),
    findings.verdict(table, "repeatability30", "kpl-hm", "no-kpl", "how far keypoints stray when the photo turns by 30°, the loss alone", less=True)]))
