"""URLs are judged by their text before anything is looked up."""

import base64

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.media.urls import check_url, parse_url, read_data_url, redact
from router.errors import BadImageError, ImageUnreachableError


def check(url, *, allow_http=False, ports=frozenset({443})):
    """Parse and check a URL under these rules."""
    check_url(parse_url(url, "f"), ports, allow_http=allow_http, field="f")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://example.com/a.png", "send an https URL"),
        ("file:///etc/passwd", "send an https URL"),
        ("ftp://example.com/a.png", "send an https URL"),
        ("gs://bucket/a.png", "send an https URL"),
        ("//example.com/a.png", "send an https URL"),
        ("cat.png", "send an https URL"),
        ("https:///a.png", "name a host"),
        ("https://user:password@example.com/", "remove the user"),
        (r"https://example.com\@example.org/", "remove the user"),
        ("https://example.com:8443/", "use port 443"),
        ("https://example.com:0/", "use port 443"),
        ("https://127.1/", "four decimal numbers"),
        ("https://127.0.0.1./", "four decimal numbers"),
        ("https://0x7f000001/", "four decimal numbers"),
        ("https://0x7f.1/", "four decimal numbers"),
        ("https://2130706433/", "four decimal numbers"),
        ("https://0177.0.0.1/", "malformed"),
        ("https://[::1/", "malformed"),
        ("https://example.com/\x00", "malformed"),
        ("https://example.com/" + "a" * 9000, "more than 8192 characters"),
    ],
)
def test_refused_urls_say_what_to_send(url, told):
    """Scheme, user, port and disguised addresses each have a remedy."""
    with pytest.raises(ImageUnreachableError, match=told) as caught:
        check(url)
    assert caught.value.field == "f"
    assert "password" not in str(caught.value).replace("user and password", "")


def test_https_is_fine_and_http_by_setting():
    """The rules let through what they say."""
    check("https://example.com/a.png")
    check("HTTPS://example.com:443")
    check("http://example.com/a.png", allow_http=True, ports={80})


@settings(deadline=None)  # the clock of a busy machine proves nothing
@given(st.text() | st.text().map("https://{}".format) | st.text().map("https://xn--{}/".format))
def test_any_text_is_judged(url):
    """Whatever the text: it passes or is refused with the one error."""
    try:
        check(url)
    except ImageUnreachableError as error:
        assert len(str(error)) < 300  # noqa: PT017 - a property of every refusal


def test_messages_show_no_secrets():
    """User, query and fragment never show, and long paths are cut."""
    shown = redact(httpx.URL("https://u:p@example.com/" + "a" * 100 + "?token=x#y"))
    assert shown.startswith("https://example.com/aaa")
    assert shown.endswith("...")
    assert len(shown) == 80


def read(url, max_bytes=100):
    """Read a data URL."""
    return read_data_url(url, max_bytes=max_bytes, field="f")


@settings(deadline=None)  # the clock of a busy machine proves nothing
@given(st.binary(max_size=60))
def test_bytes_come_back(data):
    """Base64 is decoded to the bytes, wrapped lines or not."""
    text = base64.encodebytes(data).decode()
    assert read(f"DATA:image/jpg;charset=x;BASE64,{text}") == data


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("data:image/png;base64", "malformed; write data:image/png"),
        ("data:image/png,abc", "malformed; write data:image/png"),
        ("data:;base64,YWJj", "malformed; write data:image/png"),
        ("data:text/html;base64,YWJj", "malformed; write data:image/png"),
        ("data:image/png;base64,YWJ", "Incorrect padding"),
        ("data:image/png;base64,YW-_", "base64 of the data URL is malformed"),
        ("data:image/png;base64,ü", "base64 of the data URL is malformed"),
        ("data:image/png;base64," + "A" * 140, "more than 100 bytes"),
    ],
)
def test_malformed_data_urls_are_named(url, told):
    """What is wrong with a data URL is told, and too long ones are not decoded."""
    with pytest.raises(BadImageError, match=told):
        read(url)
