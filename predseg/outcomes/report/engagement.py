"""The sections about outcomes: what members do with what they are sent, and what experiments show."""

from __future__ import annotations

from collections.abc import Sequence

from predseg.language.floor import Floor
from predseg.language.time import DAY, say_duration, say_instant
from predseg.outcomes.engagement import EVERYONE, Engaged, Engagement, Rate
from predseg.outcomes.projects import Trial
from predseg.outcomes.report import charts
from predseg.outcomes.report.page import Picture, Section


def engagement_section(found: Engagement | None, floor: Floor) -> Section:
    """Return the section; None when nothing was ever delivered."""
    if found is None or not found.segments[0].figures.delivered:
        return Section("engagement", "Engagement", "No message was delivered: there are no events called Email Delivered.")
    about = f"Messages delivered from {say_instant(found.since)[:10]} to {say_instant(found.as_of)[:10]}; a segment counts who was a member when they arrived."
    if found.recorded is not None and found.recorded > found.since:
        about += f" Memberships are recorded since {say_instant(found.recorded)[:10]}."
    return Section(
        "engagement", "Engagement", about, [p for p in (_rates(found, floor), _over_time(found, floor), _campaigns(found, floor)) if p is not None]
    )


def _rates(found: Engagement, floor: Floor) -> Picture:
    kept = [one for one in found.segments if floor.shown(one.figures.delivered) and _tellable(one.figures.ctr, one.figures.clicked, floor)]
    kept.sort(key=lambda one: -(one.figures.ctr.value or 0))
    rows = [{"segment": e.segment, "value": e.figures.ctr.value, "low": e.figures.ctr.low, "high": e.figures.ctr.high} for e in kept]
    whole = found.segments[0].figures
    overall = whole.ctr.value if _tellable(whole.ctr, whole.clicked, floor) else None
    reads = _read_rates(found, kept, overall)
    table = [_figures(one, floor) for one in found.segments]
    columns = ("segment", "delivered", "opened", "clicked", "CTR", "95 % interval", "of opens", "orders", "revenue", "left")
    chart = charts.ranges(rows, "segment", "clicked, of what was delivered", rule=overall) if rows else None
    return Picture("ctr", "Click rate by segment", reads, columns, table, chart)


def _read_rates(found: Engagement, kept: Sequence[Engaged], overall: float | None) -> str:
    if not kept or overall is None:
        return "Too few clicked to say anything."
    if found.warnings:
        said = [f"{w.segment} ({_percent(w.ctr)}, {w.against} {_percent(w.other)})" for w in found.warnings]
        return f"Lower than chance explains: {'; '.join(said)}."
    segments = [one for one in kept if one.segment != EVERYONE]
    if not segments:
        return f"{overall:.1%} of what was delivered was clicked."
    best = segments[0]
    return (
        f"{_percent(best.figures.ctr)} of what {best.segment} got was clicked, of everyone {overall:.1%} (dashed); no segment is low beyond chance."
    )


def _over_time(found: Engagement, floor: Floor) -> Picture | None:
    everyone = found.segments[0]
    kept = [p for p in everyone.periods if floor.shown(p.figures.delivered) and _tellable(p.figures.ctr, p.figures.clicked, floor)]
    if len(kept) < 2:
        return None
    rows = [{"from": say_instant(p.start), "value": p.figures.ctr.value, "low": p.figures.ctr.low, "high": p.figures.ctr.high} for p in kept]
    turns = [(one.segment, turn) for one in found.segments for turn in one.turns]
    reads = f"In periods of {say_duration(kept[0].end - kept[0].start)} the click rate was between {min(r['value'] or 0 for r in rows):.1%} and "
    reads += f"{max(r['value'] or 0 for r in rows):.1%}, without a turn beyond chance."
    if turns:
        segment, turn = turns[-1]
        verb = "fell" if turn.after < turn.before else "rose"
        reads = f"The click rate of {segment} {verb} in the week of {say_instant(turn.at)[:10]}, from {turn.before:.1%} to {turn.after:.1%}."
    table = [(say_instant(p.start)[:10], *_figures(Engaged("", p.figures, (), (), ()), floor)[1:]) for p in kept]
    columns = ("from", "delivered", "opened", "clicked", "CTR", "95 % interval", "of opens", "orders", "revenue", "left")
    return Picture(
        "ctr-time", "Click rate over time, of everyone", reads, columns, table, charts.band(rows, "from", "clicked, of what was delivered")
    )


def _campaigns(found: Engagement, floor: Floor) -> Picture | None:
    kept = [
        c
        for c in found.segments[0].campaigns
        if c.campaign and floor.shown(c.figures.delivered) and _tellable(c.figures.ctr, c.figures.clicked, floor)
    ][-20:]
    if len(kept) < 2:
        return None
    best, worst = max(kept, key=lambda c: c.figures.ctr.value or 0), min(kept, key=lambda c: c.figures.ctr.value or 0)
    reads = f"Of the last {len(kept)} campaigns {best.campaign} was clicked most ({_percent(best.figures.ctr)}), {worst.campaign} least ({_percent(worst.figures.ctr)})."
    table = [(c.campaign, say_instant(c.first)[:10], *_figures(Engaged("", c.figures, (), (), ()), floor)[1:]) for c in reversed(kept)]
    columns = ("campaign", "first", "delivered", "opened", "clicked", "CTR", "95 % interval", "of opens", "orders", "revenue", "left")
    rows = [{"campaign": c.campaign, "value": c.figures.ctr.value, "low": c.figures.ctr.low, "high": c.figures.ctr.high} for c in reversed(kept)]
    chart = charts.ranges(rows, "campaign", "clicked, of what was delivered")
    return Picture("campaigns", "Click rate by campaign, latest first", reads, columns, table, chart, wide=True)


def _tellable(rate: Rate, people: int, floor: Floor) -> bool:
    """Whether a rate tells nothing of single people: nobody, or enough of them."""
    return rate.value is not None and (people == 0 or floor.shown(people))


def _percent(rate: Rate) -> str:
    return "-" if rate.value is None else f"{rate.value:.1%}"


def _figures(one: Engaged, floor: Floor) -> tuple[str, ...]:
    f = one.figures
    if f.delivered and not floor.shown(f.delivered):
        return (one.segment, floor.few, *["-"] * 8)
    told = _tellable(f.ctr, f.clicked, floor)
    interval = f"{f.ctr.low:.1%} to {f.ctr.high:.1%}" if told else "-"
    opens = _percent(f.click_to_open) if told and _tellable(f.click_to_open, f.opened - f.machine, floor) else "-"
    revenue = f"{f.revenue:,.0f}" if f.orders == 0 or floor.shown(f.orders) else "-"
    shares = (_percent(f.ctr) if told else "-", interval, opens)
    return (
        one.segment,
        floor.count(f.delivered),
        floor.count(f.opened),
        floor.count(f.clicked),
        *shares,
        floor.count(f.orders),
        revenue,
        floor.count(f.unsubscribed + f.complained),
    )


def experiments_section(found: Sequence[Trial], floor: Floor) -> Section:
    """Return the section about holdouts and splits."""
    if not found:
        return Section("experiments", "Experiments", "No segment has a holdout or a split: `holdout: 10%` lets one see what writing to it does.")
    about = "Groups drawn by chance, so that they differ by nothing else than what they were sent. Thick: the interval for one planned look; thin: for any number of looks."
    return Section("experiments", "Experiments", about, [_trial(one, floor) for one in found])


def _trial(one: Trial, floor: Floor) -> Picture:
    key, title = f"experiment-{one.segment}".replace("_", "-"), f"{one.segment}: {one.design}"
    columns = ("group", "share", "watched", "did it", "rate", "95 % interval", "value each")
    if one.result is None:
        return Picture(key, title, "Nobody is in it yet.", wide=True)
    table = [
        (
            g.name,
            f"{g.share:.1%}",
            floor.count(g.customers),
            floor.count(g.did),
            f"{g.rate:.2%}" if g.rate is not None and (g.did == 0 or floor.shown(g.did)) else "-",
            f"{g.interval[0]:.2%} to {g.interval[1]:.2%}" if g.customers and (g.did == 0 or floor.shown(g.did)) else "-",
            f"{g.value:,.2f}" if g.value is not None and (g.did == 0 or floor.shown(g.did)) else "-",
        )
        for g in one.result.groups
    ]
    people = {g.name: g.did for g in one.result.groups}
    kept = [c for c in one.result.comparisons if all(n == 0 or floor.shown(n) for n in (people.get(c.group, floor.k), people.get(c.base, floor.k)))]
    rows = []
    for c in kept:
        low, high = c.did.interval
        least, most = c.did.always or c.did.interval
        rows.append({"pair": f"{c.group} − {c.base}", "value": c.did.difference, "low": low, "high": high, "least": least, "most": most})
    watched = f"{one.goal} within {one.within / DAY:g} days"
    if one.result.withheld:
        reads = "Withheld: the groups are not as large as declared, so that a comparison would compare what went wrong."
    elif kept:
        reads = f"{watched}: " + "; ".join(c.verdict for c in kept) + "."
    else:
        reads = f"{watched}: it is too early to say anything; {one.result.waiting:,} customers are still watched."
    chart = charts.ranges(rows, "pair", "difference of the rates", "+.1%", rule=0.0, outer=True) if rows else None
    return Picture(key, title, reads, columns, table, chart, wide=True)
