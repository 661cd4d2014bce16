"""Which addresses are of this machine: no proxy stands before them."""

from ipaddress import ip_address
from urllib.parse import urlsplit


def is_local(url: str) -> bool:
    """Whether a URL leads to this machine by a name that every machine has for itself."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:  # it is no URL
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
