"""Who may look at the page: whoever has the read key. A browser signs in once and keeps a token that ends by itself, never the key."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from predseg.language.time import HOUR, SECOND
from predseg.live import keys

HOME = "/page"
COOKIE = "predseg_page"
LASTS = 12 * HOUR
"""How long a browser stays signed in (microseconds)."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # without one a form would be sent with the origin "null"
    "X-Content-Type-Options": "nosniff",
}


def token(read_key: str, until: int) -> str:
    """Return what a browser shows instead of the key, up to an instant; it changes with the key."""
    return f"{until}.{hmac.new(read_key.encode(), f'page until {until}'.encode(), hashlib.sha256).hexdigest()}"


def admitted(request: Request, read_key: str, now: int) -> bool:
    """Say whether a request comes from somebody with the read key: by a token that has not ended, or by the key as for the rest of the server."""
    given = keys.presented(request.headers.get("authorization"))
    if given is not None:
        return keys.same(given, read_key)
    shown = request.cookies.get(COOKIE, "")
    until = shown.partition(".")[0]
    if not (until.isascii() and until.isdigit() and len(until) < 19):
        return False
    return keys.same(shown, token(read_key, int(until))) and now < int(until)


def admit(response: Response, request: Request, read_key: str, now: int) -> None:
    """Let the browser stay signed in."""
    secure = "https" in (request.url.scheme, request.headers.get("x-forwarded-proto"))
    shown = token(read_key, now + LASTS)
    response.set_cookie(COOKIE, shown, LASTS // SECOND, path=HOME, secure=secure, httponly=True, samesite="strict")


def dismiss(response: Response) -> None:
    """Let the browser forget."""
    response.delete_cookie(COOKIE, path=HOME, httponly=True, samesite="strict")


def own(request: Request) -> bool:
    """Say whether a form was sent by this page, and not by another that knows its address."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        return site == "same-origin"
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")
