# %% [markdown]
# # How do upright boxes become rotated boxes and masks?
#
# Your objects have upright boxes, and you want rotated boxes or masks. A KAOD that learned from these very boxes can
# read them off, since its keypoints lie on the object's outline.
#
# It looks at each labelled object in seven turned copies of the photo, and turns the keypoints back. Their hulls' mean,
# scaled to the labelled box, is the mask. The rotated box has the angle of that hull, and sides that agree with the
# labelled box. The *score* says how well the seven copies agree.
#
# A label that is a box says more of some objects than of others. A car fills its rotated box. So its sides follow from
# the angle and the labelled box, and `fills` makes use of that.
#
# This notebook does it for the drawn test photos, whose true outlines are known. For your own, give `annotations` and
# `photos`, and a `model` that was trained on such objects.

# %% tags=["parameters"]
profile = None      # a section of params.yaml; None: the one that params.yaml selects
model = "kaod"      # which of its models

annotations = None  # your own, from this folder or ~/…: a COCO file, or a VOC set's list; None: the profile's test set
photos = None       # the folder that a COCO file's names start from; None: where COCO has it
fills = False       # do the objects fill their rotated boxes, as cars and parcels do?

# %%
from collections import Counter
from pathlib import Path

import torch
from IPython.display import Markdown

from kaod import params, relabel
from kaod.data import files
from kaod.figures import charts
from kaod.training import checkpoints

charts.style(photos=True)
profile, _ = params.load(profile)
torch.set_num_threads(profile.train.threads)  # the same digits on any number of cores
if annotations is None:
    annotations, photos = profile.runs / "warped" / "st.json", profile.data
annotations, photos = Path(annotations).expanduser(), photos and Path(photos).expanduser()

# %% [markdown]
# ## Read them off
#
# The sheet shows the surest objects, the least sure ones, and some at random. Judge the bottom row: are these masks and
# rotated boxes good enough for you? Then look at the middle row: are these worse?

# %%
outlined = annotations.suffix == ".json" and any(
    item.get("segmentation") for item in files.read_json(annotations)["annotations"])
checkpoint, read, told = profile.runs / model / "model.pt", [], None
if relabel.has_hull(checkpoints.load(checkpoint)[0]):
    data, told = relabel.run(checkpoint, annotations, profile.runs / "relabelled", photos,
                             truth=annotations if outlined else None, fills=fills)
    read = [each for photo in data.photos for each in photo.objects]
else:
    print("This model has no keypoints, or two, which span a line: there is nothing to read off.")

# %% [markdown]
# Some objects keep their upright box. This is why, and how many there are:

# %%
reasons = Counter(each.unsure or "read off" for each in read)
Markdown("\n".join(f"- {reason}: {number:,}" for reason, number in reasons.most_common()))

# %% [markdown]
# ## How good are they?
#
# Where outlines are known, this is the mean IoU with them of the mask, of two guesses that need no network (the box
# itself and the ellipse in it), and of the best that a hull can be (*bound*). *Rotated* and *upright* are the IoU of the
# rotated and of the labelled box with the outline's smallest rectangle. *Round* objects are less than 1.3 times as long
# as wide: their angle means nothing. *Upright* ones are tilted by less than 10°. There, the upright box is hard to beat.

# %%
Markdown(charts.markdown(told["groups"].rename_axis("objects that are")) if told else "No outlines are known.")

# %% [markdown]
# By class: masks beside the box, the ellipse in it and the best hull; then rotated boxes beside the upright ones.

# %%
for shown in (["box", "ellipse", "mask", "bound"], ["upright", "rotated"]) if told else ():
    told["classes"][shown].plot.bar(figsize=(8, 2.6), width=0.8, ylabel="mean IoU", xlabel="", rot=0).legend(
        loc="upper left", bbox_to_anchor=(1, 1))

# %% [markdown]
# Does the score sort good from bad? The same by quarter of the score, the least sure first:

# %%
Markdown(charts.markdown(told["quarters"].rename_axis("quarter")) if told else "No outlines are known.")

# %% [markdown]
# ## Where the files are
#
# In `runs/<profile>/relabelled/`: `annotations.json` is your file with masks and rotated boxes added, and all else as it
# was. `dota/` and `yolo/` have the rotated boxes for DOTA's and YOLO-OBB's tools, `SegmentationObject/` and
# `SegmentationClass/` the masks if your data is VOC's. `left.txt` names each object that kept its upright box.
#
# The same from the shell: `python -m kaod.relabel`, see [Your own data](../docs/own-data.md).
