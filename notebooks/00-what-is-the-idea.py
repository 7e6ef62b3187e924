# %% [markdown]
# # What is the idea?
#
# An object detector answers with upright boxes. Turn the photo, and the box around the same object becomes another one,
# mostly too large; what turned with the object is lost. Jaiswal et al. (*Keypoints-aware Object Detection*, KAOD) let the
# detector describe an object by **K keypoints** instead. Nobody labels them. Two things teach them where to lie: their box has
# to be the labelled box, and when the photo turns, they have to turn with it.
#
# Below the first picture come the paper's Figures 1 and 2, computed by the very functions that training uses. Only the keypoints are put
# on the outline by hand here, to show where they could be; a network has to find them.

# %% tags=["parameters"]
profile = None     # whose results/ get the first picture; None: that of params.yaml

seed = 236         # of the drawn photo
keypoints = 8      # K
angle, shift = 25, (12, -8)  # the second view: degrees, clockwise; pixels
noise = 5          # pixels by which the second view's keypoints are off

# %%
import torch

from kaod import geometry, params
from kaod.figures import drawings, plots

plots.style(photos=True)
image, corners = drawings.photo(seed)
P = drawings.on_outline(corners, keypoints)  # (K, 2) pixels
box = geometry.enclosing(P)
anchor = (box[2:] - box[:2]).max() / 12      # FCOS takes the level whose anchors have about this size
o = (box[:2] + box[2:]) / 2 + anchor * torch.tensor([1, -0.6])  # a location near the box's centre
center = torch.tensor(image.size, dtype=torch.float64) / 2

# %% [markdown]
# ## All in one line
#
# Labelled is an upright box, and no more. Keypoints that lie on the object, and turn with it, give a rotated box and a mask as well.
# A keypoint's colour is its place in the list.

# %%
figure = drawings.idea()
plots.save(figure, params.load(profile)[0].results / "idea.png")

# %% [markdown]
# ## Keypoints in place of distances
#
# FCOS looks at every location o of a feature map and asks: is there an object, which one, and how far is it from here to the left,
# top, right and bottom of its box? KAOD asks instead: where are its K keypoints? The box follows from them.

# %%
figure = drawings.distances_or_points(image, P, o, anchor, sharpness=2)

# %% [markdown]
# ## From keypoints to a box: softmin and softmax
#
# The box could go from the smallest to the largest x and y of the points. But then only the four outermost points would learn
# from the labelled box. So the smallest and the largest are taken *softly*: a mean of all coordinates in which those near the end
# count most. The blunter it is, the more points take part, and the further the box stays inside the points. The colours tell how
# much each point has to say about the left side: its *share*, the pixels that the side moves when this point alone moves by one. The
# largest and the smallest stand beside their points; all of them add up to 1. A point that moves to the left also gains weight. So the
# share of the outermost can be above 1, and that of one farther right below 0, as it draws the side towards itself. With the default, a
# sharpness of 2, the left side here is nearly that of its outermost point; blunter, the neighbours learn, too.

# %%
figure = drawings.soft_boxes(image, P, o, anchor, sharpness=(0.5, 1, 2))

# %% [markdown]
# ## Two views, one object
#
# A box alone does not say where the points should lie: many sets of points have the same box. So each step of training makes a
# second view of the photo, T I: turned and moved at random. Keypoints are predicted on both, those of the second view are mapped
# back by T⁻¹, and what is left between the two sets is the **keypoint loss**.
#
# The points have no names, so the second list may come in another order (compare the numbers). Index by index, points on
# opposite sides would be pulled together, and all end up in the middle. The **Hungarian matching** finds the partners with the
# smallest sum of distances first. Distances are in units of √(box area), so that small and large objects count alike.

# %%
T = geometry.rigid(torch.tensor(float(angle)).double(), torch.tensor(shift).double(), center)
P_T = drawings.second_list(P, T, noise)
figure = drawings.two_views(image, P, P_T, T, o)

# %% [markdown]
# ## What left the frame is not compared
#
# Where an object is no longer in the second view, there is nothing to compare. The mask m keeps a location o if T(o) lies in the
# frame and at least 90 % of the object's box does.

# %%
zero = torch.zeros(2).double()
maps = {name: geometry.rigid(torch.tensor(degrees).double(), zero + torch.tensor(by), center) for name, degrees, by in (
    ("turned", 25.0, (0, 0)), ("moved", 10.0, (80, -60)), ("moved far", 20.0, (150, 20)))}
figure = drawings.masks(image, P, o, maps)

# %% [markdown]
# ## For free: a rotated box and a mask
#
# Once the keypoints turn with the object, two things follow from them that no label asked for: the smallest rectangle around them,
# however it is turned, and a coarse mask, their convex hull. IoU is the area shared with the true outline over the area of both
# together. The upright box fits better or worse with each turn; the other two turn with the object and fit as before.

# %%
figure = drawings.for_free(image, corners, 2 * keypoints, angles=(0, 30, 60))

# %% [markdown]
# What the networks of this repository make of it: [03-what-it-sees](03-what-it-sees.ipynb), and, with sliders,
# [06-explore](06-explore.ipynb).
