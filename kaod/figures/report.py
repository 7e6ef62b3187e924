"""The executed notebooks as one report: HTML pages and an index, which open without a network.

`python -m kaod.figures.report` → runs/<profile>/report/index.html and a page for each notebook, as this profile's run left it.
"""

import html
import re
import shutil
import sys
from pathlib import Path

from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html
from pygments.formatters import HtmlFormatter

from .. import params
from ..data import files
from . import nb

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
{body}
</body>
</html>
"""

STYLE = HtmlFormatter(style="default").get_style_defs(".highlight") + """
body { max-width: 920px; margin: 0 auto; padding: 0 16px 48px; font: 16px/1.55 system-ui, sans-serif; color: #222;
       background: #fff; overflow-wrap: break-word; }
h1 { font-size: 1.9em; line-height: 1.2; margin: .6em 0 .5em; }
h2 { font-size: 1.35em; margin: 1.6em 0 .4em; }
a { color: #0072b2; }
nav { padding: 12px 0; border-bottom: 1px solid #ddd; display: flex; justify-content: space-between; gap: 16px; }
img { max-width: max(100%, 640px); height: auto; }  /* a phone scrolls: its letters would be too small */
pre { overflow-x: auto; font: 13px/1.45 ui-monospace, monospace; margin: .6em 0; }
code { font: .88em ui-monospace, monospace; }
.highlight { background: #f6f6f6; border-left: 3px solid #ccc; padding: 1px 12px; }
.output_area { overflow-x: auto; }
table { border-collapse: collapse; display: block; overflow-x: auto; margin: 1em 0; }
th, td { border: 1px solid #ddd; padding: 4px 10px; text-align: left; }
.output_area td { white-space: nowrap; }
th { background: #f6f6f6; }
ol { padding-left: 1.4em; }
li { margin: 1.1em 0; }
li a { font-size: 1.15em; font-weight: 600; }
li p { margin: .2em 0; }"""


def page(title: str, body: str) -> bytes:
    return PAGE.format(title=html.escape(title), style=STYLE, body=body).encode()


def opening(notebook) -> tuple[str, str]:
    """The title of a notebook, and its first paragraph in Markdown."""
    title, _, rest = notebook.cells[0].source.partition("\n")
    return title.removeprefix("# "), rest.strip().split("\n\n")[0]


def gather(notebooks: list[Path], target: Path, name: str) -> None:
    """The report of the notebooks, in this order, in the folder `target`; what was there goes. name: the profile's."""
    exporter = HTMLExporter(template_name="basic", exclude_anchor_links=True, exclude_input_prompt=True,
                            exclude_output_prompt=True)
    read = {path.stem: nb.read(path) for path in notebooks}
    shutil.rmtree(target, ignore_errors=True)
    entries, stems = [], list(read)
    for number, (stem, notebook) in enumerate(read.items()):
        title, first = opening(notebook)
        body, _ = exporter.from_notebook_node(notebook)
        later = "" if stem == stems[-1] else f'<a href="{stems[number + 1]}.html">next</a>'
        body = f'<nav><a href="index.html">kaod, profile {html.escape(name)}</a>{later}</nav>\n{body}'
        files.write_bytes(target / f"{stem}.html", page(title, links(body, stems)))
        first = links(markdown2html(first.rstrip(":")), stems)
        entries.append(f'<li><a href="{stem}.html">{html.escape(title)}</a>{first}</li>')
    intro = (f"<h1>kaod: the report</h1>\n<p>Keypoints-aware object detection, profile <b>{html.escape(name)}</b>. "
             "Each page is a notebook, as the pipeline ran it, and answers one question.</p>")
    body = "\n".join([intro, '<ol start="0">', *entries, "</ol>"])
    files.write_bytes(target / "index.html", page("kaod: the report", body))


def links(body: str, stems: list[str]) -> str:
    """Links to notebooks become links to their pages."""
    return re.sub(r'href="([\w-]+)\.ipynb"', lambda found: f'href="{found[1]}.html"' if found[1] in stems else found[0],
                  body)


def main() -> None:
    profile, _ = params.load()
    gather([profile.runs / "notebooks" / f"{name}.ipynb" for name in nb.names()], profile.runs / "report", profile.name)


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(f"kaod.figures.report: {error}")
