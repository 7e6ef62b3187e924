"""The executed notebooks as one report: HTML pages and an index, which open without a network.

`python -m kaod.figures.report` → runs/<profile>/report/index.html and a page for each notebook, as this profile's run
left it. The pages have JupyterLab's look, by nbconvert; what its template would load from a network is left out.
"""

import re
from pathlib import Path

import nbformat
from jinja2 import DictLoader
from nbconvert import HTMLExporter

from .. import ROOT, command, params
from ..data import files
from . import notebooks

TEMPLATE = """{% extends "index.html.j2" %}
{% block html_head_js %}{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}
{% block html_head_js_mermaidjs %}{% endblock %}
{% block html_head_css %}<style>
main { max-width: 960px; margin: 0 auto; overflow-wrap: break-word; }
.jp-OutputArea-output, .jp-RenderedMarkdown { overflow-x: auto; }
.jp-RenderedImage img { max-width: max(100%, 640px) !important; }  /* a phone scrolls, so that letters can be read */
</style>{% endblock %}
"""


def gather(paths: list[Path], target: Path, name: str) -> None:
    """The report of the notebooks, in this order, in the folder `target`; what was there goes. name: the profile's.

    Raises ValueError that names a notebook which is not there.
    """
    exporter = HTMLExporter(extra_loaders=[DictLoader({"report.html.j2": TEMPLATE})], template_file="report.html.j2",
                            exclude_anchor_links=True, exclude_input_prompt=True, exclude_output_prompt=True,
                            embed_images=True)
    pages = {path.stem: notebooks.read(path) for path in paths}
    lines = ["# kaod: the report", f"Keypoints-aware object detection, profile **{name}**. Each page is a notebook, as "
             "the pipeline ran it, and answers one question."]
    for stem, later in zip(pages, [*list(pages)[1:], None]):
        title, _, text = pages[stem].cells[0].source.removeprefix("# ").partition("\n")
        opening, *_ = text.strip().split("\n\n")
        lines.append(f"[{title}]({stem}.html)  \n{opening.rstrip(':')}")
        links = f"[kaod, profile {name}](index.html)" + (f" · [next]({later}.html)" if later else "")
        pages[stem].cells.insert(0, nbformat.v4.new_markdown_cell(links, id="links"))
        pages[stem].metadata["title"] = title
    index = nbformat.v4.new_notebook(metadata={"title": "kaod: the report"}, cells=[
        nbformat.v4.new_markdown_cell("\n\n".join(lines), id="index")])
    with files.whole(target) as folder:
        for stem, notebook in {**pages, "index": index}.items():
            for cell in notebook.cells:  # nbconvert embeds what lies below one folder, and that is ours
                cell.source = cell.source.replace("](../results/", "](results/")
            page, _ = exporter.from_notebook_node(notebook, {"metadata": {"path": str(ROOT)}})
            links = rf'href="({"|".join(map(re.escape, pages))})\.ipynb"'  # to notebooks: to their pages
            files.write_bytes(folder / f"{stem}.html", re.sub(links, r'href="\1.html"', page).encode())


def main() -> None:
    profile, _ = params.load()
    gather([profile.runs / "notebooks" / f"{name}.ipynb" for name in notebooks.names()], profile.runs / "report",
           profile.name)


if __name__ == "__main__":
    command(main)
