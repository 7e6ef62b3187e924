# %% [markdown]
# # What is in the data?
#
# A detector learns from photos with a box around each object. Some data sets also have the objects' outlines
# (*polygons*). They serve to judge masks and to count vertices. Training does not see them.
#
# A model is tested on several versions of the same photos: **-st** as they are, **-rt** turned by a random angle,
# **-cr** cropped like -rt but not turned, **-tr** shifted. All are cropped so that no empty border is left. The box of
# an object in a turned photo is the box of its turned outline. Where no outline is known, it is the box of the turned
# corners of the box, which is too large.

# %% tags=["parameters"]
profile = None  # a section of params.yaml; None: the one that params.yaml selects

photos = 4   # how many photos to show, the first ones with at least `objects` objects, or with the most there are
objects = 2

# %%
from IPython.display import Markdown

from kaod import params
from kaod.data import datasets, warp
from kaod.evaluation import evaluate
from kaod.figures import charts
from kaod.figures.photos import grid

charts.style(photos=True)
profile, _ = params.load(profile)
training = datasets.load(profile, profile.train_sets)
tests = {kind: evaluate.test_set(profile, kind).samples for kind in warp.NAMES}

# %% [markdown]
# ## The same photos in each version
#
# Filled outlines where they are known, the labelled boxes (dashed), and the classes. An object of which less than a
# quarter is left in the frame is *ignored* (grey): finding it counts neither as right nor as wrong.

# %%
counts = [(~sample.ignore).sum() for sample in tests["st"]]
chosen = [i for i, count in enumerate(counts) if count >= min(objects, max(counts))][:photos]
figure = grid([(f"-{kind}: {warp.NAMES[kind]}", [(samples[i], None) for i in chosen])
               for kind, samples in tests.items()], training.classes)

# %% [markdown]
# ## How much there is
#
# Each set in photos and objects:

# %%
Markdown(charts.data_table({"training": training.samples} | {f"test -{kind}": each for kind, each in tests.items()}))

# %%
charts.style()  # from here on PNG: charts
figure = charts.class_counts({"training": training.samples, "test": tests["st"]}, training.classes)

# %% [markdown]
# ## How large the objects are
#
# A detector finds small objects on the fine levels of its feature pyramid, and large ones on the coarse levels. The
# sizes here are in pixels of the photos as they are stored. The crop of -rt keeps the middle of a photo. It cuts some
# large objects, so sizes go down. The detector sees every photo at one size: *after resizing*, the objects of a cropped
# photo are larger than before.

# %%
figure = charts.object_sizes({"training": training.samples} | {f"test -{kind}": tests[kind]
                                                               for kind in ("st", "rt", "tr")})
