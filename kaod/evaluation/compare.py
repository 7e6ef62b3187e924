"""The pipeline's last word: its metrics beside the committed ones.

`python -m kaod.evaluation.compare` fails where an AP differs by more than TOLERANCE although settings, data list and code
are those of the last commit. On the same kind of CPU nothing differs; another one rounds otherwise, and a
training carries that on.
"""

import json
import subprocess
import sys

from .. import ROOT, params
from ..data import files
from ..data.kinds import KINDS

TOLERANCE = 0.05
INPUTS = ("params.yaml", "dvc.yaml", "data", "kaod", "constraints.txt")


def git(*arguments: str) -> str | None:
    """What git prints, None where it fails (no repository, no such file in the last commit)."""
    try:
        return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None


def commit() -> str:
    """The last commit's short name, with -dirty where files that Git tracks differ from it; "none" without one."""
    return (git("describe", "--always", "--dirty") or "none").strip()


def compare(now: dict[str, dict], before: dict[str, dict], tolerance: float = TOLERANCE) -> tuple[str, list[str]]:
    """A table of each model's AP50, now and as committed, and the cells that differ by more than `tolerance`.

    now, before: {model: {test set: {"AP50": …}}}.
    """
    lines, off = [f"{'AP50':<16}" + "".join(f"{'-' + kind:>17}" for kind in ("st", *KINDS))], []
    for model, metrics in now.items():
        cells = []
        for kind in ("st", *KINDS):
            value, old = metrics[kind]["AP50"], before.get(model, {}).get(kind, {}).get("AP50")
            cells.append(f"{value:.4f}" + (f" ({old:.4f})" if old is not None else ""))
            if old is not None and abs(value - old) > tolerance:
                off.append(f"{model} -{kind}: {value:.4f}, committed {old:.4f}")
        lines.append(f"{model:<16}" + "".join(f"{cell:>17}" for cell in cells))
    return "\n".join(lines), off


def main() -> None:
    profile, models = params.load()
    now, before = {}, {}
    for name in models:
        path = profile.results / "metrics" / f"{name}.json"
        now[name] = files.read_json(path)
        committed = git("show", f"HEAD:{path.relative_to(ROOT).as_posix()}")
        if committed:
            before[name] = json.loads(committed)
    table, off = compare(now, before)
    print(f"profile {profile.name}" + (", in brackets as committed" if before else "") + "\n" + table)
    if not before:
        print("nothing committed to compare with")
    elif git("status", "--porcelain", "--", *INPUTS) != "":
        print("settings, data or code differ from the last commit, so these figures may, too")
    elif off:
        sys.exit(f"kaod.evaluation.compare: more than {TOLERANCE} from the committed figures: {'; '.join(off)}")
    else:
        print(f"none differs by more than {TOLERANCE}")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"kaod.evaluation.compare: {error}")
