"""The addresses of the page. Everything but the way in and the looks needs the read key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from fastapi import FastAPI
from jinja2 import Environment, PackageLoader
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from predseg.errors import PredsegError, UsageError, nearest
from predseg.evaluate.program import Change
from predseg.language.time import say_instant
from predseg.live import keys
from predseg.live.bodies import RefusedBody
from predseg.live.desk import Desk
from predseg.live.service import Busy
from predseg.live.web import follow, read_body
from predseg.outcomes.projects import Outlook
from predseg.outcomes.report.build import outcome_sections
from predseg.outcomes.report.page import Section
from predseg.page import beginning, figures, people, rules
from predseg.page.bench import Bench
from predseg.page.door import HEADERS, HOME, admit, admitted, dismiss, own
from predseg.segments.edits import document, lines_of
from predseg.segments.workspace import Workspace
from predseg.store import Store

STATIC = {
    "report.css": ("predseg.outcomes.report", "page.css", "text/css"),
    "page.css": ("predseg.page", "static/page.css", "text/css"),
    "page.js": ("predseg.page", "static/page.js", "text/javascript"),
    "icon.svg": ("predseg.page", "static/icon.svg", "image/svg+xml"),
}
"""What anybody gets: under which name → package, file, kind."""
LONGEST_ID = 512

View = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Site:
    """The page of one server.

    Attributes:
        desk: Who is served.
        project: The name of the project.
        texts: The rule files as they were when the server started.
        store: The tables.
        bench: Does the long work.
        edits: Whether edited rules are saved to their files.
    """

    desk: Desk
    project: str
    texts: Mapping[str, str]
    store: Store
    bench: Bench
    edits: bool = False
    cache: dict[str, Any] = field(default_factory=dict)

    # how it is answered

    @cached_property
    def templates(self) -> Environment:
        """The templates; everything that is put into one is escaped."""
        found = Environment(loader=PackageLoader("predseg.page"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
        found.filters["path"] = lambda text: quote(str(text), safe="")
        return found

    def html(self, template: str, status: int = 200, **context: Any) -> Response:
        """Return a page that nobody keeps."""
        text = self.templates.get_template(template).render(home=HOME, project=self.project, **context)
        return Response(text.encode("utf-8", "replace"), status, HEADERS, "text/html")

    def guarded(self, view: View, *, open_: bool = False) -> View:
        """Return a view that is only for who has the read key, unless ``open_``, and that says in HTML what went wrong."""

        async def answer(request: Request) -> Response:
            if request.method == "POST" and not own(request):
                return self.problem(403, "Sent from elsewhere", "This form was not sent by this page, so nothing was done.")
            if not open_ and not admitted(request, self.desk.keys.read, self.desk.clock()):
                return self.sign_in_first(request)
            try:
                return await view(request)
            except Busy as busy:
                found = self.problem(busy.status, "Busy", f"{busy.reason}: come again in {busy.retry} seconds.")
                found.headers["Retry-After"] = str(busy.retry)
                return found
            except RefusedBody as refused:
                return self.problem(refused.status, "Refused", refused.reason)
            except PredsegError as refused:
                status = 404 if isinstance(refused, UsageError) else 409
                return self.problem(status, "Not now" if status == 409 else "Not found", f"{refused.place}: {refused.message}", refused.help)
            except Exception as error:
                self.desk.writer.state.error = (self.desk.clock(), type(error).__name__)
                return self.problem(500, "A bug", "This is a bug of predseg, not your mistake.")

        return answer

    def problem(self, status: int, title: str, message: str, remedy: str = "") -> Response:
        """Return a page that says what went wrong, and what to do."""
        return self.html("problem.html", status, title=title, message=message, remedy=remedy)

    # the way in

    def sign_in_first(self, request: Request) -> Response:
        """Refuse: a reader is led to the way in, anything else is told 401."""
        if request.method != "GET" or "text/html" not in request.headers.get("accept", ""):
            return self.problem(401, "Sign in first", "The read key is needed.")
        then = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"{HOME}/sign-in?{urlencode({'then': then})}", 303, HEADERS)

    async def sign_in(self, request: Request) -> Response:
        """Ask for the key, or take it."""
        if request.method == "GET":
            return self.html("sign_in.html", title="Sign in", then=_within(request.query_params.get("then", "")), wrong=False)
        form = await self.form(request)
        then, now = _within(form.get("then", "")), self.desk.clock()
        if not keys.same(form.get("key", "").strip(), self.desk.keys.read):
            return self.html("sign_in.html", 401, title="Sign in", then=then, wrong=True)
        found = RedirectResponse(then, 303, HEADERS)
        admit(found, request, self.desk.keys.read, now)
        return found

    async def sign_out(self, request: Request) -> Response:
        """Let the browser forget."""
        found = RedirectResponse(f"{HOME}/sign-in", 303, HEADERS)
        dismiss(found)
        return found

    async def form(self, request: Request) -> dict[str, str]:
        """Return the fields of a form, the first of each name."""
        body = await read_body(self.desk, request)
        fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=20)
        return {name: values[0] for name, values in fields.items()}

    async def static(self, request: Request) -> Response:
        """Return how the page looks and moves."""
        name = request.path_params["name"]
        if name not in STATIC:
            return await self.missing(request)
        package, file, kind = STATIC[name]
        text = (files(package) / file).read_text("utf-8")
        return Response(text, headers={**HEADERS, "Cache-Control": "no-cache"}, media_type=kind)

    async def missing(self, request: Request) -> Response:
        """Say that there is nothing here."""
        return self.problem(404, "Not found", "There is nothing at this address.")

    # segments

    async def segments(self, request: Request) -> Response:
        """Show all segments."""
        runs, note = await self.runs()
        rows = [figures.listed(self.desk, name, runs) for name in self.desk.served.segments]
        down = self.desk.writer.state.down
        return self.html("segments.html", title="Segments", here="segments", rows=rows, note=note, down=down, now=figures.short(self.desk.clock()))

    async def segment(self, request: Request) -> Response:
        """Show one segment."""
        name = self.named(request)
        runs, note = await self.runs()
        found = self.desk.served.segments[name]
        context: dict[str, Any] = {
            "row": figures.listed(self.desk, name, runs),
            "moved": figures.movement(self.desk, name, runs),
            "rule": self.rule(name),
        }
        return self.html("segment.html", title=name, here="segments", tab="", name=name, segment=found, note=note, **context)

    async def changes(self, request: Request) -> Response:
        """Follow who enters and leaves, without their names."""
        return follow(self.desk, request, self.named(request), anonymous, request.query_params.get("after", ""))

    def named(self, request: Request) -> str:
        """Return the segment that an address names."""
        name: str = request.path_params["name"]
        if name not in self.desk.served.segments:
            raise UsageError("E220", name, "no such segment", nearest(name, tuple(self.desk.served.segments)))
        return name

    def rule(self, name: str) -> str:
        """Return the rule of a segment as it was when the server started."""
        node = self.desk.served.segments[name].node
        if node is None:
            return ""
        first, last = document(self.texts[node.file], node)
        return "\n".join(lines_of(self.texts[node.file])[first - 1 : last])

    async def runs(self) -> tuple[figures.Runs, str]:
        """Return the runs of daily segments; what was read last, and why, where they cannot be read now."""
        daily = [s for s in self.desk.served.segments.values() if not s.live]
        if not daily:
            return {}, ""
        try:
            self.cache["runs"] = await run_in_threadpool(figures.runs_of, self.store, daily)
        except (OSError, PredsegError) as error:
            return self.cache.get("runs", {}), f"The runs of daily segments could not be read again: {error}"
        return self.cache["runs"], ""

    # rules

    async def funnel(self, request: Request) -> Response:
        """Show what each condition of a rule removes, and what it shares with others."""
        name = self.named(request)
        found = await self.bench(rules.reached, name)
        return self.html("segment_funnel.html", title=f"{name}: funnel", here="segments", tab="funnel", name=name, funnel=found)

    async def edit(self, request: Request) -> Response:
        """Show the rule of a segment, to be edited; with a form, what it would reach, or save it."""
        name, form = request.path_params["name"], await self.form(request) if request.method == "POST" else {}
        text, base = form.get("text", ""), form.get("base", "")
        if form.get("do") == "save" and self.edits:
            done = await self.bench(rules.saved, name, text, base)
            if isinstance(done, str):
                return RedirectResponse(f"{HOME}/segments/{quote(done)}/edit?saved=1", 303, HEADERS)
        elif form:
            done = await self.bench(rules.tried, name, text, base)
        else:
            done = await self.bench(rules.tried, name)
        context: dict[str, Any] = {"base": base or done.draft.base, "edits": self.edits, "saved": "saved" in request.query_params}
        context["served"] = name in self.desk.served.segments
        return self.html("segment_edit.html", title=f"{name}: edit", here="segments", tab="edit", name=name, trial=done, **context)

    async def new(self, request: Request) -> Response:
        """Show a rule to begin with; with a form, what it would reach, or add it to a file."""
        form = await self.form(request) if request.method == "POST" else {}
        file, text, base = form.get("file"), form.get("text"), form.get("base")
        done: rules.Trial | str  # a name, when it was saved
        if form.get("do") == "save" and self.edits:
            done, places = await self.bench(beginning.added, file or "", text or "", base or "")
            if isinstance(done, str):
                return RedirectResponse(f"{HOME}/segments/{quote(done)}/edit?saved=1", 303, HEADERS)
        else:
            done, places = await self.bench(beginning.begun, file, text, base, request.query_params.get("like", ""))
        assert isinstance(done, rules.Trial)
        context: dict[str, Any] = {"base": base or done.draft.base, "edits": self.edits, "fresh": True, "places": places, "file": file or places[0]}
        return self.html("segment_edit.html", title="New segment", here="segments", trial=done, **context)

    async def outcomes(self, request: Request) -> Response:
        """Show what came of messages and experiments."""
        found, as_of = await self.bench(outcomes_of)
        return self.html("outcomes.html", title="Outcomes", here="outcomes", sections=found, as_of=figures.short(as_of))

    # customers

    async def customer(self, request: Request) -> Response:
        """Ask for a customer and show what is known."""
        asked, wanted = request.query_params.get("id", "").strip()[:LONGEST_ID], request.query_params.get("segment", "")
        context: dict[str, Any] = {
            "title": "Look up a customer",
            "here": "customers",
            "asked": asked,
            "wanted": wanted,
            "names": list(self.desk.served.segments),
        }
        if not asked:
            return self.html("customer.html", **context)
        name = self.desk.name(asked)
        ends, scores = await run_in_threadpool(people.stored, self.desk, name)
        found = people.memberships(self.desk, name, ends)
        told = refused = None
        if wanted:
            try:
                told = await self.bench(people.explained, wanted, name)
            except UsageError as error:
                refused = error
        live = next((one for one in found if one.segment == wanted and self.desk.served.segments[wanted].live), None)
        return self.html("customer.html", name=name, found=found, live=live, scores=scores, told=told, refused=refused, **context)


def outcomes_of(workspace: Workspace, as_of: int) -> tuple[list[Section], int]:
    """Return what came of messages and experiments, and as of when."""
    return outcome_sections(Outlook(workspace, as_of)), as_of


def _within(then: str) -> str:
    """Return an address of this page; anything else becomes its beginning."""
    return then if then.split("?")[0].split("/")[:2] == ["", HOME[1:]] and then.isprintable() and "\\" not in then else HOME


def anonymous(number: int, change: Change) -> str:
    """Return a change as an event of the stream, without whom it is about."""
    taken_back = " (taken back)" if change.correction else ""
    return f"id: {number}\nevent: {change.change}\ndata: {say_instant(change.at)}{taken_back}\n\n"


def mount(app: FastAPI, site: Site) -> None:
    """Add the page to the application of a server."""
    for path, methods, view in (
        ("", ["GET"], site.segments),
        ("/segments/{name}", ["GET"], site.segment),
        ("/segments/{name}/changes", ["GET"], site.changes),
        ("/segments/{name}/funnel", ["GET"], site.funnel),
        ("/segments/{name}/edit", ["GET", "POST"], site.edit),
        ("/new", ["GET", "POST"], site.new),
        ("/outcomes", ["GET"], site.outcomes),
        ("/customers", ["GET"], site.customer),
        ("/sign-out", ["POST"], site.sign_out),
    ):
        app.add_route(HOME + path, site.guarded(view), methods, include_in_schema=False)
    app.add_route(f"{HOME}/sign-in", site.guarded(site.sign_in, open_=True), ["GET", "POST"], include_in_schema=False)
    app.add_route(f"{HOME}/static/{{name}}", site.guarded(site.static, open_=True), ["GET"], include_in_schema=False)
    app.add_route(f"{HOME}/{{rest:path}}", site.guarded(site.missing, open_=True), ["GET"], include_in_schema=False)
    app.add_route("/", lambda request: RedirectResponse(HOME, 307), ["GET"], include_in_schema=False)


def page(workspace: Workspace, reopen: Callable[[], tuple[Workspace, int]], edits: bool = False) -> Callable[[FastAPI, Desk], None]:
    """Return what adds the page of a project to a server.

    Args:
        workspace: The segments that are served.
        reopen: Returns the segments as their files say now, and the last moment of the data; another process is given it.
        edits: Whether edited rules may be saved.
    """
    texts = workspace.texts()

    def add(app: FastAPI, desk: Desk) -> None:
        mount(app, Site(desk, workspace.config.project, texts, workspace.store, Bench(reopen), edits))

    return add
