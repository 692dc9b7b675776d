"""Only addresses of the public internet may be called."""

import pytest

from deployments.media.addresses import SystemResolver, is_public


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",  # noqa: S104 - not bound
        "10.1.2.3",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.0.9",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "64:ff9b::7f00:1",
        "64:ff9b::808:808",
        "64:ff9b:1::1",
        "100::1",
        "2001:0:1::",
        "2001:db8::1",
        "2002:7f00:1::",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "2606:4700::1%eth0",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
        "127.1",
        "example.com",
        "",
    ],
)
def test_what_is_not_public_is_closed(address):
    """Private, local, reserved, multicast, translated and malformed addresses are closed."""
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.215.14", "2606:4700:4700::1111"])
def test_the_public_internet_is_open(address):
    """Ordinary global unicast is open."""
    assert is_public(address)


async def test_the_system_knows_its_own_name():
    """The system's resolver finds loopback behind localhost, and nothing behind nonsense."""
    resolver = SystemResolver()
    assert not any(map(is_public, await resolver.resolve("localhost")))
    assert await resolver.resolve("localhost")
    assert await resolver.resolve("a" * 70) == []
    resolver.close()
