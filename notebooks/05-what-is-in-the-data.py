# %% [markdown]
# # What is in the data?
#
# A detector learns from photos with a box around each object. Where the data set also has the objects' outlines (*polygons*), they
# serve to judge masks and to count vertices; training does not see them.
#
# A model is tested on several versions of the same photos, as in the paper: **-st** as they are, **-rt** turned by a random angle,
# **-tr** shifted. Both are cropped so that no empty border is left. The boxes of a turned photo are those of the turned outlines
# where outlines are known; else they are those of the turned corners of the boxes, which are too large.

# %% tags=["parameters"]
profile = None  # a section of params.yaml; None: the one that params.yaml selects

photos = 4   # how many photos to show, the first ones with at least `objects` objects
objects = 2

# %%
from IPython.display import Markdown

from kaod import params
from kaod.data import datasets, kinds
from kaod.figures import data_plots, plots

plots.style(photos=True)
profile, _ = params.load(profile)
training = datasets.load(profile, profile.train_sets)
tests = {kind: datasets.load(profile, profile.test_sets, None if kind == "st" else profile.runs / "warped" / kind).samples
         for kind in kinds.NAMES}

# %% [markdown]
# ## The same photos, three times
#
# Filled outlines where they are known, the labelled boxes (dashed), and the classes. An object of which less than a quarter is left in the frame is
# *ignored* (grey): finding it counts neither as right nor as wrong.

# %%
chosen = [i for i, sample in enumerate(tests["st"]) if (~sample.ignore).sum() >= objects][:photos]
figure = data_plots.versions({kind: [tests[kind][i] for i in chosen] for kind in ("st", "rt", "tr")}, training.classes)

# %% [markdown]
# ## How much there is
#
# Each set in photos and objects; -cr is cropped like -rt, but not turned.

# %%
Markdown(data_plots.data_table({"training": training.samples} | {f"test -{kind}": samples for kind, samples in tests.items()}))

# %%
plots.style()  # from here on PNG: charts
figure = data_plots.class_counts({"training": training.samples, "test": tests["st"]}, training.classes)

# %% [markdown]
# ## How large the objects are
#
# A detector finds small objects on the fine levels of its feature pyramid and large ones on the coarse levels. The crop of -rt
# keeps the middle of a photo, so some large objects are cut, and the sizes
# here, in pixels of the photos as they are stored, go down. The detector sees every photo at one size: *after resizing* the objects of a
# cropped photo are larger than before.

# %%
figure = data_plots.object_sizes({"training": training.samples, "test -st": tests["st"], "test -rt": tests["rt"], "test -tr": tests["tr"]})
