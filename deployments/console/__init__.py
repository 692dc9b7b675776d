"""The operator's page: who may answer, who decided what, and why. It only looks."""

from __future__ import annotations

from pathlib import Path

from starlette.responses import FileResponse, Response

FOLDER = Path(__file__).resolve().parent
FILES = {
    "": ("index.html", "text/html"),
    "console.js": ("console.js", "text/javascript"),
    "console.css": ("console.css", "text/css"),
}
HEADERS = {
    # Ids, errors and whatever else is shown come from candidates and users: nothing of it can run.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}


def page(name: str = "") -> Response:
    """Return a file of the console; 404 if it has no such file.

    Args:
        name: The part of the path behind ``/console/``; empty for the page itself.
    """
    if name not in FILES:
        return Response(status_code=404)
    file, media_type = FILES[name]
    return FileResponse(FOLDER / file, media_type=media_type, headers=HEADERS)
