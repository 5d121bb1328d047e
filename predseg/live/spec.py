"""What the OpenAPI document says of every address: bodies, answers, keys."""

from __future__ import annotations

from typing import Any

ABOUT = (
    "Events of Segment and RudderStack clients come in, segments are asked for. An event is answered with 200 when it is decided and "
    "stored. 429 and 503 carry Retry-After: come again. A message that cannot be taken is put into quarantine, and the answer says why."
)
_ERROR = {"type": "object", "required": ["code", "message"], "properties": {"code": {"type": "string"}, "message": {"type": "string"}}}
_COUNT = {"type": "integer", "minimum": 0}
_INSTANT = {"type": ["string", "null"], "description": "ISO 8601 in UTC"}
_RETRY = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
_REFUSALS = {
    400: "The body is not JSON, or no message.",
    401: "The write key is missing or wrong.",
    408: "The body came too slowly.",
    413: "The body is too long.",
    415: "The body is packed in an unknown way.",
    429: "Too many events wait: come again.",
    503: "The store cannot be used at the moment: come again.",
}


def _answers(schema: dict[str, Any], refusals: dict[int, str], media: str = "application/json") -> dict[str, Any]:
    found: dict[str, Any] = {"200": {"description": "Done.", "content": {media: {"schema": schema}}}}
    for status, said in refusals.items():
        found[str(status)] = {"description": said, "content": {"application/json": {"schema": _ERROR}}}
        if status in (429, 503) and "come again" in said:
            found[str(status)]["headers"] = _RETRY
    return found


_FIELDS = {
    "userId": "The customer: a text or a whole number.",
    "anonymousId": "The visitor; one of both is needed, and both together join the two.",
    "messageId": "The same message comes but once.",
    "timestamp": "When it happened, ISO 8601 with an offset; else now.",
    "sentAt": "When it was sent by the clock of the client, which is corrected by it.",
    "writeKey": "Instead of the header Authorization.",
}
_OWN = {
    "track": {"event": "What happened: a text.", "properties": "More about it: an object."},
    "page": {"name": "Of the page.", "category": "Of the page.", "properties": "More about it: an object."},
    "screen": {"name": "Of the screen.", "category": "Of the screen.", "properties": "More about it: an object."},
    "identify": {"traits": "Facts of the customer: an object."},
    "group": {"groupId": "The group.", "traits": "Facts of the group: an object."},
    "alias": {"previousId": "The visitor who is the customer userId."},
}


def _message(kind: str) -> dict[str, Any]:
    """A wrong field is no wrong request: the message is put into quarantine. So fields are described, not prescribed."""
    if kind == "batch":
        batch = {"type": "array", "items": {}, "description": "Messages, each with its `type`."}
        return {"type": "object", "required": ["batch"], "properties": {"batch": batch, **_described(("sentAt", "writeKey"), _FIELDS)}}
    return {"type": "object", "properties": _described(tuple(_OWN[kind]), _OWN[kind]) | _described(tuple(_FIELDS), _FIELDS)}


def _described(names: tuple[str, ...], said: dict[str, str]) -> dict[str, Any]:
    return {name: {"description": said[name]} for name in names}


_TAKEN = {
    "type": "object",
    "required": ["success", "accepted", "duplicates", "quarantined", "suppressed", "rejected"],
    "properties": {
        "success": {"const": True},
        **{name: _COUNT for name in ("accepted", "duplicates", "quarantined", "suppressed")},
        "rejected": {
            "type": "array",
            "items": {"type": "object", "required": ["index", "reason"], "properties": {"index": _COUNT, "reason": {"type": "string"}}},
        },
    },
}


def collector(kind: str) -> dict[str, Any]:
    """Return what is said of one address of the collector."""
    what = "A batch of messages" if kind == "batch" else f"One {kind} message"
    body = {"required": True, "content": {"application/json": {"schema": _message(kind)}}}
    responses = _answers(_TAKEN, _REFUSALS)
    extra = {"requestBody": body, "responses": responses, "security": [{"write_key": []}]}
    return {"summary": f"{what}, as Segment and RudderStack clients send it.", "openapi_extra": extra, "tags": ["events"], "response_model": None}


_AGED = {"as_of": _INSTANT, "stale": {"type": "boolean", "description": "Whether the answer may be out of date."}}
_MEMBERSHIP = {
    "type": "object",
    "required": ["segment", "member", "since", "until", "as_of", "stale"],
    "properties": {
        "segment": {"type": "string"},
        "member": {"type": ["boolean", "null"], "description": "null: too old to say."},
        "since": _INSTANT,
        "until": _INSTANT,
        **_AGED,
    },
}
_NUMBER = {"type": ["integer", "string"], "description": "Of a group smaller than `smallest_group` only that: `<10`.", "pattern": "^<[0-9]+$"}
_SEGMENT = {
    "type": "object",
    "required": ["segment", "size", "as_of", "stale"],
    "properties": {"segment": {"type": "string"}, "size": {**_NUMBER, "type": ["integer", "string", "null"]}, **_AGED},
}
_HOURS = {"type": "object", "properties": {"hour": {"type": "string"}, "entered": _NUMBER, "left": _NUMBER}}
_SHOWN: dict[str, tuple[str, dict[str, Any], str, dict[int, str]]] = {
    "customer": (
        "The segments of a customer, with scores; with `features=true` also what is known of him.",
        {
            "type": "object",
            "required": ["customer_id", "segments", "as_of", "stale"],
            "properties": {"customer_id": {"type": "string"}, "segments": {"type": "array", "items": _MEMBERSHIP}, **_AGED},
        },
        "application/json",
        {404: "The id cannot be that of a customer.", 422: "A parameter cannot be read."},
    ),
    "segments": (
        "All segments.",
        {"type": "object", "required": ["segments"], "properties": {"segments": {"type": "array", "items": _SEGMENT}}},
        "application/json",
        {},
    ),
    "segment": (
        "One segment: its size, how many entered and left per hour, and who entered last.",
        {
            **_SEGMENT,
            "properties": {
                **_SEGMENT["properties"],  # type: ignore[dict-item]
                "hours": {"type": "array", "items": _HOURS},
                "sample": {"type": "array", "items": {"type": "string"}},
            },
        },
        "application/json",
        {404: "No such segment."},
    ),
    "changes": (
        "Who enters and leaves, as server-sent events; `Last-Event-ID` goes on from there.",
        {"type": "string"},
        "text/event-stream",
        {400: "Last-Event-ID is not the id of a change.", 404: "No such segment.", 503: "Too many readers: come again."},
    ),
    "health": ("How the server is; with the read key also of every segment.", {"type": "object", "required": ["status"]}, "application/json", {}),
    "metrics": ("The same for Prometheus.", {"type": "string"}, "text/plain", {}),
}


def reading(name: str) -> dict[str, Any]:
    """Return what is said of one address that is asked."""
    summary, schema, media, refusals = _SHOWN[name]
    refused = dict(refusals) if name == "health" else {401: "The read key is missing or wrong.", **refusals}
    responses = _answers(schema, refused, media)
    if name == "health":
        responses["503"] = {**responses["200"], "description": "The store cannot be used at the moment."}
    if name == "changes":
        parameter = {"name": "Last-Event-ID", "in": "header", "required": False, "schema": {"type": "string", "pattern": "^[0-9]{0,18}$"}}
        extra: dict[str, Any] = {"parameters": [parameter]}
    else:
        extra = {}
    extra |= {"responses": responses, "security": [{}, {"read_key": []}] if name == "health" else [{"read_key": []}]}
    return {"summary": summary, "openapi_extra": extra, "tags": ["answers"], "response_model": None}


def with_keys(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with the two ways to present a key."""
    schemes = {
        name: {"type": "http", "scheme": "basic", "description": f"The {name.replace('_', ' ')} as user name."} for name in ("write_key", "read_key")
    }
    document.setdefault("components", {})["securitySchemes"] = schemes
    return document
