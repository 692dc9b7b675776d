"""The console is three files that load nothing from elsewhere."""

import re

import pytest

from deployments import console


@pytest.mark.parametrize("name", console.FILES)
def test_each_file_is_there_and_may_run_nothing_foreign(name):
    """No inline script, no address of another host."""
    reply = console.page(name)
    assert reply.status_code == 200
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    text = (console.FOLDER / console.FILES[name][0]).read_text()
    assert "://" not in text
    assert "innerHTML" not in text
    assert not re.search(r"<script(?![^>]*src=)| on\w+=|style=", text)


def test_nothing_else_is_served():
    """Whatever the name."""
    for name in ("__init__.py", "../settings.py", "index.html", "x"):
        assert console.page(name).status_code == 404


def test_the_page_has_what_the_script_fills():
    """Each id that the script looks up."""
    page = (console.FOLDER / "index.html").read_text()
    script = (console.FOLDER / "console.js").read_text()
    ids = set(re.findall(r'(?:byId|fill)\("([\w-]+)"', script))
    assert ids
    assert ids <= set(re.findall(r'id="([\w-]+)"', page))
