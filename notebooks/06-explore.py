# %% [markdown]
# # What happens when I turn it?
#
# Move a slider, and the photo turns: the boxes, the rotated boxes, the masks and the keypoints follow, or fail to. A keypoint has the
# colour of its partner in the photo as it is, so where colours stay on their part of the object, the keypoint turned with it.
#
# The sliders need a running kernel: open this notebook with `jupyter lab notebooks` and run all cells. They also need a trained model:
# the pipeline's `kaod` is taken if it is there; if not, the second cell names the one command that trains it.

# %% tags=["parameters"]
profile = None  # a section of params.yaml; None: the one that params.yaml selects

own = None      # a photo of your own: a path (from this folder, or ~/…), a folder, or a pattern; None: the test photos
photo = 10      # which of them comes first
angle = 30      # degrees, clockwise

# %%
from IPython.display import Image

from kaod import params
from kaod.figures import explore

profile, _ = params.load(profile)
models = explore.checkpoints(profile)  # {name: path}, the pipeline's KAOD first
photos = explore.photos(profile, own)

# %% [markdown]
# ## One turn

# %%
first = next(iter(models.values()))
Image(explore.frame(first, photos[min(photo, len(photos) - 1)], angle))

# %% [markdown]
# ## Yours to move
#
# *photo* is its number; *turn* is in degrees, clockwise; *to the right* and *down* are shares of the photo's width and height; detections with less than the
# *least score* are not drawn. Every model that was trained here can be chosen: `grid/…` are those of the experiments, and FCOS has
# boxes only. For other numbers of keypoints than the pipeline's, in the repository's folder
# `dvc repro experiments/dvc.yaml:train@kpl-hm-k8-0` trains a model with 8 and
# `…:train@kpl-hm-k32-0` one with 32, in some minutes each. What comes into view from outside the photo is its reflection, as in training.

# %%
explore.sliders(models, photos, photo, angle)

# %% [markdown]
# Things to try: choose a model with 8 or with 32 keypoints. Turn by more than the 30° that training saw. Compare `kaod` with `grid/no-kpl-0`, if you have it: the same network without
# the keypoint loss. Move an object half out of the frame.
