"""The web page and the reader of the API's description: files that load nothing from elsewhere."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from .http_server import Handler, route

FOLDER = Path(__file__).with_name("page")
FILES = {
    "/": "index.html",
    "/docs": "docs.html",
    "/page/page.css": "page.css",
    "/page/page.js": "page.js",
    "/page/regions.js": "regions.js",
    "/page/server.js": "server.js",
    "/page/docs.css": "docs.css",
    "/page/docs.js": "docs.js",
}
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def page_routes() -> list[BaseRoute]:
    """A route for each file; they are read once."""
    return [route(path, _file(FOLDER / name)) for path, name in FILES.items()]


def _file(path: Path) -> Handler:
    content, kind = path.read_bytes(), KINDS[path.suffix]

    async def answer(_: Request) -> Response:
        return Response(content, media_type=kind, headers=HEADERS)

    return answer
