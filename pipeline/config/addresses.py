"""The text of network addresses in URLs and messages."""


def format_address(host: str, port: int | None) -> str:
    """Returns HOST:PORT as in a URL, in which an IPv6 address is in brackets.

    Args:
      host: a name or an address.
      port: the port; None: it is not part of the text.
    """
    shown = f"[{host}]" if ":" in host else host
    return shown if port is None else f"{shown}:{port}"
