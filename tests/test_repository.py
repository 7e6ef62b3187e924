"""What the repository promises: one environment, a pipeline without gaps, and pages that tell the truth."""

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import readme
import yaml
from scipy import stats
from test_pipeline import Clone

from kaod import ROOT, params
from kaod.data import files

README = (ROOT / "README.md").read_text()
RESULTS = ROOT / "results" / "shapes"


def run(*command, cwd):
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_conda_and_make_install_the_same_versions():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["dependencies"][-1] == {"pip": ["--constraint constraints.txt", "--editable .[test]"]}
    assert "--constraint constraints.txt --editable '.[test]'" in (ROOT / "Makefile").read_text()


def test_the_constraints_are_exact_cover_all_and_are_installed():
    from importlib.metadata import PackageNotFoundError, version

    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if line)
    names = {re.sub(r"[-_.]+", "-", name).lower() for name in pins}
    wanted = re.findall(r'^    "([\w-]+)', (ROOT / "pyproject.toml").read_text(), re.M)
    assert len(wanted) > 10 and not {name.lower() for name in wanted} - names
    wrong = {}
    for name, pinned in pins.items():
        try:
            if version(name).split("+")[0] != pinned.split("+")[0]:
                wrong[name] = version(name)
        except PackageNotFoundError:
            pass  # of another platform
    if Path(sys.prefix) == ROOT / ".venv":  # else somebody's own environment, with versions of their own
        assert not wrong


def test_the_lock_is_that_of_the_pipeline(tmp_path):
    """`dvc repro` on a clean clone has nothing to do but to make what is missing."""
    said = Clone(tmp_path)("dvc", "repro", "--dry", "--allow-missing")
    assert "Running stage" not in said and "didn't change" in said


def test_the_grid_has_no_output_that_dvc_would_look_for():
    stages = yaml.safe_load((ROOT / "experiments" / "dvc.yaml").read_text())["stages"]
    assert stages and not any({"outs", "metrics", "plots"} & stage.get("do", stage).keys() for stage in stages.values())


def test_the_code_is_clean():
    answer = run(sys.executable, "-m", "ruff", "check", "--no-cache", ".", cwd=ROOT)
    assert answer.returncode == 0, answer.stdout


# ---------------------------------------------------------------- the tables are the committed figures

def test_the_results_table_is_the_metrics():
    from kaod.figures import charts

    details = {name: files.read_json(RESULTS / "details" / f"{name}.json") for name in params.load("shapes")[1]}
    assert readme.table("README.md", "results") == charts.results_table(details)
    assert all(each["st"]["AP50"] >= 0.5 for each in details.values())


AP = {f"AP -{kind}": f"AP-{kind}" for kind in ("st", "rt", "cr", "tr")}
TURNED = {"AP50, by −30°": "AP50-turn-30", "by 30°": "AP50-turn+30"}
GRID = AP | TURNED | {"hull's IoU": "hull", "rotated box's IoU": "rectangle"}
PHOTOS = {"AP -st": "AP-st", "AP -rt": "AP-rt"} | TURNED | {
    "mask": "hull", "ellipse": "ellipse", "rotated box": "rectangle", "upright box": "rectangle_box",
    "oriented AP50": "oriented-AP50", "upright boxes'": "oriented-AP50_box"}


@pytest.mark.parametrize("table, columns", [("shapes", GRID), ("class5", PHOTOS), ("dsb_nuclei", PHOTOS),
                                            ("hituav_cars", PHOTOS)])
def test_the_grids_tables_are_its_runs(table, columns):
    """Means over the seeds, with 95 % intervals by Student's t; every model is in it."""
    path = ROOT / "results" / table / "grid.csv"
    long = pd.read_csv(path).set_index(["model", "figure"])["value"]
    heads, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")]
                       for line in readme.table("docs/results.md", f"table: {table}").splitlines())
    assert heads[2:] == list(columns)
    assert {row[0] for row in rows} == set(long.index.get_level_values("model"))
    for model, seeds, *cells in rows:
        for head, cell in zip(heads[2:], cells):
            values = long[[(model, columns[head])]] if (model, columns[head]) in long.index else pd.Series(dtype=float)
            wanted = f"{values.mean():.3f}" if len(values) else "–"
            if len(values) > 1:
                half = stats.t.ppf(0.975, len(values) - 1) * values.std() / len(values) ** 0.5
                wanted += f" ± {half:.3f}"
            assert cell == wanted and len(values) in (0, int(seeds)), (model, head)


def test_the_table_of_relabelled_objects_is_its_files():
    _, _, *rows = readme.table("docs/results.md", "table: relabelled").splitlines()
    known = {path.stem.rpartition("-")[0]: files.read_json(path)["groups"]
             for path in (RESULTS / "relabelled").iterdir()}
    assert len(rows) == len(known)
    for row in rows:
        model, *cells = row.strip("| ").split(" | ")
        whole, tilted = (known[model][group] for group in ("all", "tilted"))
        assert cells == [f"{each:.3f}" for each in (whole["mask"], whole["rotated"], tilted["rotated"])]


# ---------------------------------------------------------------- README and docs

def test_the_readme_is_one_page_and_leads_to_all_others():
    assert len(README.splitlines()) <= 150
    for page in readme.PAGES[1:]:
        assert f"]({page.relative_to(ROOT).as_posix()}" in README, page


@pytest.mark.parametrize("page", readme.PAGES, ids=lambda page: page.name)
def test_the_pages_are_wrapped_and_their_links_lead_somewhere(page):
    text = page.read_text()
    for line in text.splitlines():
        assert len(line) <= 120 or line.startswith(("|", "!")), line
    for link, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", text):
        target = (page.parent / link).resolve() if link else page
        assert target.exists(), link
        if anchor:
            titles = re.findall(r"(?m)^#+ (.*)$", target.read_text())
            assert anchor in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, anchor


def test_the_map_names_every_wing_and_every_file_at_the_top():
    (tree,) = readme.fenced("text")
    tracked = [path for path in run("git", "ls-files", cwd=ROOT).stdout.split() if not path.startswith(".")]
    parts = [path.split("/") for path in tracked]
    names = {f"{each[0]}/" if len(each) > 1 else each[0] for each in parts}
    names |= {f"{each[1]}/" if len(each) > 2 else each[1] for each in parts if each[0] == "kaod" and len(each) > 1}
    for name in names - {"__init__.py"}:
        assert re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w/])", tree), f"{name} is not in the README's map"


def defined(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}


def test_the_functions_that_the_pages_name_are_in_the_files_that_they_name():
    rows = [(page, *row) for page in readme.PAGES
            for row in re.findall(r"(?m)\| (`\w+`(?:, `\w+`)*) \| \[\w+\.py\]\((\S+\.py)\) \|$", page.read_text())]
    assert len(rows) >= 12
    for page, names, link in rows:
        assert set(re.findall(r"\w+", names)) <= defined(page.parent / link), names


# The forms that commands of the pages may have, by what runs them. Another form needs a test first.
FORMS = [
    # tests/test_pipeline.py, in its clone with the tiny profile's files, and on real photos
    r"dvc repro",
    r"python -m kaod\.train kaod",
    r"python -m kaod\.evaluation\.evaluate my-detector --results my-detector-results",
    r"python -m kaod\.(predict|relabel|export) runs/shapes/kaod/model\.pt .*",
    r"python -m kaod\.figures\.notebooks publish",
    r"papermill notebooks/\S+\.ipynb runs/\S+\.ipynb .* --cwd notebooks",
    r"pytest --nbval-lax notebooks",
    r"jupytext --sync notebooks/\*\.ipynb",
    # .ci/run, in a fresh environment
    r"make (repro|test)",
    # other tests, with two processes, another port or another folder
    r"torchrun (--standalone|--nnodes 2 .*) --nproc-per-node 8 .*-m kaod\.train kaod",
    r"tensorboard --logdir scratch",
    r"jupyter lab notebooks",
]


def test_every_command_of_the_pages_has_a_form_that_is_run():
    commands = readme.commands()
    assert len(commands) > 15
    tried = re.findall(r"(?m)^(\w+)_try:", "\n".join(readme.fenced("yaml")))
    assert tried == ["coco", "voc", "nuclei"]
    for command in commands:
        assert sum(bool(re.fullmatch(form, command)) for form in FORMS) == 1, command
    for form in FORMS:
        assert any(re.fullmatch(form, command) for command in commands), f"{form}: no such command any more"


def test_the_commands_name_what_is_there():
    targets = set(re.findall(r"(?m)^(\w+):", (ROOT / "Makefile").read_text()))
    text = "\n".join(readme.prose().values())
    for module in re.findall(r"-m (kaod[\w.]*|experiments[\w.]*)", text):
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module
    for target in re.findall(r"make (\w+)`", text):
        assert target in targets, target
    for command in readme.commands():
        for word in shlex.split(command):
            if word.startswith("notebooks/") and "*" not in word:
                assert (ROOT / word).is_file(), word


def test_what_is_no_command_stands_in_a_fence_with_its_language():
    fences = re.findall(r"(?m)^```(.*)$", "\n".join(page.read_text() for page in readme.PAGES))
    assert set(fences[::2]) == {"python", "yaml", "text"} and set(fences[1::2]) == {""}
    for text in readme.fenced("python"):
        ast.parse(text)
    for text in readme.fenced("yaml"):
        assert yaml.safe_load(re.sub(r"\*\w+", "{}", text))
