"""The loops of `predseg.forecast.trees`, compiled when they are first called and kept beside this file or in the user's cache. Needs numba."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

ROWS = 256
"""Rows at a time: their codes and what is left of a tree for each stay in the processor's first cache."""
_ZERO = float(np.float32(1e-35))
"""What LightGBM takes for zero, on both sides of it."""
_STEP = np.uint64(0x03F79D71B4CB0A89)
_PLACE = np.zeros(64, np.uint8)
"""Which bit is set, by the top six bits of its product with a de Bruijn sequence."""
for _bit in range(64):
    _PLACE[(int(_STEP) << _bit) % 2**64 >> 58] = _bit


@njit(cache=True, nogil=True)
def _code(matrix: Any, inputs: Any, columns: Any, x: Any, code: Any, codes: Any) -> None:
    """Fill codes, uint8 (columns, rows): how many edges of its feature lie below each value, or what stands for a missing one."""
    source, edges, first, own = inputs
    missing, table, tables = columns
    for i in range(len(source)):
        for r in range(len(matrix)):
            value = matrix[r, source[i]]
            x[r] = 0.0 if abs(value) <= _ZERO else value
            code[r] = 0
        for e in range(first[i], first[i + 1]):
            edge = edges[e]
            for r in range(len(matrix)):
                code[r] += np.uint8(x[r] > edge)
        for c in range(own[i], own[i + 1]):
            if table[c] < 0:
                for r in range(len(matrix)):
                    codes[c, r] = missing[c] if np.isnan(x[r]) else code[r]
            else:
                for r in range(len(matrix)):
                    codes[c, r] = missing[c] if np.isnan(x[r]) else tables[table[c], code[r]]


@njit(cache=True, nogil=True)
def _answer(codes: Any, rows: int, nodes: Any, trees: Any, gone: Any, out: Any) -> None:
    """Add the answer of each tree to its member's line of out: the first leaf that no split rules out."""
    column, last, leaving = nodes
    begin, member, leaves = trees
    for t in range(len(member)):
        for r in range(rows):
            gone[r] = 0
        for n in range(begin[t], begin[t + 1]):
            code, at, leaves_gone = codes[column[n]], last[n], leaving[n]
            for r in range(rows):
                gone[r] |= leaves_gone if code[r] > at else np.uint64(0)
        for r in range(rows):
            out_of = np.uint64(gone[r])
            first = ~out_of & (out_of + np.uint64(1))
            out[member[t], r] += leaves[t, _PLACE[(first * _STEP) >> np.uint64(58)]]


@njit(cache=True, nogil=True)
def margins(matrix: Any, inputs: Any, columns: Any, nodes: Any, trees: Any, out: Any) -> None:
    """Fill out, float64 (members, rows), zero before: see `predseg.forecast.trees.Trees` for the arrays."""
    codes, code = np.empty((len(columns[0]), ROWS), np.uint8), np.empty(ROWS, np.uint8)
    x, gone = np.empty(ROWS, np.float64), np.empty(ROWS, nodes[2].dtype)
    for begin in range(0, len(matrix), ROWS):
        part = matrix[begin : begin + ROWS]
        _code(part, inputs, columns, x, code, codes)
        _answer(codes, len(part), nodes, trees, gone, out[:, begin : begin + ROWS])
