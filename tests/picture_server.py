"""An https server of pictures that misbehaves as its paths say, and its certificate."""

import datetime as dt
import gzip
import http.server
import threading
from io import BytesIO
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from PIL import Image

HOST, STRANGER, REBOUND = "images.example.com", "stranger.example.com", "rebound.example.com"
MAX_BYTES = 5000


def png(side=4):
    """Return the bytes of a small picture."""
    stream = BytesIO()
    Image.new("RGB", (side, side), "red").save(stream, "PNG")
    return stream.getvalue()


class Handler(http.server.BaseHTTPRequestHandler):
    """Behaves as the first part of the path says."""

    def log_message(self, *_):
        """Stay silent."""

    def do_GET(self):
        """Answer."""
        self.server.seen.append((self.path, dict(self.headers)))
        kind, _, rest = self.path.partition("?")[0].lstrip("/").partition("/")
        getattr(self, f"answer_{kind}")(rest)

    def reply(self, body=b"", status=200, length=None, **headers):
        """Send one answer."""
        self.send_response(status)
        for name, value in {"content_type": "image/png", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def answer_picture(self, _):
        """Send a picture."""
        self.reply(png())

    def answer_untyped(self, _):
        """Send a picture as mere bytes."""
        self.reply(png(), content_type="application/octet-stream")

    def answer_text(self, _):
        """Send what claims to be no image."""
        self.reply(b"secret inside", content_type="text/html; charset=utf-8")

    def answer_fake(self, _):
        """Send what only claims to be an image."""
        self.reply(b"secret inside")

    def answer_missing(self, _):
        """Send an error with a body."""
        self.reply(b"secret inside", status=404)

    def answer_gzip(self, _):
        """Send a body that unfolds to a thousand times its size."""
        self.reply(gzip.compress(bytes(4_000_000)), content_encoding="gzip")

    def answer_announced(self, _):
        """Announce more than the cap."""
        self.reply(b"x", length=MAX_BYTES + 1)

    def answer_endless(self, _):
        """Send without saying how much."""
        self.send_response(200)
        self.end_headers()
        for _ in range(100):
            self.wfile.write(bytes(1000))

    def answer_short(self, _):
        """Send less than announced."""
        self.reply(png(), length=MAX_BYTES)

    def answer_drip(self, _):
        """Send a byte at a time, for long."""
        self.send_response(200)
        self.end_headers()
        while not self.server.closing.wait(0.05):
            self.wfile.write(b"x")

    def answer_hop(self, rest):
        """Redirect to the rest of the path, so many times."""
        self.reply(status=302, location=f"/{rest}")

    def answer_away(self, rest):
        """Redirect to a host with the same port and path."""
        port = self.server.server_address[1]
        self.reply(status=307, location=f"https://{rest}:{port}/picture")

    def answer_plain(self, _):
        """Redirect to HTTP."""
        self.reply(status=301, location=f"http://{HOST}/picture")

    def answer_bad(self, _):
        """Redirect to nonsense."""
        self.reply(status=301, location="https://[::1/")

    def answer_worse(self, _):
        """Redirect to what httpx can read and urllib, with which it joins, cannot."""
        self.reply(status=301, location="mailto:////1]")


class Server(http.server.ThreadingHTTPServer):
    """A real server in a thread."""

    daemon_threads = False

    def __init__(self, context):
        """Listen on a port of the system's choice, with TLS."""
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen = []
        self.closing = threading.Event()
        self.socket = context.wrap_socket(
            self.socket, server_side=True, do_handshake_on_connect=False
        )

    def handle_error(self, *_):
        """Stay silent: clients hang up on purpose here."""


def write_certificate(path):
    """Write a key and a certificate for the one host that is what it claims."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = dt.datetime.now(dt.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName(HOST), x509.IPAddress(ip_address("::1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    key_pem = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(key_pem + certificate.public_bytes(pem))
