"""Step 1, images: what fetching may cost, and whom it may call."""

from __future__ import annotations

from dataclasses import dataclass, field

from router.features.picture import PictureLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaLimits:
    """What fetching the images of one request may cost, and whom it may call."""

    picture: PictureLimits = field(default_factory=PictureLimits)
    """Bounds on each image's bytes, pixels and frames."""

    max_images: int = 16
    """Most images in one request, all messages together; at least 1."""

    max_redirects: int = 3
    """Most redirects followed for one image; 0 or more."""

    connect_timeout_s: float = 3.0
    """Longest wait for a name, a connection or a TLS handshake; positive."""

    total_timeout_s: float = 10.0
    """Longest wait for all images of one request, decoding included; positive."""

    max_concurrency: int = 4
    """Most images of one request in flight at once; at least 1."""

    max_connections: int = 64
    """Most connections of this process at once, all requests together; at least 1."""

    allow_http: bool = False
    """Whether an address may do without TLS. Anyone on the way could then swap the image."""

    allowed_ports: frozenset[int] | None = None
    """Ports that may be called; 443, and 80 with ``allow_http``, when None."""

    allow_private_hosts: frozenset[str] = frozenset()
    """For development only: host names whose addresses are not vetted."""

    def __post_init__(self) -> None:
        """Refuse bounds under which nothing could be fetched."""
        for name in ("max_images", "max_concurrency", "max_connections"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("connect_timeout_s", "total_timeout_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.max_redirects < 0:
            raise ValueError(f"max_redirects must be 0 or more, got {self.max_redirects}")

    @property
    def ports(self) -> frozenset[int]:
        """The ports that may be called."""
        if self.allowed_ports is not None:
            return self.allowed_ports
        return frozenset({80, 443}) if self.allow_http else frozenset({443})
