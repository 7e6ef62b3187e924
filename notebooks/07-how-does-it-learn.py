# %% [markdown]
# # How does it learn?
#
# Training adds up four losses: the classes, the boxes, the centerness (how near a location is to its object's middle), and, for KAOD,
# the keypoint loss, which compares the keypoints of two views of a photo. The last one has an easy way out: keypoints that all
# lie in one place are perfectly consistent, and worth nothing. So its curve must be read beside a gauge.

# %% tags=["parameters"]
profile = None  # a section of params.yaml; None: the one that params.yaml selects

live = False    # True: the training that is under way, as far as it has come
photo = 107     # of the test set; its objects are shown from before to after training
share = 100     # photos of the test set that AP is measured on along the way

# %%
import torch

from kaod import ROOT, losses, model, params, predict, train
from kaod.data import datasets, files
from kaod.evaluation import evaluate, metrics
from kaod.figures import drawings, plots

plots.style()
profile, models = params.load(profile)
torch.set_num_threads(profile.train.threads)  # the same digits on any number of cores
folder, log = (ROOT / "scratch" / profile.name, "log.tsv") if live else (profile.runs, "losses.tsv")
logs = {name: files.read_tsv(folder / name / log) for name in models if (folder / name / log).exists()}

# %% [markdown]
# ## The losses
#
# Running means over 20 steps. FCOS has no keypoints. A keypoint loss that rises at first is no mistake: the keypoints start on a small
# circle, where they are consistent by birth, and get further apart as they move out to the box.

# %%
figure = plots.losses(logs)

# %% [markdown]
# ## The collapse gauge
#
# The mean distance between two keypoints of an object, over its box's diagonal: 0 if all lie in one place. The dashed line is what
# keypoints at equal distances along a square box's outline would have.

# %%
square = torch.tensor([[0.0, 0, 1, 1]]).double()
k = train.keypoint_count(profile)
even = losses.spread(drawings.on_outline([(0, 0), (1, 0), (1, 1), (0, 1)], k)[None], square).item()
figure = plots.gauge(logs, even)

# %% [markdown]
# Whether keypoints collapse depends on the seed, too: [08-what-do-we-find](08-what-do-we-find.ipynb) has the gauge for several.
#
# ## What the detections are worth on the way
#
# AP50 on the first photos of the test set, as it is, with the weights that training kept at a few moments. The last point is the
# trained model; its figure on all photos is in [02-results](02-results.ipynb). Where one model is ahead at the end but not on the way, a
# longer training may tell another story.

# %%
test = datasets.load(profile, profile.test_sets)
part = datasets.DataSet(test.classes, test.category_ids, test.samples[:share])
kept, ap50 = {}, {}
for name in logs:
    kept[name] = {int(path.stem): path for path in sorted((folder / name / "snapshots").glob("*.pt"))}
    if not live:
        kept[name][len(logs[name])] = folder / name / "model.pt"
    ap50[name] = {}
    for step, path in kept[name].items():
        found = evaluate.detect(model.load(path, detection=profile.evaluate)[0], part.samples, profile.evaluate.batch)
        ap50[name][step] = metrics.ap50(part, found, profile.layout, profile.evaluate.detections)
figure = plots.curves(ap50, f"AP50 of {len(part.samples)} photos over the training")

# %% [markdown]
# ## The same objects, from before to after
#
# Each row is one object, each column a moment: the K keypoints that the network predicts at the location in the middle of the object,
# whether or not it would report that object; where objects overlap, it may take one for the other. White dashes: the labelled box. Before
# training, the keypoints lie roughly on a circle around the location, of a radius that depends only on the level of the feature pyramid.

# %%
sample = test.samples[min(photo, len(test.samples) - 1)]
moments = {f"{step:,} steps": predict.at_objects(model.load(path)[0], sample) for step, path in kept.get("kaod", {}).items()}
plots.style(photos=True)
figure = plots.strip(sample, moments, test.classes) if any(moments.values()) else None
