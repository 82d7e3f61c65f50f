"""Where a run stands, for every view: its last step, how fast the part goes, the time since the run began and the time left."""

from __future__ import annotations

from collections.abc import Callable

from genie_onnx import Estimate, Step, TimeLeft

# What each stage is called; stages of one name are one stage to the user.
NAMES = {
    "check": "checking the import against onnxruntime",
    "kernels": "trying convolutions",
    "statistics": "statistics of the network",
    "images": "images",
    "judges": "images to judge on",
    "save": "saving images",
    "selections": "grids of selections",
    "bits": "choosing bits",
    "equalise": "scales of channels",
    "grids": "grids of activations",
    "targets": "reconstruction",
    "weights": "reconstruction",
    "learn": "reconstruction",
    "carry": "reconstruction",
    "last-pass": "last pass",
    "export": "export and verification",
    "reference": "computing node by node",
    "runtimes": "runtimes",
    "evaluate": "evaluation",
    "values": "values of both models",
    "effects": "effects of blocks",
}
WORK = {"targets": "float outputs", "weights": "grids of weights", "carry": "quantized outputs"}  # what is done to a block
UNITS = {
    "kernels": "forms",
    "images": "steps",
    "bits": "blocks and images",
    "learn": "steps",
    "last-pass": "steps",
    "weights": "weights",
    "grids": "images and grids",
    "effects": "runs",
}  # elsewhere images
LOSSES = {"images": "BN loss", "learn": "loss"}


class Following:
    """Told of every step, it answers at any time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self._left: TimeLeft | None = None
        self._last: Step | None = None
        self._first: tuple[float, Step] | None = None  # of the part
        self.rate: float | None = None  # iterations a second in the part, where it has more than one

    def begin(self, estimate: Estimate) -> None:
        """The run begins now."""
        self._began = self._clock()
        self._left = TimeLeft(estimate)

    def tell(self, step: Step) -> None:
        """`step` is made."""
        now, last = self._clock(), self._last
        if self._left is not None:
            self._left.tell(step, now)
        if self._first is None or last is None or (last.stage, last.index) != (step.stage, step.index):
            self._first, self.rate = (now, step), None
        made, taken = step.iteration - self._first[1].iteration, now - self._first[0]
        if made > 0 and taken > 0 and step.iterations > 1:
            self.rate = made / taken
        self._last = step

    @property
    def step(self) -> Step | None:
        """The last one."""
        return self._last

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return self._clock() - self._began

    @property
    def left(self) -> float | None:
        """Seconds until the run is finished; None where nothing is known of it."""
        if self._left is not None:
            return self._left.seconds(self._clock())
        step = self._last
        return (step.iterations - step.iteration) / self.rate if step is not None and step.count == 1 and self.rate else None


def words(step: Step, rate: float | None) -> str:
    """Return where `step` stands: "block 3/10  step 50/1000  loss 0.0123  41 steps/s  /layer1/conv1/Conv"."""
    unit = UNITS.get(step.stage, "images")
    found = []
    if step.name:
        found.append(f"block {step.index + 1}/{step.count}")
        found += [WORK[step.stage]] if step.stage in WORK else []
    elif step.count > 1:
        found.append(f"{'part' if step.stage == 'bits' else 'batch'} {step.index + 1}/{step.count}")
    if step.iterations > 1:
        found.append(f"{'step ' if unit == 'steps' else ''}{step.iteration}/{step.iterations}")
    if step.loss is not None:
        found.append(f"{LOSSES[step.stage]} {step.loss:.4g}")
    if rate is not None:
        found.append(f"{rate:.3g} {unit}/s")
    return "  ".join([*found, step.name]) if step.name else "  ".join(found)


def duration(seconds: float) -> str:
    """Return minutes and seconds, or hours as well: "1:05", "2:10:00"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
