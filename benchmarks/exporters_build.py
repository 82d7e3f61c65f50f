"""Environments and files of the recipes: one environment at a time, deleted once its exporter has written its files.

FOLDER/environments/RECIPE/     while it is needed
FOLDER/files/RECIPE/NET/        NET.onnx and what belongs beside it, or failure.txt: delete the folder to try again
FOLDER/logs/RECIPE/             what pip and the exporter printed
"""

from __future__ import annotations

import shutil
from pathlib import Path

from exporters_process import run
from exporters_recipes import Net, Recipe

SCRIPTS = Path(__file__).parent / "exporters"
INSTALL_SECONDS = EXPORT_SECONDS = 3600.0


def place(folder: Path, recipe: Recipe, net: Net) -> Path:
    """Return the folder of one network's file."""
    return folder / "files" / recipe.name / net.name


def file(folder: Path, recipe: Recipe, net: Net) -> Path | None:
    """Return the exported file; None where there is none."""
    found = place(folder, recipe, net) / f"{net.name}.onnx"
    return found if found.exists() else None


def failure(folder: Path, recipe: Recipe, net: Net) -> str:
    """Return why there is no file."""
    return (place(folder, recipe, net) / "failure.txt").read_text(encoding="utf-8")


def export(folder: Path, recipe: Recipe, nets: list[Net], python: str, keep: bool) -> None:
    """Write the files of `nets`. Whatever goes wrong is in their failure.txt; an interruption leaves them for the next time."""
    environment, logs = folder / "environments" / recipe.name, folder / "logs" / recipe.name
    logs.mkdir(parents=True, exist_ok=True)
    problem = _build(environment, recipe, python, logs)
    if problem is None:
        files = folder / "files" / recipe.name
        variables = {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "PYTHONPATH": "", **recipe.variables}
        script = [str(environment / "bin" / "python"), str(SCRIPTS / recipe.script), str(files), *(n.name for n in nets)]
        ended = run(script, logs, "export", EXPORT_SECONDS, variables=variables)
        problem = f"the exporter's process ended with {ended}: {last_line(logs / 'export.err')}"
    for net in nets:
        if not place(folder, recipe, net).exists():
            place(folder, recipe, net).mkdir(parents=True)
            (place(folder, recipe, net) / "failure.txt").write_text(problem, encoding="utf-8")
    if not keep:
        shutil.rmtree(environment, ignore_errors=True)


def _build(environment: Path, recipe: Recipe, python: str, logs: Path) -> str | None:
    """Make the environment; return what went wrong. A file in it says that it is whole."""
    whole = environment / "whole.txt"
    if whole.exists():
        return None
    shutil.rmtree(environment, ignore_errors=True)
    environment.parent.mkdir(parents=True, exist_ok=True)
    made = run([python, "-m", "venv", str(environment)], logs, "venv", INSTALL_SECONDS)
    if made.rc != 0:
        return f"no environment ({made}): {last_line(logs / 'venv.err')}"
    alone = [] if recipe.dependencies else ["--no-deps"]
    install = [str(environment / "bin" / "python"), "-m", "pip", "install", *alone, *recipe.packages]
    installed = run(install, logs, "pip", INSTALL_SECONDS, variables={"PYTHONPATH": ""})
    if installed.rc != 0:
        return f"pip ended with {installed}: {last_line(logs / 'pip.err')}"
    whole.write_text(" ".join(recipe.packages), encoding="utf-8")
    return None


def last_line(path: Path) -> str:
    """Return the last line of a text that is not empty."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""
