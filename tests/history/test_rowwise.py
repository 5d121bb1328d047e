"""Which queries look at each row alone. A wrong yes would give other rows; a wrong no only takes longer."""

from __future__ import annotations

import pytest

from predseg.history.rowwise import is_rowwise

ALONE = [
    None,
    "SELECT * FROM Source;",
    "from source",
    "select * exclude (a) replace (b + 1 as b), columns('x.*') from source s where s.a in (1, 2) and b between 1 and 2",
    "select if(a, 1, 2), [x for x in l if x > 1], list_transform(l, lambda x: x + 1), unnest(items, recursive := true) from source",
    "select try_cast(a as int), t::timestamptz at time zone 'UTC', extract(year from t), date_trunc('day', t), t + interval 3 days from source",
    "select coalesce(a, nullif(b, '')), a is null, not a, a like 'x%', l[1], s.f, s['k'], {'x': a}, a collate nocase, j ->> '$.x' from source",
    "select strptime(d, '%d/%m/%Y'), epoch_ms(n), to_timestamp(n / 1000), regexp_extract(a, 'x'), age from source",
]
NOT = [
    *(
        f"select {what} from source"
        for what in ("sum(a)", "list(a)", "count(*) over ()", "distinct a", "(select 1)", "a, #1", "nope(a)", "nextval('n')")
    ),
    *(
        f"select a, {what} from source"
        for what in ("random()", "now()", "today()", "age(t)", "current_date", "current_timestamp", "getvariable('x')")
    ),
    *(
        f"select a from source {what}"
        for what in ("limit 3", "order by a", "group by a", "using sample 10%", "tablesample 10%", "union all from source")
    ),
    "select a, b from source group by all",
    "select a from source qualify row_number() over () = 1",
    "select a from source where a in (select a from source)",
    "with t as (select 1) select a from source",
    "select a from source s join source t using (a)",
    "select a from (select * from source)",
    "select a from 'x.parquet'",
    "select a from source; select a from source",
    "select 1",
    "pivot source on a",
    "selec",
]


@pytest.mark.parametrize("query", ALONE)
def test_rows_that_are_looked_at_alone(query: str | None) -> None:
    assert is_rowwise(query)


@pytest.mark.parametrize("query", NOT)
def test_a_query_that_may_see_others(query: str) -> None:
    assert not is_rowwise(query)
