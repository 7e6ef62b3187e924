# %% [markdown]
# # How many keypoints?
#
# KAOD describes an object by K keypoints. How many should there be? The paper looks at data: it counts the vertices of
# the objects' outlines in VOC's masks. The median is **17**, so it takes K = 16, and also its multiples 32 and 48. This
# notebook counts in the same way, first in the data set at hand, then in VOC.

# %% tags=["parameters"]
profile = None  # a section of params.yaml; None: the one that params.yaml selects

# %%
from IPython.display import Markdown

from kaod import ROOT, params
from kaod.data import files, vertices
from kaod.figures import charts

charts.style()
profile, _ = params.load(profile)
counts = files.read_json(profile.runs / "vertices.json")  # {class: vertices of each object}
chosen = files.read_json(profile.runs / "k.json")
voc = files.read_json(ROOT / "data" / "voc2007_vertices.json")

# %% [markdown]
# ## The rule
#
# K is the multiple of 8 nearest to the median, at least 8. A median in the middle between two goes down. Fewer
# keypoints than vertices cut corners off the shape. More cost channels and time.

# %% tags=["nbval-check-output"]
{median: vertices.choose_k(median) for median in (3, 12, 13, 17, 20, 21, 40)}

# %% [markdown]
# ## The data set at hand

# %%
median = ("unknown, as there are no outlines" if chosen["median"] is None else
          f"{chosen['median']:g} vertices over {chosen['objects']:,} objects")
Markdown(f"Profile **{profile.name}**: the median is {median}, so **K = {chosen['k']}**. Worth trying beside it: "
         f"{', '.join(map(str, chosen['also']))} (half, double and triple).")

# %%
if counts:
    figure = charts.vertex_histogram(counts, chosen["median"], chosen["k"], f"Vertices of the outlines: {profile.name}")

# %%
if counts:
    figure = charts.vertices_by_class(counts, chosen["k"])

# %% [markdown]
# Outlines that were drawn or clicked are counted as they are. Only outlines that were traced from pixel masks are
# simplified, with the tolerance that is calibrated below.
#
# Clicked outlines of real photos: in small samples of COCO the median is 17 vertices (train) and 16 (val), in samples
# of a data set of cell nuclei 28 and 27.

# %% [markdown]
# ## The paper's data set
#
# VOC has pixel masks, not polygons. An outline that was traced along pixels has hundreds of corners. So it is
# simplified first (Douglas-Peucker): a vertex goes if it lies within a tolerance of the line without it. The tolerance
# is a share of the outline's length, so that large and small objects are treated alike.
#
# The paper does not give its tolerance, so ours is **calibrated**. With the default, the median over half of VOC 2007's
# instance masks (316 photos, 912 objects) is 17, as in the paper (the level line). The curve shows how much that choice
# matters. This repository keeps the counts only, not the masks.

# %%
figure = charts.tolerance_curve(voc["medians"], voc["tolerance"],
                                "VOC 2007's masks: how closely outlines are followed decides")
paper = figure.axes[0].axhline(17, color=charts.DARK)  # the paper's median

# %%
median = voc["medians"][str(voc["tolerance"])]
figure = charts.vertex_histogram({"all": voc["counts"]}, median, vertices.choose_k(median),
                                 "Vertices of the outlines: VOC 2007's masks")
