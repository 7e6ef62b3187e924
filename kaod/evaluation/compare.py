"""The pipeline's last word: its figures beside the committed ones, and where to look next.

`python -m kaod.evaluation.compare` fails where an AP50 differs by more than TOLERANCE although settings, data and code
are those of the last commit. On the same kind of processor nothing differs. Another one rounds otherwise, and training
carries that on: then it says how to get the committed files back.
"""

import json
import subprocess
import sys

import pandas as pd

from .. import ROOT, command, params
from ..data import files
from ..data.warp import KINDS

TOLERANCE = 0.05
INPUTS = ("params.yaml", "dvc.yaml", "data", "kaod", "constraints.txt")
COLUMNS = [f"{ap}-{kind}" for ap in ("AP", "AP50") for kind in ("st", *KINDS)] + ["hull", "rectangle"]


def git(*arguments: str) -> str | None:
    """What git prints, None where it fails (no repository, no such file in the last commit)."""
    try:
        return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None


def commit() -> str:
    """The last commit's short name, with -dirty where files that Git tracks differ from it; "none" without one."""
    return (git("describe", "--always", "--dirty") or "none").strip()


def compare(now: dict[str, dict], before: dict[str, dict]) -> tuple[str, list[str], float]:
    """A table of each model's figures, the committed ones in brackets where they differ; the AP50s that differ by more
    than TOLERANCE; and the largest difference of all figures, NaN where none was committed.

    now, before: {model: `evaluate.summary`}.
    """
    now, before = (pd.DataFrame(each, COLUMNS, list(now), float).T for each in (now, before))
    text, old = (each.map(lambda value: "–" if pd.isna(value) else f"{value:.3f}") for each in (now, before))
    differences = (now - before).abs()
    off = [f"{model} {figure}: {now.at[model, figure]:.4f}, committed {before.at[model, figure]:.4f}"
           for (model, figure), by in differences.filter(like="AP50").stack().items() if by > TOLERANCE]
    table = text.where(before.isna() | (text == old), text + " (" + old + ")")
    return table.to_string(), off, differences.max(axis=None)


def main() -> None:
    profile, models = params.load()
    now, before = {}, {}
    for name in models:
        path = profile.results / "metrics" / f"{name}.json"
        now[name] = files.read_json(path)
        committed = git("show", f"HEAD:{path.relative_to(ROOT).as_posix()}")
        if committed:
            before[name] = json.loads(committed)
    table, off, largest = compare(now, before)
    print(f"profile {profile.name}{', in brackets as committed' if before else ''}\n{table}")
    if not before:
        print("nothing committed to compare with")
    elif git("status", "--porcelain", "--", *INPUTS) != "":
        print("settings, data or code differ from the last commit, so these figures may, too")
    elif off:
        sys.exit(f"kaod.evaluation.compare: more than {TOLERANCE} from the committed figures: {'; '.join(off)}")
    elif largest > 0:
        print(f"they differ by up to {largest:.2g} from the committed ones, as another processor rounds otherwise; "
              "dvc.lock and results/ are this run's now; `git restore dvc.lock results` brings the committed ones back")
    else:
        print("they are the committed ones")
    runs = profile.runs.relative_to(ROOT).as_posix()
    print(f"""where to look next:
  the report             {runs}/report/index.html
  keypoints and sliders  jupyter lab notebooks/06-explore.ipynb
  your own photo         python -m kaod.predict {runs}/{name}/model.pt PHOTO.jpg""")


if __name__ == "__main__":
    command(main)
