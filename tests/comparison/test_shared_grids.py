"""Values on one grid, told by the graph and by their grids."""

from __future__ import annotations

from graphs import graph

from genie_onnx.comparison.shared_grids import SharedGrid, shared_grids

MODEL = """
    agraph (float[N,3,8,8] x, float[4,3,3,3] w1, float[2,2,1,1] w2, float[2,6,1,1] w3) => (float[N,2,4,4] y, float[N,2,8,8] z)
    <int64[1] start = {0}, int64[1] end = {2}, int64[1] axis = {1}> {
        source = Conv<pads=[1,1,1,1]>(x, w1)
        half = Slice(source, start, end, axis)
        pool = MaxPool<kernel_shape=[2,2], strides=[2,2]>(half)
        y = Conv(pool, w2)
        both = Concat<axis=1>(source, half)
        z = Conv(both, w3)
    }"""
NAMES = ("source", "half", "pool", "both")


def test_values_that_repeat_each_other_on_one_grid_with_the_layers_that_read_them() -> None:
    found = {shared.value: shared for shared in shared_grids(graph(MODEL), dict.fromkeys(NAMES, (0.5, 0, 4)))}
    assert found["pool"] == SharedGrid(value="pool", others=("source", "half", "both"), selected=True, layers=("y",))
    assert (found["half"].selected, found["half"].layers) == (True, ("y", "z"))  # none reads it: those of the others
    assert not found["source"].selected
    assert not found["both"].selected
    assert found["both"].layers == ("z",)


def test_a_grid_of_its_own_is_shared_with_nobody_else() -> None:
    grids = {"source": (0.5, 0, 4), "both": (0.5, 0, 4), "half": (0.01, 0, 4), "pool": (0.01, 0, 4), "x": (0.5, 0, 4)}
    found = {shared.value: shared.others for shared in shared_grids(graph(MODEL), grids)}
    assert found == {"source": ("both",), "both": ("source",), "half": ("pool",), "pool": ("half",)}
