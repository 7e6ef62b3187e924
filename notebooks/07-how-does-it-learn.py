# %% [markdown]
# # How does it learn?
#
# Training adds up three losses: the classes, the boxes, and the centerness (how near a location is to its object's
# middle). `kaod-paper` has the keypoint loss as a fourth. It compares the keypoints of two views of a photo, and has
# two easy ways out. Keypoints that all lie in one place have no loss, and are worth nothing: the collapse gauge below
# shows them. A round ring of keypoints that does not turn with the object has a small loss after matching, too. So a
# low keypoint loss does not say that keypoints turn. [02-results](02-results.ipynb) has figures that do.
#
# This notebook shows trainings that ended. TensorBoard shows one under way: `tensorboard --logdir scratch`.

# %% tags=["parameters"]
profile = None  # a section of params.yaml; None: the one that params.yaml selects

photo = 107     # of the test set; its objects are shown from before to after training
share = 100     # photos of the test set that AP is measured on along the way

# %%
from dataclasses import replace

import pandas as pd
import torch

from kaod import losses, params, predict, train
from kaod.evaluation import ap, evaluate
from kaod.figures import charts, idea
from kaod.figures.photos import strip
from kaod.training import checkpoints

charts.style()
profile, models = params.load(profile)
torch.set_num_threads(profile.train.threads)  # the same digits on any number of cores
logs = {name: pd.read_csv(profile.runs / name / "losses.tsv", sep="\t") for name in models}

# %% [markdown]
# ## The losses
#
# Running means over 20 steps. The models learn from other views: `fcos` and `kaod-paper` from photos as they are, the
# others from turned ones. So compare the shapes of the curves, not their heights. The keypoint loss may rise at first.
# The keypoints start on a circle, which has a small loss because it looks nearly the same when it is turned. The loss
# grows as they move out to the box.

# %%
figure = charts.losses(logs)

# %% [markdown]
# ## The collapse gauge
#
# The gauge is the mean distance between two keypoints of an object, over its box's diagonal. It is 0 if all lie in one
# place. The dashed line is the value of keypoints at equal distances along the outline of a square box.

# %%
square = torch.tensor([[0.0, 0, 1, 1]]).double()
k = train.keypoint_count(profile)
even = losses.spread(idea.on_outline([(0, 0), (1, 0), (1, 1), (0, 1)], k)[None], square).item()
figure = charts.gauge(logs, even)

# %% [markdown]
# Whether keypoints collapse also depends on the seed. [08-what-do-we-find](08-what-do-we-find.ipynb) has the gauge for
# several.
#
# ## AP50 on the way
#
# AP50 on the first photos of the test set, with the weights that training kept at a few moments. The last point is the
# trained model. Its AP50 on all photos is in [02-results](02-results.ipynb). Where one model is ahead at the end but
# not on the way, a longer training may give another order.

# %%
test = evaluate.test_set(profile, "st")
part = replace(test, samples=test.samples[:share])
kept, ap50 = {}, {}
for name, log in logs.items():
    snapshots = sorted((profile.runs / name / "snapshots").glob("*.pt"))
    kept[name] = {int(path.stem): path for path in snapshots} | {len(log): profile.runs / name / "model.pt"}
    ap50[name] = {}
    for step, path in kept[name].items():
        detector, _, _ = checkpoints.load(path, detection=profile.evaluate)
        found = evaluate.detect(detector, part.samples, profile.evaluate.batch)
        ap50[name][step] = ap.ap50(part, found, profile.evaluate.ap, profile.evaluate.detections)
figure = charts.curves(ap50, f"AP50 of {len(part.samples)} photos over the training")

# %% [markdown]
# ## The same objects, from before to after
#
# Each row is one object, and each column a moment of the training. The K keypoints are those that the network predicts
# at the location in the middle of the object, whether or not it would report that object. Where objects overlap, it may
# take one for the other. White dashes are the labelled box. Before training, the keypoints lie roughly on a circle
# around the location. The circle's radius depends only on the level of the feature pyramid.

# %%
sample = test.samples[min(photo, len(test.samples) - 1)]
moments = {f"{step:,} steps": predict.at_objects(checkpoints.load(path)[0], sample)
           for step, path in kept.get("kaod", {}).items()}
charts.style(photos=True)
figure = strip(sample, moments, test.classes) if any(moments.values()) else None
