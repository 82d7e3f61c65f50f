"""Rounding in closed form: second moments of what a layer reads in, integer codes, scales and biases out; no gradient."""

from genie_onnx.closed_form.columns import Columns, Rows, Windows, drawn_positions, mean_column
from genie_onnx.closed_form.equalise import DENSE, DEPTHWISE, EXPONENTS, Reader, best_clips, factors, noise
from genie_onnx.closed_form.moments import Moments, Sums, combined
from genie_onnx.closed_form.objective import Objective, objective
from genie_onnx.closed_form.ridge import RIDGES, best_ridge
from genie_onnx.closed_form.solve import Solution, bias_shift, nearest_solution, solve, stacked
from genie_onnx.closed_form.split import Split, split

__all__ = [
    "DENSE",
    "DEPTHWISE",
    "EXPONENTS",
    "RIDGES",
    "Columns",
    "Moments",
    "Objective",
    "Reader",
    "Rows",
    "Solution",
    "Split",
    "Sums",
    "Windows",
    "best_clips",
    "best_ridge",
    "bias_shift",
    "combined",
    "drawn_positions",
    "factors",
    "mean_column",
    "nearest_solution",
    "noise",
    "objective",
    "solve",
    "split",
    "stacked",
]
