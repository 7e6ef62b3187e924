# %% [markdown]
# # What does it see?
#
# Each photo is shown twice: as it is, and turned. The columns are the ground truth, FCOS, KAOD without the keypoint
# loss, and KAOD with it. FCOS knows upright boxes only. KAOD's upright boxes (dashed) come from its keypoints. The
# keypoints also give a rotated box and a mask, their convex hull.
#
# A keypoint's colour is its place in the list. In the turned photo each keypoint has the colour of its partner in the
# photo above. If colours stay on the same part of the object, the keypoints turned with it. Grey keypoints have no
# partner: the object was not found above, or was found in another place.

# %% tags=["parameters"]
profile = None       # a section of params.yaml; None: the one that params.yaml selects

photos = [297, 240]  # of the test set; these have objects well apart
least = 0.4          # scores below are not drawn

# %%
import torch

from kaod import params
from kaod.data import files
from kaod.evaluation import evaluate
from kaod.figures import charts
from kaod.figures.photos import before_and_after, best, follow
from kaod.training import checkpoints

charts.style(photos=True)
profile, models = params.load(profile)
torch.set_num_threads(profile.train.threads)  # the same digits on any number of cores
upright, turned = evaluate.test_set(profile, "st"), evaluate.test_set(profile, "rt")
maps = files.read_json(profile.runs / "warped" / "rt" / "maps.json")

# %%
pairs = [(upright.samples[i % len(upright.samples)], turned.samples[i % len(turned.samples)]) for i in photos]
columns = {}
for name in models:
    detector, classes, _ = checkpoints.load(profile.runs / name / "model.pt", detection=profile.evaluate)
    found = [best(each, least) for each in evaluate.detect(detector, sum(pairs, ()), 1)]
    for i, (sample, _) in enumerate(pairs):
        if "keypoints" in found[2 * i]:
            found[2 * i + 1] = follow(found[2 * i], found[2 * i + 1], maps[sample.name])
    columns[name] = found

# %%
figure = before_and_after(pairs, columns, [maps[sample.name] for sample, _ in pairs], upright.classes)
charts.save(figure, profile.results / "what-it-sees.png")

# %% [markdown]
# The training was short and the data set is small, so look for the pattern, not for perfection. Which objects are found
# in both rows? Do the coloured points keep to the same parts of them?
