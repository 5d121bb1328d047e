"""Who did it: anonymous ids that a later event joins to a customer.

A row with both a customer_id and an anonymous_id is a **link**, visible from max(event_time, received_at). A row with
only an anonymous_id belongs to the customer that the links join; as long as there is none, the anonymous id is its
customer id. Two customers are never merged: of links of one anonymous id to several customers the earliest visible
(then the smallest customer_id) holds, and every later one is written to quarantine; the row that brought it stays an
event of its own customer.

In the events table
    - a row with a customer_id of its own has ``linked_at`` null;
    - a row with only an anonymous id stands under the customer known **now**, with its ``anonymous_id`` and, in
      ``linked_at``, the instant at which the joining link became visible (null, and customer_id = anonymous_id, when
      it was never joined).

So a reader rebuilds who a row belonged to at t: where ``t < linked_at`` it is ``anonymous_id``, else ``customer_id``.
Customer ids and anonymous ids share one space of names: the same text is the same person.
"""

from __future__ import annotations

from dataclasses import dataclass

from predseg.engine import Engine


@dataclass(frozen=True)
class Refused:
    """A link that would have merged two customers: ``anonymous_id`` already belongs to ``owner``."""

    anonymous_id: str
    customer_id: str
    owner: str
    visible_at: int


def own_sql(customer: str, anonymous: str, linked: str) -> str:
    """Return the SQL of the customer_id that the source gave to a row of the events table, null where it gave none."""
    return f"case when {anonymous} is null or ({linked} is null and {customer} <> {anonymous}) then {customer} end"


def link(engine: Engine, rows: str) -> list[Refused]:
    """Make the table ``links`` (anonymous_id, owner, linked_at) of the links among ``rows`` and return those refused."""
    engine.execute(
        "create or replace temp table all_links as select anonymous_id, customer_id, min(greatest(event_time, received_at)) as linked_at "
        f"from {rows} where anonymous_id is not null and customer_id is not null group by all"
    )
    engine.execute(
        "create or replace temp table links as select anonymous_id, arg_min(customer_id, (linked_at, customer_id)) as owner, min(linked_at) as linked_at "
        "from all_links group by anonymous_id"
    )
    found = engine.rows(
        "select a.anonymous_id, a.customer_id, owner, epoch_us(a.linked_at) from all_links a join links using (anonymous_id) "
        "where a.customer_id <> owner order by all"
    )
    return [Refused(*row) for row in found]


def person_sql(rows: str) -> str:
    """Return the query of ``rows`` under the customer known now, with ``linked_at``; after :func:`link`."""
    return (
        "select r.* replace (coalesce(r.customer_id, l.owner, r.anonymous_id) as customer_id), "
        f"case when r.customer_id is null then l.linked_at end as linked_at from {rows} r left join links l using (anonymous_id)"
    )
