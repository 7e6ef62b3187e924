# %% [markdown]
# # What is the idea?
#
# An object detector answers with upright boxes. When the photo turns, the upright box of the same object becomes
# another one, and mostly too large. Jaiswal et al. (*Keypoints-aware Object Detection*, KAOD) let the detector describe
# an object by **K keypoints** instead. Nobody labels them. Two rules are to teach them where to lie: their box has to
# be the labelled box, and when the photo turns, they should turn with it. The paper teaches the second rule by
# comparing two views of a photo. This repository turns the *label* back instead, and one view is enough.
#
# The first picture shows the idea. The others are the paper's Figures 1 and 2, and the label that turns back, computed
# by the functions that training uses. The keypoints in them are put on the outline by hand, to show where they could
# be. A network has to find them. With labels turned back, the *hull* of its keypoints follows the object, while a
# single keypoint keeps its direction in the photo ([02-results](02-results.ipynb)).

# %% tags=["parameters"]
profile = None     # whose results/ get the first picture; None: that of params.yaml

seed = 236         # of the drawn photo
keypoints = 8      # K
angle = 25         # of the second view: degrees, clockwise
shift = (12, -8)   # of the second view: pixels
noise = 5          # pixels by which the second view's keypoints are off

# %%
import torch

from kaod import geometry, params
from kaod.figures import charts, idea

charts.style(photos=True)
image, corners = idea.photo(seed)
P = idea.on_outline(corners, keypoints)  # (K, 2) pixels
box = geometry.enclosing(P)
anchor = (box[2:] - box[:2]).max() / 12      # FCOS takes the level whose anchors have about this size
o = (box[:2] + box[2:]) / 2 + anchor * torch.tensor([1, -0.6])  # a location near the box's centre

# %% [markdown]
# ## The idea in one picture
#
# The label is an upright box, and no more. Keypoints that lie on the object and turn with it also give a rotated box
# and a mask. A keypoint's colour is its place in the list.

# %%
figure = idea.idea()
charts.save(figure, params.load(profile)[0].results / "idea.png")

# %% [markdown]
# ## Keypoints in place of distances
#
# FCOS asks three questions at every location o of a feature map. Is there an object? Which one? How far is it from here
# to the left, top, right and bottom of its box? KAOD replaces the last question: where are the K keypoints? The box
# follows from them.

# %%
figure = idea.distances_or_points(image, P, o, anchor, sharpness=4)

# %% [markdown]
# ## From keypoints to a box: softmin and softmax
#
# The box could go from the smallest to the largest x and y of the points. Then only the four outermost points would
# learn from the labelled box. So the smallest and the largest are taken *softly*: as a mean of all coordinates, in
# which those near the end count most. A lower sharpness lets more points take part, and the box stays further inside
# the points.
#
# A colour is a point's *share* in the left side: how many pixels the side moves when this point alone moves by one. The
# largest and the smallest share stand beside their points. All shares add up to 1. A point that moves to the left also
# gains weight, so the share of the outermost point can be above 1. A point farther right then has a share below 0. At
# sharpness 4, the default, the left side is nearly that of its outermost point. Other points still learn, since on
# turned photos other points are outermost.

# %%
figure = idea.soft_boxes(image, P, o, anchor, sharpness=(1, 2, 4))

# %% [markdown]
# ## The paper's two views
#
# A box alone does not say where the points should lie: many sets of points have the same box. So each step of the
# paper's training makes a second view of the photo, T I, turned and moved at random. The network predicts keypoints on
# both views. T⁻¹ maps those of the second view back. The distance that is left between the two sets is the **keypoint
# loss**.
#
# The points have no names, so the second list may come in another order (compare the numbers). A comparison index by
# index would pull points on opposite sides together, and all would end in the middle. So **Hungarian matching** first
# finds the partners with the smallest sum of distances. Distances are in units of √(box area), so that small and large
# objects count alike.
#
# Matching has a price. It forgets which keypoint was which, so a round ring of keypoints that does not turn at all has
# a small loss, too.

# %%
T = idea.motion(image, angle, shift)
P_T = idea.second_list(P, T, noise)
figure = idea.two_views(image, P, P_T, T, o)

# %% [markdown]
# ## What left the frame is not compared
#
# An object that left the second view cannot be compared. The mask m of the keypoint loss keeps a location o if T(o)
# lies in the frame and at least 90 % of the object's box does.

# %%
maps = {"turned": idea.motion(image, 25), "moved": idea.motion(image, 10, (80, -60)),
        "moved far": idea.motion(image, 20, (150, 20))}
figure = idea.masks(image, P, o, maps)

# %% [markdown]
# ## Labels that turn back
#
# Most detectors that have to bear turned photos are trained on turned copies. A copy needs a box, and an upright label
# does not say which (left). The box of the turned corners is too large. The box of the ellipse inscribed in the label,
# turned, is a guess. The true box takes the object's outline, which no upright label gives. Users asked for exact boxes
# after a rotation, and were told that a box alone does not allow them
# ([mmdetection #4070](https://github.com/open-mmlab/mmdetection/issues/4070),
# [albumentations #746](https://github.com/albumentations-team/albumentations/issues/746),
# [imgaug #90](https://github.com/aleju/imgaug/issues/90)).
#
# Keypoints get around this. A box cannot be turned back, but points can. T⁻¹ takes the copy's keypoints to the photo,
# where the labelled box is exact: their box has to be this one (middle). So every copy has an exact label, at any
# angle, and nobody labels more than upright boxes. FCOS's own losses do the rest. An object with less than half of its
# box in the copy is left out.
#
# The network sees the copy alone, and the label's axes could have any direction in it (right). At most it can read T
# off the copy's border. So the points need the right extent along all axes, and that draws them to the object's
# outline. Only a point inside the hull, as in the corner of the L, is free.

# %%
figure = idea.labels_turned_back(image, corners, torch.from_numpy(corners), angle)  # keypoints on the outline's corners

# %% [markdown]
# The pipeline trains one model for each step of this story:
#
# - `fcos`: four distances, on photos as they are;
# - `fcos-turned`: the same on turned copies, with the boxes of turned ellipses;
# - `kaod-paper`: two views of each photo, labels on the first, and the keypoint loss with Hungarian matching;
# - `kaod`: one turned view of each photo, and labels that turn back.

# %% [markdown]
# ## For free: a rotated box and a mask
#
# Keypoints that turn with the object give two things that no label asked for. The rotated box is the smallest rectangle
# around them, at any angle. The mask is their convex hull. IoU is the area shared with the true outline, over the area
# of both together. The upright box fits better or worse with each turn. The other two turn with the object and fit as
# before.

# %%
figure = idea.for_free(image, corners, 2 * keypoints, angles=(0, 30, 60))

# %% [markdown]
# What the networks of this repository make of it: [03-what-it-sees](03-what-it-sees.ipynb), and, with sliders,
# [06-explore](06-explore.ipynb).
