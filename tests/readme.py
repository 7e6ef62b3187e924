"""README.md and docs/ as the tests read them.

One style on all pages: a line that is indented by four spaces is a command, and may go on over lines that end in a
backslash; all else (Python, YAML, a tree) stands in a fence that names its language.
"""

import re

from kaod import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def prose() -> dict[str, str]:
    """Each page by its path from the repository's folder, without what stands in fences."""
    return {path.relative_to(ROOT).as_posix(): re.sub(r"(?ms)^```.*?^```$", "", path.read_text()) for path in PAGES}


def commands(start: str = "") -> list[str]:
    """The pages' commands that begin with `start`, in their order, one line each, without the remark after it."""
    lines = re.findall(r"(?m)^    (\S.*)$", re.sub(r"\\\n +", "", "\n".join(prose().values())))
    return [line for line in (re.sub(r"(^| +)# .*$", "", each).rstrip() for each in lines)
            if line and line.startswith(start)]


def fenced(language: str) -> list[str]:
    """What stands in the pages' fences of one language: "python", "yaml" or "text"."""
    return [text for path in PAGES for text in re.findall(rf"(?ms)^```{language}\n(.*?)^```$", path.read_text())]


def table(page: str, marker: str) -> str:
    """The table that follows the line `<!-- marker -->` of a page, without the line break at its end."""
    return re.search(rf"(?m)^<!-- {re.escape(marker)} -->\n+((?:^\|.*\n)+)", (ROOT / page).read_text())[1].rstrip("\n")
