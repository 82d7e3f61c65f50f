"""Builds of this project and other tools on the same images, one thread each, in turn: accuracy, CPU seconds, peak memory.

    python benchmarks/closed_form.py BENCH OUT [--before PYTHON|CHECKOUT] [--peer TOOL=PYTHON ...]
        [--tables compare,worth,curve] [--models mobilenet,resnet20] [--only 'GLOB'] [--samples 256] [--seeds 0]
        [--recon-iters N] [--limit N]                        # a try: at most so many iterations, judged by so many images

BENCH is a folder with score.py, imagenet/ and cifar/. --before is the build before this one: a checkout, which runs in this
Python, or the Python of an environment of its own. --peer is a tool of peers.py, in the Python that has it. Three tables:

compare   the builds as they are, and every method of every peer, at W8A8, W4A8 and W4A4
worth     this build with each of its parts left out once (WORTH), at W4A4
curve     accuracy against time: this build and the one before at several numbers of iterations (CURVE), at W4A4

Each row is a process of its own; CPU seconds are user and system of it and what it started, memory its largest resident set. A
line is appended to OUT/results.jsonl as it ends; rows that OUT has with the same settings are not done again, those that failed
are. Rows whose options a build does not have are left out, and named. OUT/summary.md has all of OUT as Markdown.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accuracy import score

HERE = Path(__file__).resolve().parent
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Model:
    """A model of the bench, its calibration images and preprocessing, and the sets of score.py that judge it."""

    file: str
    images: str
    mean: str
    std: str
    sets: tuple[str, ...]


MODELS = {
    "mobilenet": Model("imagenet/mobilenet_v1_075_224_bn.onnx", "imagenet/calib", "0.5,0.5,0.5", "0.5,0.5,0.5", ("imagenet",)),
    "resnet20": Model(
        "cifar/resnet20_bn.onnx", "cifar/calib1024.npz", "0.485,0.456,0.406", "0.229,0.224,0.225", ("cifar", "cifar-jpeg")
    ),
}
BITS = ("W8A8", "W4A8", "W4A4")
LOW = BITS[-1]  # of the tables that are about one setting
PEERS = {"onnxruntime": ("minmax",), "aimet-onnx": ("seqmse", "adaround"), "esp-ppq": ("lsq",)}  # as in peers.METHODS

# Rows by name: what is given to `genie-onnx quantize` beside model, images and bits. A new option gets its row here.
COMPARE: dict[str, tuple[str, ...]] = {"default": ()}
WORTH: dict[str, tuple[str, ...]] = {
    "all parts": (),
    "without closed form": ("--no-closed-form", "--recon-iters", "500"),  # as fast was before
    "without moments": ("--no-moments",),
    "without mismatch": ("--no-mismatch",),
    "without descent": ("--sweeps", "0"),
    "without equalisation": ("--no-equalise",),
    "without biases": ("--no-biases",),
    "with learning": ("--recon-iters", "500"),
}
CURVE: dict[str, tuple[str, ...]] = {
    "0 iterations": ("--recon-iters", "0"),  # closed form alone
    "100 iterations": ("--recon-iters", "100"),
    "500 iterations": ("--recon-iters", "500"),
    "2,000 iterations": ("--recon-iters", "2000"),
}
KEY = ("table", "model", "bits", "tool", "row", "samples", "seed", "iterations", "limit")  # Row.key
TABLES = {"compare": COMPARE, "worth": WORTH, "curve": CURVE}


@dataclass(frozen=True)
class Settings:
    """What all rows share."""

    samples: int = 256  # calibration images
    seed: int = 0
    iterations: int | None = None  # at most so many; None: those of the row
    limit: int = 0  # images of a test set, 0: all


@dataclass(frozen=True)
class Row:
    """One run. `row`: the name of its options, or the method of a peer."""

    table: str
    model: str
    bits: str
    tool: str
    row: str
    settings: Settings

    @property
    def name(self) -> str:
        """What the row is called in files and for --only."""
        row = self.row.replace(" ", "-").replace(",", "")
        return "_".join([self.table, self.model, self.bits, self.tool, row, f"s{self.settings.seed}"])

    @property
    def key(self) -> dict[str, Any]:
        """What makes two lines of results.jsonl the same run."""
        return {**{name: getattr(self, name) for name in ("table", "model", "bits", "tool", "row")}, **asdict(self.settings)}


def rows(
    tables: Sequence[str], models: Sequence[str], builds: Sequence[str], peers: Sequence[str], settings: Settings
) -> Iterator[Row]:
    """Yield every run, those that are to be compared one after the other."""
    for table in tables:
        for model in models:
            if table == "compare":
                yield Row(table, model, "float", "float", "float", settings)
            for bits in BITS if table == "compare" else (LOW,):
                runs = [(build, row) for row in TABLES[table] for build in builds if table != "worth" or build == "this"]
                if table == "compare":
                    runs += [(peer, method) for peer in peers for method in PEERS[peer]]
                yield from (Row(table, model, bits, tool, row, settings) for tool, row in runs)


def capped(options: Sequence[str], iterations: int | None) -> list[str]:
    """Return options of `quantize` with no more than so many iterations of reconstruction."""
    found = list(options)
    if iterations is None:
        return found
    if "--recon-iters" not in found:
        return [*found, "--recon-iters", str(iterations)]
    place = found.index("--recon-iters") + 1
    found[place] = str(min(int(found[place]), iterations))
    return found


def missing(options: Sequence[str], help_text: str) -> list[str]:
    """Return the options that are not in the help of `quantize`."""
    known = set(help_text.replace(",", " ").replace("/", " ").split())
    return [option for option in options if option.startswith("--") and option not in known]


@dataclass(frozen=True)
class Build:
    """An interpreter and the environment in which `python -m genie_onnx` is one build of this project."""

    python: str
    environment: Mapping[str, str]
    commit: str  # "" where it is not known
    help: str  # of quantize

    @classmethod
    def of(cls, place: Path, out: Path) -> Build:
        """Return the build of a checkout, or of an interpreter."""
        # The folder that this runs in may be a checkout too, and would be looked into first.
        python, environment, commit = str(place), {**one_thread(), "PYTHONSAFEPATH": "1"}, ""
        if place.is_dir():
            # An installed build would give its own command line to whatever genie_onnx comes first.
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir(parents=True)
            (out / "genie_onnx").symlink_to((place / "genie_onnx").resolve())
            (out / "genie_onnx_cli").symlink_to((place / "cli").resolve())
            python, environment["PYTHONPATH"] = sys.executable, str(out.resolve())
            git = subprocess.run(
                ["git", "describe", "--always", "--dirty"], cwd=place, check=False, capture_output=True, text=True
            )
            commit = git.stdout.strip()
        command = [python, "-m", "genie_onnx", "quantize", "--help"]
        text = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
        return cls(python, environment, commit, text)


def one_thread() -> dict[str, str]:
    """Return this environment with one thread for whatever computes."""
    return {**os.environ, **dict.fromkeys(THREADS, "1")}


@dataclass(frozen=True)
class Cost:
    """What a process took."""

    status: int
    cpu_s: float
    peak_mb: float
    wall_s: float


def measured(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Cost:
    """Run `command` with its output in `log`, and return what it cost, what it started and waited for included."""
    begin = time.monotonic()
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Cost(
        process.returncode,
        round(usage.ru_utime + usage.ru_stime, 1),
        round(usage.ru_maxrss / 1024, 1),  # KiB on Linux
        round(time.monotonic() - begin, 1),
    )


def images(bench: Path, name: str, samples: int, seed: int, out: Path) -> Path:
    """Return an .npz of so many calibration images, uint8 [N, H, W, 3], drawn by `seed` and the same for everyone."""
    file = out / f"{name}_{samples}_s{seed}.npz"
    if file.exists():
        return file
    import numpy as np
    from PIL import Image

    source = bench / MODELS[name].images
    drawn = np.random.default_rng(seed)
    if source.is_dir():
        paths = sorted(source.iterdir())
        chosen = [paths[i] for i in drawn.permutation(len(paths))[:samples]]
        pixels = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in chosen])
    else:
        with np.load(source) as arrays:
            every = arrays["images"]
        pixels = every[drawn.permutation(len(every))[:samples]]
    out.mkdir(parents=True, exist_ok=True)
    np.savez(file, images=pixels)
    return file


def command_of(
    row: Row, bench: Path, data: Path, output: Path, builds: Mapping[str, Build], peers: Mapping[str, str]
) -> list[str]:
    """Return the command that makes `output`."""
    model = MODELS[row.model]
    file, preprocessing = str(bench / model.file), ["--mean", model.mean, "--std", model.std]
    if row.tool in peers:
        command = [peers[row.tool], str(HERE / "peers.py"), row.tool, row.row, file, str(data), str(output.with_suffix(""))]
        cap = [] if row.settings.iterations is None else ["--iterations", str(row.settings.iterations)]
        judge = ["--judge", str(bench), *model.sets, "--limit", str(row.settings.limit)]
        return [*command, "--bits", row.bits, *preprocessing, *cap, *judge]
    wbits, abits = row.bits[1:].split("A")
    command = [builds[row.tool].python, "-m", "genie_onnx", "quantize", file, "-o", str(output), "--quiet"]
    command += [
        "--data",
        str(data),
        "--samples",
        str(row.settings.samples),
        *preprocessing,
        "--seed",
        str(row.settings.seed),
        "--device",
        "cpu",
    ]
    return [*command, "--wbits", wbits, "--abits", abits, *capped(TABLES[row.table][row.row], row.settings.iterations)]


def done(row: Row, bench: Path, out: Path, builds: Mapping[str, Build], peers: Mapping[str, str]) -> dict[str, Any]:
    """Do a row and return its line of results.jsonl."""
    sets = MODELS[row.model].sets
    if row.tool == "float":
        return {**row.key, "accuracy": {s: score(bench, s, bench / MODELS[row.model].file, row.settings.limit) for s in sets}}
    data = images(bench, row.model, row.settings.samples, row.settings.seed, out / "images")
    work = out / "work"
    shutil.rmtree(work, ignore_errors=True)  # of a run that was ended: nobody begins with what another one did
    work.mkdir()
    output, log = work / "model.onnx", out / "logs" / f"{row.name}.log"
    log.parent.mkdir(exist_ok=True)
    build = builds.get(row.tool)
    environment = one_thread() if build is None else build.environment
    cost = measured(command_of(row, bench, data, output, builds, peers), environment, log)
    line: dict[str, Any] = {**row.key, **asdict(cost)}
    if build is not None:
        line["commit"] = build.commit
    if cost.status:
        text = log.read_text(encoding="utf-8", errors="replace").strip()
        return {**line, "error": text.splitlines()[-1][:300] if text else f"ended with {cost.status}"}
    if output.with_suffix(".json").exists():  # what a peer says of itself: what it cost before it was judged
        line |= json.loads(output.with_suffix(".json").read_text(encoding="utf-8"))
    line["simulated"] = "accuracy" in line
    if not line["simulated"]:
        try:
            line["accuracy"] = {s: score(bench, s, output, row.settings.limit) for s in sets}
        except subprocess.CalledProcessError as error:  # a file that onnxruntime does not run is a result, too
            return {**line, "error": f"the file does not run: {error.stderr.strip().splitlines()[-1][:300]}"}
        kept = out / "models" / f"{row.name}.onnx"
        kept.parent.mkdir(exist_ok=True)
        shutil.copy(output, kept)
    shutil.rmtree(work)
    return line


def results(file: Path) -> list[dict[str, Any]]:
    """Return the last line of every run, in the order in which they were first done."""
    last: dict[tuple[Any, ...], dict[str, Any]] = {}
    for line in map(json.loads, file.read_text(encoding="utf-8").splitlines() if file.exists() else ()):
        last[tuple(line[name] for name in KEY)] = line
    return list(last.values())


def has(lines: Sequence[Mapping[str, Any]], row: Row) -> bool:
    """Whether a run is among `lines` and did not fail."""
    return any("error" not in line and all(line[name] == value for name, value in row.key.items()) for line in lines)


def summary(lines: Sequence[Mapping[str, Any]]) -> str:
    """Return results as Markdown: a table for each model of each of the three."""
    parts = []
    for table, model in dict.fromkeys((line["table"], line["model"]) for line in lines):
        here = [line for line in lines if (line["table"], line["model"]) == (table, model)]
        sets = MODELS[model].sets
        parts += [f"### {table}, {model}", ""]
        parts += [f"| bits | tool | row | images | seed | {' | '.join(sets)} | CPU s | peak MB |", "|---" * (7 + len(sets)) + "|"]
        for line in here:
            parts.append("| " + " | ".join(cells(line, sets)) + " |")
        parts.append("")
    return "\n".join(parts)


def cells(line: Mapping[str, Any], sets: Sequence[str]) -> list[str]:
    """Return what a row of a table shows."""
    notes = [f"at most {line['iterations']} iterations"] if line["iterations"] is not None else []
    notes += [f"first {line['limit']} images"] if line["limit"] else []
    notes += ["simulated"] if line.get("simulated") else []
    tool = " ".join(part for part in (line["tool"], line.get("version") or line.get("commit")) if part)
    row = line["row"] + (f" ({', '.join(notes)})" if notes else "")
    found = line.get("accuracy", {})
    accuracies = [f"{found[s]:.2f}" if s in found else "" for s in sets]
    if "error" in line:
        accuracies[0] = str(line["error"]).replace("|", "/")
    drawn = ["", ""] if line["tool"] == "float" else [str(line["samples"]), str(line["seed"])]
    return [line["bits"], tool, row, *drawn, *accuracies, str(line.get("cpu_s", "")), str(line.get("peak_mb", ""))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--this", type=Path, default=HERE.parent, help="checkout or Python of this build")
    parser.add_argument("--before", type=Path, help="checkout or Python of the build before")
    parser.add_argument("--peer", action="append", default=[], metavar="TOOL=PYTHON", help=f"of {', '.join(PEERS)}")
    parser.add_argument("--tables", default=",".join(TABLES))
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--only", default="*", help="TABLE_MODEL_BITS_TOOL_ROW_sSEED, a glob")
    parser.add_argument("--samples", type=int, default=256, help="calibration images")
    parser.add_argument("--seeds", default="0", help="also of which images are drawn")
    parser.add_argument("--recon-iters", type=int, help="at most so many iterations in any row")
    parser.add_argument("--limit", type=int, default=0, help="judge by so many images of a test set")
    options = parser.parse_args()
    peers = dict(given.partition("=")[::2] for given in options.peer)
    if unknown := sorted(set(peers) - set(PEERS)):
        parser.error(f"no peer {', '.join(unknown)}: there are {', '.join(PEERS)}")
    out: Path = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    places = {"this": options.this} | ({"before": options.before} if options.before else {})
    builds = {name: Build.of(place, out / "builds" / name) for name, place in places.items()}
    file = out / "results.jsonl"
    for seed in map(int, options.seeds.split(",")):
        settings = Settings(options.samples, seed, options.recon_iters, options.limit)
        for row in rows(options.tables.split(","), options.models.split(","), list(builds), list(peers), settings):
            if not fnmatch.fnmatch(row.name, options.only) or has(results(file), row):
                continue
            if row.tool in builds and (lacks := missing(TABLES[row.table][row.row], builds[row.tool].help)):
                print(f"{row.name}: left out, this build has no {' '.join(lacks)}", flush=True)
                continue
            line = done(row, options.bench.resolve(), out, builds, peers)
            with file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")
            (out / "summary.md").write_text(summary(results(file)), encoding="utf-8")
            print(row.name, line.get("error") or line["accuracy"], line.get("cpu_s", ""), line.get("peak_mb", ""), flush=True)


if __name__ == "__main__":
    main()
