#!/usr/bin/env bash
# hls4ml 1.3.0 (qonnx 1.0.0, numpy 2.4.6, Python 3.11): whether a QONNX convolution and the Add of its bias convert depends on how
# the weight is scaled, not on what they compute. With powers of two everywhere and zero points 0, a 3x3 Conv over 8x8:
#   weights: one scale a channel,   bias: an Add behind      converts, and computes the same numbers
#   weights: one scale for all,     bias: an Add behind      ValueError: the scale 1 of the Add, broadcast to the map [8,8,4],
#                                                            is multiplied with the weight [3,3,3,4] (FuseBatchNormalization)
#   weights: one scale for all,     bias: inside the Conv    converts
#   weights: one scale a channel,   bias: inside the Conv    IndexError: list index out of range
# So neither form is right for all layers of a file; which one is needed follows from the numbers (scales that happen to be all
# equal count as one). Way round: keep the bias in a Conv whose scales are all equal, and put it behind the others.
set -euo pipefail
