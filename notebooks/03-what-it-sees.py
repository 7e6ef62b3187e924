# %% [markdown]
# # What does it see?
#
# The same photos twice: as they are, and turned. From left to right: the ground truth; FCOS, which knows upright boxes
# only; KAOD trained without the keypoint loss; and with it. KAOD's upright boxes (dashed) come from its keypoints, and those give a
# rotated box and a mask (their convex hull) for free.
#
# A keypoint's colour is its place in the list, and in the turned photo each keypoint has the colour of its partner in the photo
# above. If colours stay on the same part of the object, the keypoints turned with it. Grey keypoints have no partner: the object
# was not found above, or in another place.

# %% tags=["parameters"]
profile = None       # a section of params.yaml; None: the one that params.yaml selects

photos = [297, 240]  # of the test set; these have objects well apart
least = 0.4          # scores below are not drawn

# %%
import torch

from kaod import model, params
from kaod.data import datasets, files
from kaod.evaluation import evaluate
from kaod.figures import plots

plots.style(photos=True)
profile, models = params.load(profile)
torch.set_num_threads(profile.train.threads)  # the same digits on any number of cores
upright = datasets.load(profile, profile.test_sets)
turned = datasets.load(profile, profile.test_sets, profile.runs / "warped" / "rt")
maps = files.read_json(profile.runs / "warped" / "rt" / "maps.json")

# %%
pairs = [(upright.samples[i % len(upright.samples)], turned.samples[i % len(turned.samples)]) for i in photos]
columns = {}
for name in models:
    detector, classes, _ = model.load(profile.runs / name / "model.pt", detection=profile.evaluate)
    found = [plots.best(each, least) for each in evaluate.detect(detector, sum(pairs, ()), 1)]
    for i, (sample, _) in enumerate(pairs):
        if "keypoints" in found[2 * i]:
            found[2 * i + 1] = plots.follow(found[2 * i], found[2 * i + 1], maps[sample.name])
    columns[name] = found

# %%
figure = plots.before_and_after(pairs, columns, [maps[sample.name] for sample, _ in pairs], upright.classes)
plots.save(figure, profile.results / "what-it-sees.png")

# %% [markdown]
# After a short training on a small data set, look for the pattern, not for perfection: which objects are found in both rows,
# and whether the coloured points keep to the same parts of them.
