"""Settings of a run: frozen, keyword-only, every field with its unit, its range and where its default comes from.

`QuantizeConfig` holds everything that decides the numbers in the file; `from_json(to_json(c)) == c`.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Literal, get_args

from genie_onnx.errors import ConfigError
from genie_onnx.framing import Framing, LayoutChoice
from genie_onnx.preprocessing import Order, Preprocessing
from genie_onnx.spellings import SETTINGS, renamed_fields, up_to_date
from genie_onnx.targets import PORTABLE, Target, target_from_json

Images = Literal["auto", "distill", "refine", "procedural"]
Points = Literal["full", "layer-inputs"]
Precision = Literal["fp32", "tf32", "bf16"]
Setting = Literal["brecq", "qdrop"]
Start = Literal["leaves", "generator", "noise"]
NARROWEST = 2  # bits of a weight or value


def _require(problems: list[str], ok: bool, text: str) -> None:
    if not ok:
        problems.append(text)


@dataclass(frozen=True, kw_only=True)
class LayerBits:
    """Bits of the layers that `pattern` means (placement.control): a node's name, an operator type, or a glob on names."""

    pattern: str
    wbits: int  # bits of the layer's weights, 2..8
    abits: int  # bits of the value it reads, 2..8

    def __post_init__(self) -> None:
        outside = [bits for bits in (self.wbits, self.abits) if not 2 <= bits <= 8]
        if outside:
            raise ConfigError(f"bits of {self.pattern!r} must be 2..8, not {outside[0]}")


@dataclass(frozen=True, kw_only=True)
class PlacementConfig:
    """Which values are rounded, and to how many bits (docs/explanation/method.md)."""

    wbits: int = 4  # bits of weights, 2..8
    abits: int = 4  # bits of the inputs of weighted layers, 2..8
    first_last_bits: int = 8  # weights of the first and last weighted layer, and the input of the last, 2..8
    setting: Setting = "brecq"  # brecq: the input of the second layer has `first_last_bits` too; qdrop: `abits`
    other_bits: int = 8  # values that feed no weighted layer, and the network's input, 2..8
    reduce_range: bool = False  # weights of 8 bits have 7: for x86 CPUs without VNNI, where 8 saturate in onnxruntime
    points: Points = "full"  # full: what an integer runtime rounds; layer-inputs: the paper's points, image left float
    keep_float: tuple[str, ...] = ()  # patterns of nodes that stay float (placement.control, placement.demands)
    layer_bits: tuple[LayerBits, ...] = ()  # bits of single layers; they outrank all of the above

    def __post_init__(self) -> None:
        problems: list[str] = []
        for name in ("wbits", "abits", "first_last_bits", "other_bits"):
            bits = getattr(self, name)
            _require(problems, 2 <= bits <= 8, f"{name} must be 2..8, not {bits}")
        _require(problems, self.setting in get_args(Setting), f"setting must be one of {get_args(Setting)}, not {self.setting!r}")
        _require(problems, self.points in get_args(Points), f"points must be one of {get_args(Points)}, not {self.points!r}")
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """GENIE-D (paper, section 3.1 and Algorithm 1), and a start that was measured to serve better (benchmarks/RESULTS.md).

    Ablations of the paper's Table 2: `swing`, `start` noise (images directly, "DBA"), `train_latent` ("GBA").
    """

    iterations: int = 4000  # optimiser steps for each batch of images, >= 0 (0: they stay as painted); paper 4000
    batch_size: int = 128  # images distilled together (their statistics are matched as one), >= 2; paper 128
    latent_size: int = 256  # length of z; paper 256
    latent_lr: float = 0.1  # Adam learning rate of z, reduced on plateau; paper 0.1
    generator_lr: float = 0.01  # Adam learning rate of the generator, x 0.95 every 100 iterations; paper 0.01
    start: Start = "generator"  # images are G(z) (paper), or pixels that begin as dead leaves or as noise
    pixel_lr: float = 0.02  # Adam learning rate of pixels that began as dead leaves, reduced on plateau
    refine_iterations: int = 60  # optimiser steps for each batch of procedural images that are refined, >= 1
    most_pixels: int | None = None  # of all images together: of large ones fewer than `samples` are made, in batches that take
    # little memory. None: as many as asked for
    swing: bool = True  # strided convolutions read a randomly shifted input while distilling, and so do dead leaves
    train_latent: bool = True  # False: z stays as drawn and only the generator learns ("GBA")

    def __post_init__(self) -> None:
        problems: list[str] = []
        for name, least in (("iterations", 0), ("refine_iterations", 1)):
            found = getattr(self, name)
            _require(problems, found >= least, f"distill {name} must be at least {least}, not {found}")
        _require(
            problems, self.batch_size >= 2, f"distill batch size must be at least 2 (it has statistics), not {self.batch_size}"
        )
        _require(problems, self.latent_size >= 1, f"latent size must be at least 1, not {self.latent_size}")
        rates = (self.latent_lr, self.generator_lr, self.pixel_lr)
        _require(problems, min(rates) > 0, "distill learning rates must be above 0")
        _require(problems, self.start in get_args(Start), f"start must be one of {get_args(Start)}, not {self.start!r}")
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True, kw_only=True)
class ReconstructConfig:
    """GENIE-M (paper, section 3.2 and Algorithm 2) with the published learning rates."""

    iterations: int = 20000  # optimiser steps for each block, >= 0 (0: nothing is learned); paper 20000
    batch_size: int = 32  # samples drawn each step, >= 1; paper 32
    rounding_lr: float = 1e-3  # Adam learning rate of the rounding logits v
    weight_scale_lr: float = 1e-4  # Adam learning rate of the weight step sizes, on a cosine schedule
    activation_scale_lr: float = 4e-5  # Adam learning rate of the activation step sizes, on a cosine schedule
    bias_lr: float = 3e-3  # Adam learning rate of biases in units of their mean size, on a cosine; behind closed form only
    rounding_weight: float = 1.0  # lambda of the rounding term; 0.1 is usual for depthwise-separable nets
    warmup: float = 0.2  # share of the iterations before the rounding term starts, 0..1
    beta_start: float = 20.0  # exponent of the rounding term when it starts ...
    beta_end: float = 2.0  # ... and at the end; linear between
    drop_probability: float = 0.5  # QDrop: chance that an element stays unquantised in a step, 0..1
    learn_weight_scale: bool = True  # False: s stays at its searched value (AdaRound; the paper's ablation M1)

    def __post_init__(self) -> None:
        problems: list[str] = []
        _require(problems, self.iterations >= 0, f"reconstruction iterations must be at least 0, not {self.iterations}")
        _require(problems, self.batch_size >= 1, f"batch size must be at least 1, not {self.batch_size}")
        rates = (self.rounding_lr, self.weight_scale_lr, self.activation_scale_lr, self.bias_lr)
        _require(problems, min(rates) > 0, "reconstruction learning rates must be above 0")
        _require(problems, self.rounding_weight >= 0, f"rounding weight must be at least 0, not {self.rounding_weight}")
        _require(problems, 0 <= self.warmup <= 1, f"warmup is a share of the iterations, 0..1, not {self.warmup}")
        _require(problems, self.beta_start >= self.beta_end > 1, "beta falls from beta_start to beta_end, both above 1")
        _require(problems, 0 <= self.drop_probability <= 1, f"drop probability must be 0..1, not {self.drop_probability}")
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True, kw_only=True)
class ClosedFormConfig:
    """Rounding in closed form, the first stage of every run (closed_form); the switches are ablations."""

    columns: int = 2**15  # columns of a layer's unfolded input that its moments are of, at least ...
    columns_per_feature: int = 32  # ... and so many for each feature, where there are that many
    sweeps: int = 4  # of coordinate descent behind error feedback, >= 0
    ridge: float | None = None  # share of the inputs' mean power, > 0; None: chosen for each layer on images held back
    wide_bits: int = 8  # weights of so many bits or more are rounded to the nearest: there is nothing to gain
    mismatch: bool = True  # weights make good for what rounding did to the layer's input
    biases: bool = True  # biases take the mean error
    match: bool = True  # made images are brought to the statistics that BatchNorm knows, layer by layer
    equalise: bool = True  # channels are scaled to use the same share of their value's grid

    def __post_init__(self) -> None:
        problems: list[str] = []
        _require(problems, self.columns >= 1, f"columns must be at least 1, not {self.columns}")
        _require(problems, self.columns_per_feature >= 0, f"columns a feature must be at least 0, not {self.columns_per_feature}")
        _require(problems, self.sweeps >= 0, f"sweeps of descent must be at least 0, not {self.sweeps}")
        _require(problems, self.ridge is None or self.ridge > 0, f"the ridge must be above 0, not {self.ridge}")
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True, kw_only=True)
class BitGoal:
    """What decides the bits of each block's weights, in place of `wbits` and `first_last_bits`: exactly one of these.

    Bits are 2, 3, 4 or 8, chosen by what they are measured to do to the outputs (bits.choice). The few values that do most to
    them get 8 (bits.values). Layers of `layer_bits` keep theirs.
    """

    average: float | None = None  # bits of a quantised weight on average, 2..8
    share: float | None = None  # bytes of the model as a share of those that it has with 8 bits everywhere, 0..1
    bytes: int | None = None  # of the model with quantised weights at their true bits, > 0
    drop: float | None = None  # largest loss of top-1 in percentage points, > 0 .. 100 (bits.choice.points_lost); where the model
    # is no classifier: root mean square error in percent of the outputs

    def __post_init__(self) -> None:
        given = [name for name in ("average", "share", "bytes", "drop") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ConfigError(
                "bits are chosen for one goal: give one of --avg-bits, --target-size and --max-drop"
                + (f", not {len(given)}" if given else "")
            )
        problems: list[str] = []
        _require(problems, self.average is None or 2 <= self.average <= 8, f"--avg-bits must be 2..8, not {self.average}")
        _require(problems, self.share is None or 0 < self.share <= 1, "--target-size must be above 0 % and at most 100 %")
        _require(problems, self.bytes is None or self.bytes > 0, "--target-size must be above 0")
        _require(
            problems, self.drop is None or 0 < self.drop <= 100, f"--max-drop must be above 0 and at most 100, not {self.drop}"
        )
        if problems:
            raise ConfigError(problems)

    def __str__(self) -> str:
        """Return the option that says so."""
        if self.average is not None:
            return f"--avg-bits {self.average:g}"
        if self.drop is not None:
            return f"--max-drop {self.drop:g}"
        return (
            f"--target-size {100 * self.share:g}%" if self.share is not None else f"--target-size {(self.bytes or 0) / 1000:g}kB"
        )


@renamed_fields(**SETTINGS)
@dataclass(frozen=True, kw_only=True)
class QuantizeConfig:
    """Everything that decides what `quantize` computes. Same config, model, data and machine: same file."""

    placement: PlacementConfig = field(default_factory=PlacementConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    reconstruct: ReconstructConfig = field(default_factory=ReconstructConfig)
    closed_form: ClosedFormConfig | None = field(default_factory=ClosedFormConfig)  # None: learning starts from nearest rounding
    last_pass: int = 0  # epochs in which scales, steps and biases of the whole network learn together, codes frozen, >= 0
    bit_goal: BitGoal | None = None  # bits of weights are chosen block by block; None: those of `placement`
    images: Images = "auto"  # where calibration images come from when no data is given
    samples: int = 1024  # calibration images, >= 1; paper 1024
    amplify: bool | None = None  # distil images to go with fewer given than `samples`; None: where they are very few (choice)
    target: Target = PORTABLE  # what the file is for: a row of targets.TARGETS, or one of your own
    mean: tuple[float, ...] | None = None  # subtracted from pixels scaled to 0..1 (preprocessing); None: not known
    std: tuple[float, ...] | None = None  # ... which are then divided by this; None: not known
    channel_order: Order = "rgb"  # of the model's input channels; pictures come as rgb
    framing: Framing | None = None  # how pictures get the input's size; None: scaled to cover it, cut at the centre
    layout: LayoutChoice = "auto"  # where the model's input has its channels
    seed: int = 0
    device: str = "auto"  # auto, cpu, cuda or cuda:N
    precision: Precision | None = None  # of convolutions and matrix products while optimising (compute); None: the device's
    cuda_graph: bool = True  # on CUDA, steps are captured and replayed: the same numbers, sooner

    def __post_init__(self) -> None:
        problems: list[str] = []
        _require(problems, self.samples >= 1, f"samples must be at least 1, not {self.samples}")
        _require(problems, self.last_pass >= 0, f"epochs of the last pass must be at least 0, not {self.last_pass}")
        for name, words in (("images", get_args(Images)), ("channel_order", get_args(Order)), ("layout", get_args(LayoutChoice))):
            found = getattr(self, name)
            _require(problems, found in words, f"{name} must be one of {words}, not {found!r}")
        known = (None, *get_args(Precision))
        _require(problems, self.precision in known, f"precision must be one of {known[1:]}, not {self.precision!r}")
        _require(problems, (self.mean is None) == (self.std is None), "give mean and std together")
        if self.mean is not None and self.std is not None:
            _require(problems, len(self.mean) == len(self.std), "mean and std differ in length")
            _require(problems, min(self.std, default=1.0) > 0, "every std must be above 0")
        problems += _beyond(self.target, self.placement)
        if problems:
            raise ConfigError(problems)

    @property
    def preprocessing(self) -> Preprocessing:
        """What is done to pictures."""
        return Preprocessing.of(self.mean, self.std, self.channel_order, self.framing)


def _beyond(target: Target, placement: PlacementConfig) -> list[str]:
    """Return a sentence for each option that asks for bits which `target` cannot hold."""
    problems = []
    own = [(f"--bits {layer.pattern}", layer.wbits, layer.abits) for layer in placement.layer_bits]
    first_last = placement.first_last_bits
    weights = [("--wbits", placement.wbits), ("--first-last-bits", first_last), *((name, w) for name, w, _ in own)]
    values = [("--abits", placement.abits), ("--first-last-bits", first_last), ("--other-bits", placement.other_bits)]
    values += [(name, a) for name, _, a in own]
    for what, asked, (low, high) in (
        ("weights", weights, target.constraints.weight_bits),
        ("values", values, target.constraints.value_bits),
    ):
        allowed = f"{low}" if low == high else f"{low} to {high}"
        problems += [
            f"target {target.name} holds {what} of {allowed} bits, not {bits} ({name}): use {min(max(bits, low), high)}, or "
            "another target (genie-onnx targets)"
            for name, bits in asked
            if not low <= bits <= high
        ]
    smallest = min(bits for _, bits in weights)
    if target.name == "int4" and smallest > 4:  # its only purpose; others store what is wider as well
        problems.append(
            f"target int4 is for weights of 2 to 4 bits, but all weights would have {smallest} or more: "
            "use --wbits 4, or --target portable"
        )
    return problems


def to_json(config: QuantizeConfig) -> str:
    """Return the complete settings as JSON text."""
    return json.dumps(dataclasses.asdict(config), indent=2)


def from_json(text: str) -> QuantizeConfig:
    """Return the settings written by `to_json`. Raises ConfigError for unknown fields or values out of range."""
    try:
        raw = up_to_date(json.loads(text))
        for name in ("mean", "std"):
            if raw.get(name) is not None:
                raw[name] = tuple(raw[name])
        if raw.get("framing") is not None:
            sizes = {name: tuple(size) for name, size in raw["framing"].items() if isinstance(size, list)}
            raw["framing"] = Framing(**{**raw["framing"], **sizes})
        if "placement" in raw:
            patterns = raw["placement"]
            patterns["keep_float"] = tuple(patterns.get("keep_float", ()))
            patterns["layer_bits"] = tuple(LayerBits(**bits) for bits in patterns.get("layer_bits", ()))
        if "target" in raw:
            raw["target"] = target_from_json(raw["target"])
        found = raw.get("closed_form")  # None as well in runs of earlier versions, which had none
        raw["closed_form"] = None if found is None else ClosedFormConfig(**found)
        if raw.get("bit_goal") is not None:
            raw["bit_goal"] = BitGoal(**raw["bit_goal"])
        parts = {"placement": PlacementConfig, "distill": DistillConfig, "reconstruct": ReconstructConfig}
        return QuantizeConfig(**{k: parts[k](**v) if k in parts else v for k, v in raw.items()})
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"these are not the settings of a run: {error}") from error
