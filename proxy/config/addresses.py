"""Readers of networks, binds, endpoints, hosts and paths. Canonical forms are those of `proxy.policy.canonical`."""

import re
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path

from proxy.config.note import VALUE, Wrong, quoted
from proxy.config.scalars import read_text
from proxy.policy.canonical import canonical_host, canonical_path
from proxy.policy.rules import Network
from proxy.policy.settings import Bind, Endpoint, Scheme, TcpBind, UnixBind

_ENDPOINT = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<rest>.*)", re.DOTALL)
_AUTHORITY = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>[^:]*))?", re.DOTALL)
_BIND = re.compile(r"(?P<host>\[[^\]]*\]|[^:]*):(?P<port>[^:]*)")
_PORTS = {"https": 443, "http": 80}
_SCHEMES: dict[str, Scheme] = {"https": "https", "http": "http", "tls": "tls", "tcp": "tcp"}
_PATH = re.compile(r"[A-Za-z0-9._~!$&'()*+,=:@%/-]*")
# A path and a query as they go on the wire (RFC 3986 section 3.3 and 3.4), or neither.
_REQUEST = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?(?:\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?")
# What the codec (IDNA 2003) maps to another name than IDNA 2008 does (RFC 5894 section 7.2): two readings.
_DEVIANT = re.compile("[\u00df\u1e9e\u03c2\u200c\u200d]")
# The longest path that sun_path takes with its NUL (unix(7)).
_LONGEST_SOCKET = 107


def read_network(text: str) -> Network:
    """A network in CIDR form, without host bits; a single address is its own network."""
    try:
        network = ip_network(text)
    except ValueError:
        try:
            loose = ip_network(text, strict=False)
        except ValueError:
            raise Wrong(f"{VALUE} is no network", "write one such as 203.0.113.0/24 or 2001:db8::/32") from None
        raise Wrong(
            f"{VALUE} has host bits set", "write the network's first address", suggestion=f"write {loose}"
        ) from None
    return _unmapped(network)


def _unmapped(network: IPv4Network | IPv6Network) -> Network:
    if isinstance(network, IPv6Network):
        if network.network_address.scope_id is not None:
            raise Wrong(f"{VALUE} has a zone id", "leave it out: it means nothing beyond one machine")
        if network.subnet_of(IPv6Network("::ffff:0:0/96")):
            plain = IPv4Network(
                (int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96)  # RFC 4291 section 2.5.5.2
            )
            # Client addresses are unmapped before they are compared, so this could never match.
            raise Wrong(f"{VALUE} is an IPv4 network by another name", "write it as IPv4", suggestion=f"write {plain}")
    return network


def read_port(text: str, lowest: int) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not lowest <= int(text) <= 65535:
        raise Wrong(f"{VALUE} has no valid port", f"ports go from {lowest} to 65535")
    return int(text)


def read_bind(text: str, folder: Path) -> Bind:
    """`ADDRESS:PORT`, `[ADDRESS]:PORT` or `unix:PATH`; the path is relative to the folder."""
    if text.startswith("unix:"):
        path = folder / text.removeprefix("unix:")
        if text == "unix:" or "\0" in text or len(str(path).encode()) > _LONGEST_SOCKET:
            raise Wrong(f"{VALUE} is no socket path", f"write unix: and a path of at most {_LONGEST_SOCKET} bytes")
        return UnixBind(path)
    match = _BIND.fullmatch(text)
    if match is None:
        hint = "write an address and a port such as 0.0.0.0:8443, [::]:8443, or unix:PATH"
        suggestion = f"write 0.0.0.0:{text}" if re.fullmatch(r"[0-9]{1,5}", text) else None
        raise Wrong(f"{VALUE} is no address to bind", hint, suggestion=suggestion)
    port = read_port(match["port"], lowest=0)
    host = match["host"]
    if host in ("", "*"):
        raise Wrong(f"{VALUE} has no address", "name one", suggestion=f"write 0.0.0.0:{port} or [::]:{port}")
    try:
        address = ip_address(host[1:-1] if host.startswith("[") else host)
    except ValueError:
        suggestion = f"write 127.0.0.1:{port}" if host == "localhost" else None
        raise Wrong(f"{VALUE} has no literal address", "names are not resolved here", suggestion=suggestion) from None
    if isinstance(address, IPv6Address) != host.startswith("["):
        raise Wrong(f"{VALUE} has misplaced brackets", "brackets go around IPv6 addresses only")
    return TcpBind(str(address), port)


def read_socket(text: str, folder: Path) -> Path:
    """The path of a Unix socket, relative to the folder."""
    path = folder / read_text(text)
    if text.startswith("unix:"):
        raise Wrong(f"{VALUE} is no path", "leave out unix:", suggestion=f"write {text.removeprefix('unix:')}")
    if len(str(path).encode()) > _LONGEST_SOCKET:
        hint = f"the whole path of a Unix socket has at most {_LONGEST_SOCKET} bytes"
        raise Wrong(f"{VALUE} is too long", hint)
    return path


def read_endpoint(text: str) -> Endpoint:
    """`https://HOST[:PORT]`, `http://HOST[:PORT]`, `tls://HOST:PORT` or `tcp://HOST:PORT`, nothing after it."""
    if "@" in text:
        # First of all, so that no other message shows it.
        raise Wrong("an endpoint may not hold a user or password", "put credentials into `headers`")
    match = _ENDPOINT.fullmatch(text)
    if match is None:
        suggestion = f"write https://{text}" if re.fullmatch(r"[A-Za-z0-9.-]+(:[0-9]+)?", text) else None
        raise Wrong(f"{VALUE} is no endpoint", "write https://HOST:PORT", suggestion=suggestion)
    scheme = _SCHEMES.get(match["scheme"].lower())
    if scheme is None:
        raise Wrong(f"{VALUE} has an unknown scheme", "endpoints are https://, http://, tls:// or tcp://")
    if match["rest"]:
        kind = {"/": "path", "?": "query", "#": "fragment"}[match["rest"][0]]
        hint = "leave out the slash" if match["rest"] == "/" else "targets are passed on as they come"
        raise Wrong(f"{VALUE} has a {kind}", hint)
    place = _AUTHORITY.fullmatch(match["authority"])
    if place is None:
        raise Wrong(f"{VALUE} is no endpoint", "IPv6 addresses go in brackets: https://[2001:db8::1]:443")
    if place["port"] is None and scheme not in _PORTS:
        hint = f"{scheme}:// has none of its own: write {scheme}://HOST:PORT"
        raise Wrong(f"{VALUE} has no port", hint)
    port = _PORTS[scheme] if place["port"] is None else read_port(place["port"], lowest=1)
    return Endpoint(scheme, read_host(place["host"]), port)


def read_http_url(text: str) -> str:
    """`https://HOST[:PORT]/PATH`, or http:// on loopback: of a service that is asked, as it goes on the wire."""
    if "@" in text:
        raise Wrong("a URL may not hold a user or password", "anybody who sees the file could use them")
    match = _ENDPOINT.fullmatch(text)
    place = None if match is None else _AUTHORITY.fullmatch(match["authority"])
    if match is None or place is None:
        raise Wrong(f"{VALUE} is no URL", "write https://HOST/PATH")
    scheme = match["scheme"].lower()
    if scheme not in _PORTS:
        raise Wrong(f"{VALUE} has an unknown scheme", "write https://HOST/PATH")
    host = read_host(place["host"])
    if scheme == "http" and not is_loopback(host):
        raise Wrong(f"{VALUE} is not encrypted", "use https://; http:// is for this machine alone")
    authority = read_authority(match["authority"])
    if not _REQUEST.fullmatch(match["rest"]):
        raise Wrong(f"{VALUE} has a character that no URL holds", "percent-encode it, and leave out any fragment")
    return f"{scheme}://{authority}{match['rest'] or '/'}"


def read_origin_form(text: str) -> str:
    """A path, perhaps with a query, as it goes on the wire (RFC 9112 section 3.2.1)."""
    if not text.startswith("/"):
        raise Wrong(f"{VALUE} is no path", "begin it with a slash")
    if not _REQUEST.fullmatch(text):
        raise Wrong(f"{VALUE} has a character that no path holds", "percent-encode it, and leave out any fragment")
    return text


def read_authority(text: str) -> str:
    """`HOST[:PORT]` in its canonical form, as a Host field has it."""
    place = _AUTHORITY.fullmatch(text)
    if place is None:
        raise Wrong(f"{VALUE} is no host", "IPv6 addresses go in brackets: [2001:db8::1]:443")
    host = read_host(place["host"])
    port = "" if place["port"] is None else f":{read_port(place['port'], lowest=1)}"
    return f"{f'[{host}]' if ':' in host else host}{port}"


def is_loopback(host: str) -> bool:
    """Whether a canonical host can only be this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")  # RFC 6761 section 6.3


def read_host(text: str) -> str:
    """A host's canonical form: a DNS name as A-labels, or an address without brackets."""
    if not text:
        raise Wrong("the host is missing", "write a DNS name or an address")
    ascii_text = text if text.isascii() else _a_labels(text)
    canonical = canonical_host(ascii_text)
    if canonical is None and not ascii_text.startswith("["):
        canonical = canonical_host(f"[{ascii_text}]")
    if canonical is None:
        raise Wrong(f"{VALUE} is no host", "write a DNS name such as storage.example, or an address the usual way")
    return canonical


def _a_labels(text: str) -> str:
    try:
        if _DEVIANT.search(text):
            raise UnicodeError
        return text.encode("idna").decode("ascii")
    except UnicodeError:
        raise Wrong(f"{VALUE} is no host", "write its A-labels (xn--...)") from None


def read_host_pattern(text: str) -> str:
    """A host, or `*.suffix`."""
    if "/" in text or "://" in text:
        raise Wrong(f"{VALUE} is no host", "leave out scheme and path; paths have a test of their own, `path`")
    if re.search(r":[0-9]+$", text) and "[" not in text and text.count(":") == 1:
        raise Wrong(f"{VALUE} has a port", "hosts are tested without port", suggestion=f"write {text.split(':')[0]}")
    suffix = text.removeprefix("*.")
    if "*" in suffix:
        raise Wrong(f"{VALUE} has a star out of place", "a star stands at the front, as in *.storage.example")
    host = read_host(suffix)
    if suffix == text:
        return host
    if ":" in host or host.replace(".", "").isdigit():
        raise Wrong(f"{VALUE} has a star before an address", "test `client` for networks, or name the address")
    return f"*.{host}"


def read_path_pattern(text: str) -> str:
    """A canonical path, or one that ends in `/*` and covers all below it too."""
    if not text.startswith("/"):
        raise Wrong(f"{VALUE} is no path", "paths begin with /", suggestion=f"write {quoted('/' + text)}")
    for found, what, hint in (
        ("?", "a query", "tests look at the path alone"),
        ("#", "a fragment", "clients never send one"),
        (";", "path parameters", "such paths have two readings and are refused on the wire"),
        ("\\", "a backslash", "such paths have two readings and are refused on the wire"),
    ):
        if found in text:
            raise Wrong(f"{VALUE} has {what}", hint)
    stem = text.removesuffix("/*")
    if "*" in stem:
        raise Wrong(f"{VALUE} has a star out of place", "a star stands at the end, as in /pay/*")
    encoded = stem if stem.isascii() else "".join(c if c.isascii() else _percent(c) for c in stem)
    if not _PATH.fullmatch(encoded):
        raise Wrong(f"{VALUE} has a character that no path holds", "percent-encode it")
    canonical = canonical_path(encoded or "/")
    if canonical is None:
        raise Wrong(
            f"{VALUE} has two readings",
            "no dot segments, doubled or encoded slashes, and two hex digits after every %",
        )
    return f"{canonical.removesuffix('/')}/*" if stem != text else canonical


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())
