"""Where the audience goes, beside files and channels: a table of a PostgreSQL database.

audience:
  url: postgresql://writer@db.example.com/crm      # the password in PGPASSWORD or ~/.pgpass
  table: marketing.audience                        # predseg_audience by default
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from predseg.errors import ConfigError
from predseg.language.yaml import Node

TABLE = "predseg_audience"
_URL = r"^postgres(ql)?://"
_NAME = r"^[A-Za-z_][A-Za-z0-9_]{0,62}(\.[A-Za-z_][A-Za-z0-9_]{0,62})?$"


@dataclass(frozen=True)
class Audience:
    """A table of a database."""

    url: str
    table: str = TABLE


def parse_audience(node: Node) -> Audience:
    """Read `audience:`.

    Raises:
        ConfigError: E353 when it names no PostgreSQL database, or what cannot be a table.
    """
    keys = node.mapping("`audience`", ("url", "table"))
    url = keys["url"].text("`url`") if "url" in keys else ""
    if not re.match(_URL, url):
        place = keys["url"].place if "url" in keys else node.place
        raise ConfigError("E353", place, "`audience` names no PostgreSQL database", "write `url: postgresql://writer@host/database`")
    table = keys["table"].text("`table`") if "table" in keys else TABLE
    if not re.match(_NAME, table, re.ASCII):
        raise ConfigError(
            "E353", keys["table"].place, f"{table!r} cannot be the name of a table", "use letters, digits and `_`, with the schema before a `.`"
        )
    return Audience(url, table)


def audience_schema() -> dict[str, Any]:
    """Return the JSON Schema of the declaration."""
    url = {"type": "string", "pattern": _URL, "description": "postgresql://writer@host/database; the password stands in PGPASSWORD or ~/.pgpass."}
    table = {"type": "string", "pattern": _NAME, "description": f"Its name, with the schema before a `.`; {TABLE} by default."}
    said = "A table of PostgreSQL that says who may be written to, by segment."
    return {"type": "object", "properties": {"url": url, "table": table}, "required": ["url"], "additionalProperties": False, "description": said}
