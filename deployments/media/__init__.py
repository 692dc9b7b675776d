"""Images of a request, fetched once and safely; engines get bytes, never a URL."""

from deployments.media.addresses import Resolver, SystemResolver
from deployments.media.fetch import MediaFetcher
from deployments.media.limits import MediaLimits

__all__ = ["MediaFetcher", "MediaLimits", "Resolver", "SystemResolver"]
