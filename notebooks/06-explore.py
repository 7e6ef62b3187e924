# %% [markdown]
# # What happens when I turn it?
#
# Move a slider, and the photo turns. The boxes, the rotated boxes, the masks and the keypoints follow, or fail to. A
# keypoint's colour is its place in the list. Keypoints that turn with an object would keep each colour on its part of
# it. Keypoints that do not turn keep each colour at its side of the photo.
#
# The sliders need a running kernel: open this notebook with `jupyter lab notebooks` and run all cells. They also need a
# trained model. The pipeline's `kaod` is taken if it is there. If not, the second cell names the command that trains
# it.

# %% tags=["parameters"]
profile = None  # a section of params.yaml; None: the one that params.yaml selects

own = None      # a photo of your own: a path (from this folder, or ~/…), a folder, or a pattern; None: the test photos
photo = 10      # which of them comes first
angle = 30      # degrees, clockwise

# %%
from IPython.display import Image

from kaod import params
from kaod.figures import sliders

profile, _ = params.load(profile)
models = sliders.checkpoints(profile)  # {name: path}, the pipeline's KAOD first
photos = sliders.paths(profile, own)

# %% [markdown]
# ## One turn
#
# Left: the photo as it is. Right: turned by `angle` degrees.

# %%
first = next(iter(models.values()))
Image(sliders.frame(first, photos[min(photo, len(photos) - 1)], angle))

# %% [markdown]
# ## Yours to move
#
# - *model*: every model that was trained here. `grid/…` are those of the experiments. FCOS has boxes only.
# - *photo*: its number.
# - *turn*: degrees, clockwise.
# - *to the right*, *down*: shares of the photo's width and height.
# - *least score*: detections with a lower score are not drawn.
#
# What comes into view from outside the photo is its reflection.

# %%
sliders.panel(models, photos, photo, angle)

# %% [markdown]
# Things to try:
#
# - Turn by more than the 30° of -rt.
# - Move an object half out of the frame.
# - Compare `kaod` with `kaod-paper`, the same network trained as the paper trains it.
# - Choose a model with 8 or with 32 keypoints. In the repository's folder `dvc repro
#   experiments/dvc.yaml:cell@kaod-k8-long-0` trains one with 8 and `…:cell@kaod-k32-long-0` one with 32, in five to
#   twenty minutes each.
