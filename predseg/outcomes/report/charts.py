"""The charts: Altair specifications without widths; the page gives each the width that it has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import altair as alt

Rows = Sequence[dict[str, Any]]
Spec = dict[str, Any]
BLUE, ORANGE, GREEN, RED, GREY = "#2f7ebc", "#e07b28", "#2a9d6f", "#c9485b", "#7d8590"
LEFT = 170
"""Room for the labels at the left (pixels)."""
_ROW = 26


def _altair() -> Any:
    import altair

    return altair


def _data(rows: Rows) -> Any:
    return _altair().Data(values=list(rows))


def _spec(chart: alt.TopLevelMixin, left: int = 0) -> Spec:
    found: Spec = chart.to_dict()
    for key in ("$schema", "config"):
        found.pop(key, None)
    return found | {"usermeta": {"left": left}}


def _figures(number: str, ticks: int = 5) -> Any:
    """An axis of counts (``,``), in thousands from ten thousand on, or of another format."""
    alt = _altair()
    if number != ",":
        return alt.Axis(tickCount=ticks, format=number)
    return alt.Axis(tickCount=ticks, labelExpr="format(datum.value, datum.value >= 10000 ? '~s' : ',')")


def _height(rows: Rows, of: str) -> int:
    return _ROW * max(len({row[of] for row in rows}), 1)


def bars(rows: Rows, of: str, value: str, title: str, colour: str = BLUE, number: str = ",") -> Spec:
    """Return horizontal bars in the order of the rows, each with its number."""
    alt = _altair()
    base = alt.Chart(_data(rows)).encode(
        y=alt.Y(f"{of}:N", sort=None, title=None),
        x=alt.X(f"{value}:Q", title=title, axis=_figures(number, 4)),
        tooltip=[alt.Tooltip(f"{of}:N"), alt.Tooltip(f"{value}:Q", format=number)],
    )
    chart = base.mark_bar(color=colour, height={"band": 0.65}) + base.mark_text(align="left", dx=4, fontSize=11).encode(
        text=alt.Text(f"{value}:Q", format=number)
    )
    return _spec(chart.properties(height=_height(rows, of)), LEFT)


def lines(rows: Rows, time: str, value: str, of: str, title: str, number: str = ",") -> Spec:
    """Return a line of each name over time."""
    alt = _altair()
    names = list(dict.fromkeys(row[of] for row in rows))
    chart = alt.Chart(_data(rows)).mark_line(point=alt.OverlayMarkDef(size=22), strokeWidth=2)
    chart = chart.encode(
        x=alt.X(f"{time}:T", title=None, axis=alt.Axis(tickCount=6, format="%d %b", grid=False)),
        y=alt.Y(f"{value}:Q", title=title, axis=_figures(number)),
        color=alt.Color(f"{of}:N", sort=names, legend=alt.Legend(columns=2) if len(names) > 1 else None),
        tooltip=[alt.Tooltip(f"{of}:N"), alt.Tooltip(f"{time}:T", format="%d %b %Y"), alt.Tooltip(f"{value}:Q", format=number)],
    )
    return _spec(chart.properties(height=240))


def areas(rows: Rows, time: str, value: str, of: str, title: str) -> Spec:
    """Return stacked areas over time."""
    alt = _altair()
    names = list(dict.fromkeys(row[of] for row in rows))
    chart = alt.Chart(_data(rows)).mark_area(opacity=0.85, line=False)
    chart = chart.encode(
        x=alt.X(f"{time}:T", title=None, axis=alt.Axis(tickCount=6, format="%d %b", grid=False)),
        y=alt.Y(f"{value}:Q", title=title, axis=_figures(",", 4)),
        color=alt.Color(f"{of}:N", sort=names, legend=alt.Legend(columns=2)),
        tooltip=[alt.Tooltip(f"{of}:N"), alt.Tooltip(f"{time}:T", format="%d %b %Y"), alt.Tooltip(f"{value}:Q", format=",")],
    )
    return _spec(chart.properties(height=240))


def ranges(rows: Rows, of: str, title: str, number: str = ".1%", rule: float | None = None, outer: bool = False) -> Spec:
    """Return a point with its interval for each name: ``value``, ``low``, ``high``, and ``least``, ``most`` of a wider one when ``outer``."""
    alt = _altair()
    y = alt.Y(f"{of}:N", sort=None, title=None)
    axis = alt.Axis(tickCount=5, format=number)
    scale = alt.Scale(zero=False, nice=True)
    base = alt.Chart(_data(rows))
    layers = []
    if outer:
        layers.append(base.mark_rule(color=GREY, opacity=0.5, strokeWidth=2).encode(y=y, x=alt.X("least:Q", scale=scale), x2="most:Q"))
    layers.append(
        base.mark_rule(color=BLUE, strokeWidth=4, opacity=0.55).encode(y=y, x=alt.X("low:Q", title=title, axis=axis, scale=scale), x2="high:Q")
    )
    said = [alt.Tooltip(f"{of}:N"), *(alt.Tooltip(f"{name}:Q", format=number) for name in ("value", "low", "high"))]
    layers.append(base.mark_point(color=BLUE, filled=True, size=70, opacity=1).encode(y=y, x=alt.X("value:Q", scale=scale), tooltip=said))
    if rule is not None:
        line = alt.Chart(_data([{"at": rule}])).mark_rule(color="currentColor", strokeDash=[4, 3], opacity=0.6)
        layers.append(line.encode(x=alt.X("at:Q", scale=scale)))
    return _spec(alt.layer(*layers).properties(height=_height(rows, of)), LEFT)


def band(rows: Rows, time: str, title: str, number: str = ".1%") -> Spec:
    """Return one line over time with the band of its interval: ``value``, ``low``, ``high``."""
    alt = _altair()
    x = alt.X(f"{time}:T", title=None, axis=alt.Axis(tickCount=6, format="%b %Y", grid=False))
    base = alt.Chart(_data(rows))
    area = base.mark_area(color=BLUE, opacity=0.2).encode(x=x, y=alt.Y("low:Q", title=title, scale=alt.Scale(zero=False)), y2="high:Q")
    said = [alt.Tooltip(f"{time}:T", format="%d %b %Y"), *(alt.Tooltip(f"{name}:Q", format=number) for name in ("value", "low", "high"))]
    line = base.mark_line(color=BLUE, point=alt.OverlayMarkDef(size=36, color=BLUE)).encode(
        x=x, y=alt.Y("value:Q", axis=alt.Axis(tickCount=5, format=number)), tooltip=said
    )
    return _spec((area + line).properties(height=240))


def gain(rows: Rows) -> Spec:
    """Return the curves of how many hits (``hits``) the highest share (``share``) holds, by ``forecast``."""
    alt = _altair()
    names = list(dict.fromkeys(row["forecast"] for row in rows))
    colours = [BLUE, ORANGE, GREEN, "#8a63b3"][: len(names) - 1] + [GREY]
    chart = alt.Chart(_data(rows)).mark_line(strokeWidth=2)
    chart = chart.encode(
        x=alt.X("share:Q", title="share of customers, highest score first", axis=alt.Axis(format=".0%", tickCount=5)),
        y=alt.Y("hits:Q", title="share of all who did it", axis=alt.Axis(format=".0%", tickCount=5)),
        color=alt.Color("forecast:N", sort=names, scale=alt.Scale(domain=names, range=colours), legend=alt.Legend(columns=2)),
        tooltip=[alt.Tooltip("forecast:N"), alt.Tooltip("share:Q", format=".0%"), alt.Tooltip("hits:Q", format=".0%")],
    )
    return _spec(chart.properties(height=260))


def columns(rows: Rows, of: str, value: str, x_title: str, title: str) -> Spec:
    """Return upright bars in the order of the rows, beside a line at 1."""
    alt = _altair()
    base = alt.Chart(_data(rows)).encode(x=alt.X(f"{of}:O", sort=None, title=x_title, axis=alt.Axis(labelAngle=0)))
    chart = base.mark_bar(color=BLUE).encode(
        y=alt.Y(f"{value}:Q", title=title, axis=alt.Axis(tickCount=5)), tooltip=[alt.Tooltip(f"{of}:O"), alt.Tooltip(f"{value}:Q", format=".2f")]
    )
    rule = alt.Chart(_data([{"at": 1}])).mark_rule(color="currentColor", strokeDash=[4, 3], opacity=0.6).encode(y="at:Q")
    return _spec((chart + rule).properties(height=260))


def calibration(rows: Rows, most: float) -> Spec:
    """Return what came true (``came``, with ``low`` and ``high``) against what was said (``said``), beside the line of a perfect forecast."""
    alt = _altair()
    scale = alt.Scale(domain=[0, most], nice=False)
    x = alt.X("said:Q", title="probability that was said", scale=scale, axis=alt.Axis(format=".0%", tickCount=5))
    ideal = alt.Chart(_data([{"said": 0, "came": 0}, {"said": most, "came": most}])).mark_line(
        color="currentColor", strokeDash=[4, 3], opacity=0.6, strokeWidth=1
    )
    base = alt.Chart(_data(rows))
    y = alt.Y("came:Q", title="share for whom it came true", scale=scale, axis=alt.Axis(format=".0%", tickCount=5))
    ends = base.mark_rule(color=BLUE, opacity=0.6, strokeWidth=2).encode(x=x, y=alt.Y("low:Q", scale=scale), y2="high:Q")
    said = [alt.Tooltip(f"{name}:Q", format=form) for name, form in (("said", ".1%"), ("came", ".1%"), ("customers", ","))]
    points = base.mark_point(color=BLUE, filled=True, size=60, opacity=1).encode(x=x, y=y, tooltip=said)
    return _spec((ideal.encode(x=x, y=y) + ends + points).properties(height=260))


def grid(rows: Rows, x: str, y: str, value: str, x_title: str, y_title: str) -> Spec:
    """Return a grid of shaded cells with their numbers; cells that are not among the rows stay empty."""
    alt = _altair()
    order = [1, 2, 3, 4, 5]
    base = alt.Chart(_data(rows)).encode(
        x=alt.X(f"{x}:O", title=x_title, scale=alt.Scale(domain=order), axis=alt.Axis(labelAngle=0, grid=False)),
        y=alt.Y(f"{y}:O", title=y_title, scale=alt.Scale(domain=order[::-1]), axis=alt.Axis(grid=False)),
    )
    said = [alt.Tooltip(f"{x}:O"), alt.Tooltip(f"{y}:O"), alt.Tooltip(f"{value}:Q", format=","), alt.Tooltip("spent:Q", format=",.0f")]
    cells = base.mark_rect(stroke=None, cornerRadius=3).encode(
        color=alt.Color(f"{value}:Q", scale=alt.Scale(range=["#cfe3f3", "#1f5f96"]), legend=None), tooltip=said
    )
    dark = alt.datum[value] > 0.55 * max((row[value] for row in rows), default=1)
    numbers = base.mark_text(fontSize=11).encode(
        text=alt.Text(f"{value}:Q", format=","), color=alt.condition(dark, alt.value("#ffffff"), alt.value("#16202c"))
    )
    return _spec((cells + numbers).properties(height=260))


def spread(rows: Rows, of: str, title: str, number: str = ".0%") -> Spec:
    """Return how the scores of each name are spread: ``low`` and ``high`` tenths, quarters and the ``middle``."""
    alt = _altair()
    y, base = alt.Y(f"{of}:N", sort=None, title=None), alt.Chart(_data(rows))
    axis = alt.Axis(format=number, tickCount=5)
    line = base.mark_rule(color=GREY, opacity=0.7).encode(y=y, x=alt.X("low:Q", title=title, axis=axis), x2="high:Q")
    box = base.mark_bar(color=BLUE, opacity=0.75, height={"band": 0.5}).encode(y=y, x=alt.X("quarter:Q"), x2="three_quarters:Q")
    said = [alt.Tooltip(f"{of}:N"), *(alt.Tooltip(f"{name}:Q", format=number) for name in ("low", "quarter", "middle", "three_quarters", "high"))]
    tick = base.mark_tick(color="currentColor", thickness=2, height={"band": 0.6}).encode(y=y, x="middle:Q", tooltip=said)
    return _spec((line + box + tick).properties(height=_height(rows, of)), LEFT)


def moves(rows: Rows, of: str) -> Spec:
    """Return who entered (to the right) and left (to the left): ``number`` is negative for ``left``, by ``change``."""
    alt = _altair()
    chart = alt.Chart(_data(rows)).mark_bar(height={"band": 0.65})
    chart = chart.encode(
        y=alt.Y(f"{of}:N", sort=None, title=None),
        x=alt.X("number:Q", title="left and entered at the last run", axis=alt.Axis(tickCount=5, labelExpr="format(abs(datum.value), '~s')")),
        color=alt.Color("change:N", scale=alt.Scale(domain=["entered", "left"], range=[GREEN, RED])),
        tooltip=[alt.Tooltip(f"{of}:N"), alt.Tooltip("change:N"), alt.Tooltip("customers:Q", format=",")],
    )
    return _spec(chart.properties(height=_height(rows, of)), LEFT)


def upset(sets: Rows, cells: Rows) -> Spec:
    """Return an UpSet picture: a bar for every combination of segments, and below it which segments it is made of.

    Lex, Gehlenborg, Strobelt, Vuillemot and Pfister, "UpSet: visualization of intersecting sets", IEEE TVCG 20 (2014).

    Args:
        sets: ``combination`` (a number), ``customers``, ``names``.
        cells: ``combination``, ``segment``, ``inside``.
    """
    alt = _altair()
    x = alt.X("combination:O", axis=None)
    bar = alt.Chart(_data(sets)).encode(x=x, y=alt.Y("customers:Q", title="customers", axis=_figures(",", 4)))
    said = [alt.Tooltip("names:N", title="in"), alt.Tooltip("customers:Q", format=",")]
    top = bar.mark_bar(color=BLUE).encode(tooltip=said) + bar.mark_text(dy=-6, fontSize=10).encode(text=alt.Text("customers:Q", format=","))
    dots = (
        alt.Chart(_data(cells))
        .mark_point(filled=True, size=70, shape="circle")
        .encode(
            x=x,
            y=alt.Y("segment:N", sort=None, title=None),
            color=alt.condition("datum.inside", alt.value(BLUE), alt.value(GREY)),
            opacity=alt.condition("datum.inside", alt.value(1), alt.value(0.22)),
        )
    )
    chart = alt.vconcat(top.properties(height=150), dots.properties(height=20 * len({c["segment"] for c in cells})), spacing=4)
    return _spec(chart, LEFT)
