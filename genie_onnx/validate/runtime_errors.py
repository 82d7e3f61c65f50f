"""What onnxruntime raises, as one sentence: node, operator, reason, and what to do.

    [ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Conv node. Name:'a' Status Message: C is not 3
    ->  onnxruntime 1.31.1 cannot run the model: Conv 'a': C is not 3. Where onnx.checker.check_model ...

Its messages are written for its own developers: a status, a place in its source and a C++ signature stand before the reason. They
are read by pattern (onnxruntime 1.31), and what fits none is handed on without these.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import onnxruntime as ort

from genie_onnx.errors import RunError

CHECK = "Where onnx.checker.check_model(MODEL, full_check=True) finds nothing, update onnxruntime, or export at another opset"
NEWER = "Update onnxruntime, or export the model at an older opset"
KERNEL = "Export the model in float32 or at another opset, or update onnxruntime"
UNKNOWN = "Export the model at an opset that has it, or without it; or update onnxruntime"
CUSTOM = "Export the model without it, or cut the model before it (onnx.utils.extract_model)"
OPTIMISER = (
    "With its graph optimisations off it does: this is a fault of onnxruntime, not of the file. Switch them off (graph_"
    "optimization_level = ORT_DISABLE_ALL), use another version of onnxruntime, or export the model at another opset"
)

_NOISE = (
    r"\[ONNXRuntimeError\] : \d+ : \w+ : ",
    r"\S*/onnxruntime_src/\S+:\d+ [^()]*\([^()]*\)(?: const)?(?: \[with [^\]]*\])? ",  # file, line and signature
    r"[A-Z]:\\\S+:\d+ \S+ ",  # the same on Windows
    r"\b\w+\.(?:cc|h):\d+ \w+ ",
    r"\[\w+Error\] ",
    r"(?:Fatal error: |This is an invalid model\. |Invalid model\. |(?:Type )?Error: )",
)
_MEMORY = ("allocate memory", "bad_alloc", "bad allocation")  # machine.memory says what to do about it
# pattern with groups (op, node, text; version and domain for `text`), what is said in place of `text`, what to do
_PATTERNS: tuple[tuple[str, str, str], ...] = (
    (r"while running (?P<op>\w+) node\. Name:'(?P<node>[^']*)' Status Message: (?P<text>.*)", "{text}", CHECK),
    (r"^Node \((?P<node>[^)]*)\) Op \((?P<op>\w+)\) (?P<text>.*)", "{text}", CHECK),
    (
        r"Could not find an implementation for (?P<op>\w+)\((?P<version>\d+)\) node with name '(?P<node>[^']*)'",
        "it has no kernel for this operator of opset {version} with these types",
        KERNEL,
    ),
    (
        r'In Node, \("(?P<node>[^"]*)", (?P<op>\w+),.*No Op registered for \w+ with domain_version of (?P<version>\d+)',
        "it knows no such operator of opset {version}",
        UNKNOWN,
    ),
    (
        r"(?P<domain>[\w.]+):(?P<op>\w+)\(.*is not a registered function/op",
        "it knows no such operator of domain {domain}",
        CUSTOM,
    ),
    (r"(?P<text>.*(?:operator|Optype) \((?P<op>\w+)\).* in node \((?P<node>[^)]*)\).*)", "{text}", CHECK),
    (r"(?P<text>Unsupported model IR version.*)", "{text}", NEWER),
    (r"(?P<text>.*Opset \d+ is under development.*?\.)", "{text}", NEWER),
    (r"(?P<text>(?:Got invalid dimensions|Invalid rank|Unexpected input data type).*)", "{text}", ""),
)


@dataclass(frozen=True)
class Explained:
    """`reason` without what only its developers can read, with operator and node before it; `way`: what to do, or empty."""

    reason: str
    way: str


def explained(message: str) -> Explained:
    """Return what a `message` of onnxruntime says.

    >>> explained("[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : Could not find an implementation for Relu(14) node with name 'r'")
    ... # doctest: +ELLIPSIS
    Explained(reason="Relu 'r': it has no kernel for this operator of opset 14 with these types", way='Export the model in ...
    """
    text = " ".join(message.split())
    for noise in _NOISE:
        text = re.sub(noise, "", text)
    text = text.rstrip(" .")
    if any(phrase in text for phrase in _MEMORY):
        return Explained(text, "")
    for pattern, said, way in _PATTERNS:
        found = re.search(pattern, text)
        if found is not None:
            groups = {"op": "", "node": "", "text": "", **{key: part or "" for key, part in found.groupdict().items()}}
            where = " ".join(part for part in (groups["op"], f"'{groups['node']}'" if groups["node"] else "") if part)
            reason = said.format_map(groups).strip(" .")
            return Explained(f"{where}: {reason}" if where else reason, way)
    return Explained(text or "it gives no reason", CHECK)


def is_of_runtime(error: Exception) -> bool:
    """Whether onnxruntime raised it: its own have no base in common, and what its bindings do not translate is a RuntimeError."""
    return type(error).__module__.startswith("onnxruntime") or type(error) is RuntimeError


@contextmanager
def runtime_errors(doing: str, unoptimised: Callable[[], object] | None = None) -> Iterator[None]:
    """Raise RunError, one sentence, where the body, which calls onnxruntime alone, fails.

    `unoptimised` does the same with all graph optimisations off; it is tried then, as it tells whose fault it is, and where.
    """
    try:
        yield
    except Exception as error:
        if not is_of_runtime(error):
            raise
        found = explained(str(error) or type(error).__name__)
        if found.way and unoptimised is not None:
            as_written = _failure(unoptimised)
            # it names nodes of the file, where optimisation made others of them
            found = Explained(found.reason, OPTIMISER) if as_written is None else explained(str(as_written))
        reason = f"onnxruntime {ort.__version__} cannot {doing} the model: {found.reason}"
        raise RunError(f"{reason}. {found.way}" if found.way else reason) from error


def _failure(attempt: Callable[[], object]) -> Exception | None:
    """Return what onnxruntime raises there, None where it does not."""
    try:
        attempt()
    except Exception as error:
        if not is_of_runtime(error):
            raise
        return error
    return None
