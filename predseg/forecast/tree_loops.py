"""The loops of `predseg.forecast.trees`, compiled when they are first called and kept beside this file or in the user's cache. Needs numba."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from predseg.forecast.trees import MISSING, ZERO

ROWS = 256
"""Rows at a time: their codes and what is left of a tree for each stay in the processor's first cache."""
_STEP = np.uint64(0x03F79D71B4CB0A89)
_PLACE = np.zeros(64, np.uint8)
"""Which bit is set, by the top six bits of its product with a de Bruijn sequence."""
for _bit in range(64):
    _PLACE[(int(_STEP) << _bit) % 2**64 >> 58] = _bit


@njit(cache=True, nogil=True)
def _code(matrix: Any, inputs: Any, columns: Any, x: Any, bins: Any, codes: Any) -> None:
    """Fill bins, uint8 (inputs, rows): how many edges of its feature lie below each value, `MISSING` for a missing one; and codes, (columns, rows): what splits look at."""
    source, edges, first, own = inputs
    missing, table, tables = columns
    for i in range(len(source)):
        code = bins[i]
        for r in range(len(matrix)):
            value = matrix[r, source[i]]
            x[r] = 0.0 if abs(value) <= ZERO else value
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
        for r in range(len(matrix)):
            code[r] = MISSING if np.isnan(x[r]) else code[r]


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
def _strongest(bins: Any, told: Any, terms: Any, x: Any, features: Any, sizes: Any) -> None:
    """Fill features and sizes, (top, rows): of each row what adds most, greatest first, of equals the first; −1 and 0 where nothing adds."""
    tables, told_at, term_at = told
    top, rows = sizes.shape
    features[:], sizes[:] = -1, 0.0
    for f in range(len(told_at)):
        i, t = told_at[f], term_at[f]
        if i < 0 and t < 0:
            continue
        for r in range(rows):
            x[r] = tables[i, bins[i, r]] if i >= 0 else 0.0
        if t >= 0:
            for r in range(rows):
                x[r] += terms[t, r]
        for k in range(top - 1, -1, -1):  # a greater one moves those below it down
            for r in range(rows):
                greater = abs(x[r]) > abs(sizes[k, r])
                if k + 1 < top:
                    sizes[k + 1, r] = sizes[k, r] if greater else sizes[k + 1, r]
                    features[k + 1, r] = features[k, r] if greater else features[k + 1, r]
                sizes[k, r] = x[r] if greater else sizes[k, r]
                features[k, r] = f if greater else features[k, r]


@njit(cache=True, nogil=True)
def margins(matrix: Any, inputs: Any, columns: Any, nodes: Any, trees: Any, out: Any, told: Any, terms: Any, features: Any, sizes: Any) -> None:
    """Fill out, float64 (members, rows), zero before: see `predseg.forecast.trees.Trees` for the arrays; features and sizes, (top, rows), unless top is 0: see `Told`."""
    bins, codes = np.empty((len(inputs[0]), ROWS), np.uint8), np.empty((len(columns[0]), ROWS), np.uint8)
    x, gone = np.empty(ROWS, np.float64), np.empty(ROWS, nodes[2].dtype)
    for begin in range(0, len(matrix), ROWS):
        part, rows = matrix[begin : begin + ROWS], slice(begin, begin + ROWS)
        _code(part, inputs, columns, x, bins, codes)
        _answer(codes, len(part), nodes, trees, gone, out[:, rows])
        if len(sizes):
            _strongest(bins, told, terms[:, rows], x, features[:, rows], sizes[:, rows])
