# %% [markdown]
# # What does it see?
#
# Each photo is shown twice: as it is, and turned. The columns are the ground truth and the pipeline's models. FCOS
# knows upright boxes only; `fcos-turned` learned from turned copies, too. KAOD's upright boxes (dashed) come from its
# keypoints. The keypoints also give a rotated box and a mask, their convex hull. `kaod-paper` was trained as the paper
# says. `kaod` also learned from turned photos, whose keypoints turn back to the label: its points should lie on the
# outlines.
#
# A keypoint's colour is its place in the list. Look at two things in the turned photos. Does the *hull* follow the
# object? And does each *colour* keep to its part of the object, or to its side of the photo: up, down, left or right?
# [02-results](02-results.ipynb) has the figures.

# %% tags=["parameters"]
profile = None       # a section of params.yaml; None: the one that params.yaml selects
names = None         # whose runs/<profile>/NAME/model.pt is shown; None: the pipeline's models
picture = "what-it-sees"  # results/<profile>/NAME.png

photos = [297, 240]  # of the test set; these have objects well apart
least = 0.4          # scores below are not drawn

# %%
import torch

from kaod import params
from kaod.evaluation import evaluate
from kaod.figures import charts
from kaod.figures.photos import best, grid
from kaod.training import checkpoints

charts.style(photos=True)
profile, models = params.load(profile)
torch.set_num_threads(profile.train.threads)  # the same digits on any number of cores
upright, turned = evaluate.test_set(profile, "st"), evaluate.test_set(profile, "rt")

# %%
samples = [each.samples[i % len(each.samples)] for i in photos for each in (upright, turned)]
columns = {}
for name in names or models:
    detector, *_ = checkpoints.load(profile.runs / name / "model.pt", detection=profile.evaluate)
    found = evaluate.detect(detector, samples, 1)
    columns[name.removeprefix("grid/").removesuffix("-0")] = [best(each, least) for each in found]

# %%
rows = [(("as it is", "turned")[i % 2], [(sample, None), *((sample, found[i]) for found in columns.values())])
        for i, sample in enumerate(samples)]
figure = grid(rows, upright.classes, ["ground truth", *columns])
charts.save(figure, profile.results / f"{picture}.png")

# %% [markdown]
# The training was short and the data set is small, so look for the pattern, not for perfection. Which objects are found
# in both rows? Where do the points of `kaod` lie, and where those of `kaod-paper`?

# %% [markdown]
# ## Keypoints that stay on their part
#
# The colours above keep to their side of the photo. A model of the experiments was asked for more. For
# `kaod-attached-45-long` both views have labels, turns go up to 45°, and the keypoint loss compares the views index by
# index, while a hinge keeps keypoints apart. This picture is of the drawn shapes; `dvc repro
# experiments/dvc.yaml:attached` makes it, by this notebook.
#
# ![Two drawn photos, as they are and turned, and what kaod-attached-45-long sees in them](../results/shapes/attached.png)
#
# The colours turn with the object: where photos turn by 30°, the turn that fits its keypoints best is 25°. It pays for
# that with AP: 0.565, where `kaod-long` has 0.667. [08](08-what-do-we-find.ipynb) has more figures.
