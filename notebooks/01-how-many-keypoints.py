# %% [markdown]
# # How many keypoints?
#
# KAOD describes an object by K keypoints, and nobody says where they are. How many should there be? The paper looks at the
# data: it counts the vertices of the objects' outlines in VOC's masks, finds a median of **17**, and takes K = 16 (and its
# multiples 32 and 48). This notebook does the same, first for the data set at hand, then for VOC.

# %% tags=["parameters"]
profile = None  # a section of params.yaml; None: the one that params.yaml selects

# %%
from IPython.display import Markdown

from kaod import ROOT, params
from kaod.data import files, vertices
from kaod.figures import plots

plots.style()
profile, _ = params.load(profile)
counts = files.read_json(profile.runs / "vertices.json")  # {class: vertices of each object}
chosen = files.read_json(profile.runs / "k.json")

# %% [markdown]
# ## The rule
#
# K is the multiple of 8 nearest to the median, at least 8; a median in the middle goes down. Fewer keypoints than
# vertices cut corners off the shape; more cost channels and time.

# %% tags=["nbval-check-output"]
{median: vertices.choose_k(median) for median in (3, 12, 13, 17, 20, 21, 40)}

# %% [markdown]
# ## The data set at hand

# %%
median = "not counted" if chosen["median"] is None else f"{chosen['median']:g} vertices over {chosen['objects']:,} objects"
Markdown(f"Profile **{profile.name}**: the median is {median}, so **K = {chosen['k']}**. Worth trying beside it: "
         f"{', '.join(map(str, chosen['also']))} (half, double and triple).")

# %%
if counts:
    figure = plots.vertex_histogram(counts, chosen["median"], chosen["k"], f"Vertices of the outlines: {profile.name}")

# %%
if counts:
    figure = plots.vertices_by_class(counts, chosen["k"])

# %% [markdown]
# How much would hang on it, if these outlines were simplified first? Where outlines are known, since they were drawn or somebody clicked
# them, they are counted as they are: the tolerance used is 0. Only outlines traced from pixel masks are simplified, and for them the
# default is made (see below).
#
# Outlines that were clicked on real photos, counted as they are: in small samples of COCO the median is 17 vertices (train) and 16 (val),
# in samples of a data set of cell nuclei 28 and 27.

# %%
own = {float(tolerance): median for tolerance, median in chosen["medians"].items()}
known = profile.draw is not None or profile.layout == "coco"  # VOC has pixel masks
marks = {"used here, as outlines are known": 0} if known else {}
marks["for outlines of pixel masks"] = profile.vertices.tolerance
if own:
    figure = plots.tolerance_curve(dict(sorted(own.items())), marks, f"Median vertices by tolerance: {profile.name}")

# %% [markdown]
# ## The paper's data set
#
# VOC has pixel masks, not polygons. An outline traced along pixels has hundreds of corners, so it is simplified first
# (Douglas-Peucker): vertices go that lie within a tolerance of the line without them. The tolerance is a share of the
# outline's length, so that large and small objects are treated alike. The paper does not give its tolerance, so ours is
# **calibrated**: with the default the median over half of VOC 2007's instance masks (316 photos, 912 objects) is 17, the
# paper's figure. The curve shows how much hangs on that choice. Only the counts are kept in this repository, not the masks.

# %%
voc = files.read_json(ROOT / "data" / "voc2007_vertices.json")
medians = {float(tolerance): median for tolerance, median in voc["medians"].items()}
figure = plots.tolerance_curve(medians, {"default": voc["tolerance"]}, "VOC 2007's masks: how closely outlines are followed decides", 17)

# %%
median = medians[voc["tolerance"]]
figure = plots.vertex_histogram({"all": voc["counts"]}, median, vertices.choose_k(median), "Vertices of the outlines: VOC 2007's masks")
