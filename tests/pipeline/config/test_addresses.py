"""Network addresses in URLs and messages."""

import pytest

from pipeline.config.addresses import format_address
from pipeline.config.notifications import hide_secrets


@pytest.mark.parametrize(
    ("host", "port", "shown"),
    [
        ("127.0.0.1", 80, "127.0.0.1:80"),
        ("example.org", None, "example.org"),
        ("::1", 8501, "[::1]:8501"),
        ("fe80::1%eth0", None, "[fe80::1%eth0]"),
    ],
)
def test_an_ipv6_address_is_in_brackets(host, port, shown):
    assert format_address(host, port) == shown


def test_a_url_without_its_secrets_is_a_url():
    assert hide_secrets("https://[::1]:8/a?b") == "https://[::1]:8/..."
