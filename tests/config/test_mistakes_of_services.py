"""Providers, sources, listeners, bounds and files that cannot work."""

import base64
import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from tests.config.marked import NOW, assert_marked, loaded

PIN = "sha256/" + base64.b64encode(bytes(32)).decode()


def provider(body: str) -> str:
    """A provider `extra` beside the default ones, with these keys after operator and zone."""
    return (
        "providers:\n"
        f"  extra: {{operator: Extra, zone: eu, {body}}}\n"
        '  ours: {operator: Ours Inc, zone: eu, endpoints: ["https://ours.example"]}\n'
    )


def at(endpoint: str) -> str:
    return provider(f"endpoints: [{endpoint}]")


def headers(body: str) -> str:
    return provider(f'endpoints: ["https://x"], headers: {{{body}}}')


def tls(body: str) -> str:
    return provider(f'endpoints: ["https://x"], tls: {{{body}}}')


def token(body: str, jwks: str = "keys.json") -> str:
    return f"subject:\n  sources: [{{jwt: {{jwks: {jwks}, issuer: i, audience: a, home_claim: h{body}}}}}]"


def proxy_header(body: str) -> str:
    return f"subject:\n  sources: [{{proxy_header: {body}}}]"


def key_set(path: str) -> str:
    return token("", f"▲{path}")


def listener(body: str, more: str = "") -> str:
    return f"listeners:\n  - {{name: edge, {body}}}\n{more}".rstrip()


def passing(scheme: str) -> str:
    """Providers that serve tls and tcp listeners alone."""
    return f'providers:\n  ours: {{operator: O, zone: eu, endpoints: "{scheme}://ours.example:443"}}\n'


def listening(protocol: str, text: str) -> str:
    return f'listeners:\n  - {{name: edge, bind: "127.0.0.1:0", protocol: {protocol}}}\n{text}'


def served(certificate: str, key: str, rest: str = "") -> str:
    return listener(f'bind: "127.0.0.1:0", tls: {{certificates: [{{certificate: {certificate}, key: {key}{rest}}}]}}')


PROVIDERS = [
    (at("▲'http://a.example'"), "is not encrypted, use https://"),
    (at("▲'http://192.0.2.1:80'"), "is not encrypted"),
    (at("▲'https://a.example/v1'"), "has a path"),
    (at("▲'https://a.example/'"), "has a path, leave out the slash"),
    (at("▲'https://a.example?x=1'"), "has a query"),
    (at("▲'https://a.example#x'"), "has a fragment"),
    (at("▲'https://user:pass@a.example'"), "may not hold a user or password"),
    (at("▲'ftp://user:pass@a.example'"), "may not hold a user or password"),
    (at("▲'user:pass@a.example'"), "may not hold a user or password"),
    (
        provider('endpoints: ["https://x"]') + '  other: {operator: ▲ours inc, zone: eu, endpoints: "https://y"}\n',
        "`ours inc` is another operator's name in other letters, write `Ours Inc`",
    ),
    (at("▲'https://a.example:0'"), "has no valid port"),
    (at("▲'https://a.example:65536'"), "has no valid port"),
    (at("▲'https://a.example:'"), "has no valid port"),
    (at("▲'https://a.example:https'"), "has no valid port"),
    (at("▲'https://'"), "the host is missing"),
    (at("▲'https://:443'"), "the host is missing"),
    (at("▲'https://2001:db8::1'"), "IPv6 addresses go in brackets"),
    (at("▲'https://[2001:db8::g]'"), "is no host"),
    (at("▲'https://[::ffff:192.0.2.1]'"), "is no host"),
    (at("▲'https://2130706433'"), "is no host"),
    (at("▲'https://0x7f.1'"), "is no host"),
    (at("▲'https://a b'"), "is no host"),
    (at("▲'https://-a.example'"), "is no host"),
    (at("▲ftp://a.example"), "has an unknown scheme"),
    (at("▲a.example"), "is no endpoint, write https://a.example"),
    (at("▲'tls://a.example'"), "has no port, tls:// has none of its own: write tls://HOST:PORT"),
    (at("▲'tcp://[2001:db8::1]'"), "has no port, tcp:// has none of its own: write tcp://HOST:PORT"),
    (at("▲'tcp://a.example:0'"), "has no valid port"),
    (at("▲'tcp://a.example:5432/db'"), "has a path"),
    (at("▲'tls://user@a.example:443'"), "may not hold a user or password"),
    (at("▲'udp://a.example:53'"), "has an unknown scheme, endpoints are https://, http://, tls:// or tcp://"),
    (at("'tcp://a.example:5432', ▲'TCP://A.example.:5432'"), "is listed twice"),
    (provider('endpoints: [▲"tcp://198.51.100.1:5432"], dial: 192.0.2.0/24'), "is outside of `dial`"),
    (provider('endpoints: [▲"tls://198.51.100.1:5432"], dial: 192.0.2.0/24'), "is outside of `dial`"),
    (
        provider('endpoints: ["tcp://x:1"], ▲tls: {pins: ' + PIN + "}"),
        "provider `extra` has no https:// or tls:// endpoint, `tls` would do nothing",
    ),
    (
        listening("tls", provider('endpoints: ["tls://x:1", "tcp://x:2"], ▲tls: {server_name: x}')),
        "no tcp listener reaches the tls:// endpoints of provider `extra`, tls listeners pass on the client's own TLS",
    ),
    *(
        (
            provider(f'endpoints: ["tls://x:1", "tcp://x:2"], ▲{key}: {value}'),
            f"what is passed on to tls:// and tcp:// has no requests: leave `{key}` out",
        )
        for key, value in (("host", "provider"), ("headers", "{X-Key: x}"), ("plaintext", "true"))
    ),
    (provider('endpoints: ["tcp://x:2"], timeouts: {idle: 9s, ▲first_byte: 3s}'), "leave `first_byte` out"),
    (
        provider('endpoints: ["https://x", "tls://x:1"], send_proxy: ▲v2'),
        "`v2` beside an https:// endpoint, its connections serve many clients: give the tls:// and tcp:// endpoints",
    ),
    (provider('endpoints: ["http://127.0.0.1"], send_proxy: ▲v1'), "`v1` beside an http:// endpoint"),
    (provider('endpoints: ["tcp://x:1"], send_proxy: ▲v3'), "write none, v1 or v2"),
    (provider('endpoints: ["tcp://x:1"], send_proxy: ▲true'), "write none, v1 or v2"),
    (at('"https://a.example", ▲"https://A.example.:443"'), "is listed twice"),
    (at("").replace("[]", "▲[]"), "the list is empty"),
    (provider('endpoints: ["https://192.0.2.1", ▲"https://198.51.100.1"], dial: 192.0.2.0/24'), "is outside of `dial`"),
    (provider('endpoints: ["https://x"], dial: [▲192.0.2.1/24]'), "host bits set, write 192.0.2.0/24"),
    (provider('endpoints: ["https://x"], dial: ▲[]'), "the list is empty"),
    (provider('endpoints: ["http://127.0.0.1"], ▲tls: {server_name: x}'), "`tls` would do nothing"),
    (provider('endpoints: ["https://x"], host: ▲client'), "write preserve or provider"),
    (provider('endpoints: ["https://x"], plaintext: ▲on'), "write true"),
    (provider('endpoints: ["https://x"], timeouts: {connect: ▲0s}'), "is no time at all"),
    (provider('endpoints: ["https://x"], timeouts: {▲head: 3s}'), "unknown key `head`"),
    (provider('endpoints: ["https://x"], limits: {connections: ▲0}'), "is no count"),
    (provider('endpoints: ["https://x"], limits: {▲requests: 1}'), "unknown key `requests`"),
    *(
        (provider(f'endpoints: ["https://x"], ▲{key}: x'), f"`{key}` is not available in this version")
        for key in ("kind", "seal")
    ),
    ("providers:\n  ▲Extra: {operator: E, zone: eu, endpoints: ['https://x']}", "such as `extra`"),
    ("providers:\n  none: {operator: E, zone: eu, endpoints: ['https://x']}".replace("none", "▲none"), "is reserved"),
    (
        "providers:\n  a: {operator: ▲' E', zone: eu, endpoints: ['https://x']}".replace("▲' E'", '▲""'),
        "the text is empty",
    ),
    ("providers:\n  a: {operator: E, zone: ▲ue, endpoints: ['https://x']}", "is no zone"),
    ("providers:\n  a: ▲{operator: E, zone: eu}", "`endpoints` is missing"),
    ("providers:\n  a: ▲{zone: eu, endpoints: ['https://x']}", "`operator` is missing"),
    ("providers: ▲[]", "expected a mapping"),
]
HEADERS = [
    *(
        (headers(f"▲{name}: x"), "is about one connection or one message")
        for name in ("Host", "content-length", "Transfer-Encoding", "Connection", "TE", "Upgrade", "Content_Length")
    ),
    *(
        (headers(f"▲{name}: x"), "the proxy vouches for itself")
        for name in ("X-Forwarded-For", "x_forwarded_for", "X-Forwarded-Anything", "Forwarded", "Via", "X-Request-Id")
    ),
    (headers("▲'X Key': x"), "is no header name"),
    (headers("▲'X:': x"), "is no header name"),
    (headers("▲'': x"), "is no header name"),
    (headers('X: ▲"a\\r\\nHost: b"'), "a line break or NUL"),
    (headers('X: ▲"a\\0b"'), "a line break or NUL"),
    (headers('X: ▲"a\\x01b"'), "characters that headers cannot carry"),
    (headers("X: ▲é"), "characters that headers cannot carry"),
    (headers("X: ▲' x'"), "no space around it"),
    (headers("X: ▲''"), "the header's value is empty"),
    (headers("X: ▲'${KEY}'"), "environment variable `KEY` is not set"),
    (headers("X-Key: a, ▲x_key: b"), "header `x_key` is the same as `X-Key`"),
]
TLS = [
    (tls("pins: [▲sha256/abc]"), "is no pin"),
    (tls(f"pins: ▲{PIN.replace('sha256', 'sha1')}"), "is no pin"),
    (tls(f"pins: ▲{PIN[:-1]}"), "is no pin"),
    (tls("pins: ▲[]"), "the list is empty"),
    (tls("ca: ▲absent.pem"), "cannot be read: No such file or directory"),
    (tls("ca: ▲text.pem"), "holds no PEM certificates"),
    (tls("ca: ▲."), "cannot be read: Is a directory"),
    (tls("server_name: ▲a/b"), "is no host"),
    (tls("min_version: ▲1.1"), "write 1.2 or 1.3"),
    (tls("▲client_certificate: us.pem"), "`client_certificate` without `client_key`"),
    (tls("▲client_key: us.key"), "`client_key` without `client_certificate`"),
    (tls("client_certificate: us.pem, client_key: ▲other.key"), "is not the key of its certificate"),
    (tls("client_certificate: us.pem, client_key: ▲encrypted.key"), "is encrypted"),
    (tls("client_certificate: us.pem, client_key: ▲us.pem"), "holds no PEM private key"),
    (tls("client_certificate: ▲us.key, client_key: us.key"), "holds no PEM certificates"),
    (tls("▲verify: false"), "unknown key `verify`"),
]
SOURCES = [
    (key_set("absent.json"), "cannot be read"),
    (key_set("text.pem"), "is not JSON"),
    (key_set("list.json"), "is no key set"),
    (key_set("empty.json"), "has no key for RS256, ES256 or EdDSA signatures"),
    (key_set("private.json"), "key 1 of `private.json` is a private key"),
    (key_set("symmetric.json"), "key 2 of `symmetric.json` is symmetric"),
    (key_set("broken.json"), "key 1 of `broken.json` cannot be read"),
    (key_set("short.json"), "key 1 of `short.json` is too short"),
    (key_set("encryption.json"), "has no key for"),
    (token(", leeway: ▲6m"), "write at most 5m"),
    (token(", leeway: ▲-1s"), "is no duration"),
    (token(", forward: ▲never"), "write true or false"),
    (token(", subject_claim: ▲a..b"), "is no claim"),
    (token(", actor_claim: ▲''"), "the text is empty"),
    (token(", ▲algorithms: [none]"), "unknown key `algorithms`"),
    ("subject:\n  sources: [{jwt: ▲{jwks: keys.json, issuer: i, audience: a}}]", "`home_claim` is missing"),
    ("subject:\n  sources: [▲{}]", "the source is empty"),
    ("subject:\n  sources: [▲location]", "expected a mapping"),
    ("subject:\n  sources: ▲[]", "the list is empty"),
    ("subject:\n  sources: [{location: {accounts: ▲yes}}]", "write true"),
    (proxy_header("▲{}"), "the source says nothing, give it `home_from`, `subject_from` or both"),
    (proxy_header("{home_from: ▲0xDF}"), "a field that proxies may give a meaning, write one from 0xE0 to 0xEF"),
    (proxy_header("{home_from: ▲0xF0}"), "write one from 0xE0 to 0xEF"),
    (proxy_header("{home_from: ▲224}"), "write 0xE0"),
    (proxy_header("{home_from: ▲authority}"), "write one from 0xE0 to 0xEF"),
    (proxy_header("{subject_from: ▲alpn}"), "write one from 0xE0 to 0xEF, authority or unique_id"),
    (proxy_header("{subject_from: 0xE0, actor_from: ▲unique_id}"), "write one from 0xE0 to 0xEF"),
    (proxy_header("▲{home_from: 0xE0, actor_from: 0xE1}"), "`actor_from` without `subject_from`"),
    (proxy_header("▲{home_from: 0xE0, subject_from: 0xe0}"), "one field for two meanings"),
    (proxy_header("{home_from: 0xE0, ▲forward: true}"), "unknown key `forward`"),
    (
        "subject:\n  sources: [{▲proxy_header: {home_from: 0xE0}}]\n" + listener('bind: "127.0.0.1:80"'),
        "no listener takes a PROXY header, and this source would never speak, say `proxy_protocol: required`",
    ),
    ("subject:\n  sources: [{▲locatoin: {}}]", "did you mean `location`?"),
    ("subject:\n  trusted_proxies: [▲10.0.0.1/8]", "host bits set"),
    ("subject:\n  actors: [support, ▲support]", "duplicate actor"),
    ("subject:\n  actors: [▲subject]", "it is the subject's own"),
    ("subject:\n  actors: [▲Support]", "such as `support`"),
    ("subject:\n  stated: [▲{when: {}}]", "`home` is missing"),
    ("subject:\n  stated: [{home: ▲unknown}]", "`unknown` is no zone"),
    *(
        (f"subject:\n  stated: [{{home: eu, when: {{▲{key}: x}}}}]", "before anybody is identified")
        for key in ("home", "source", "actor", "class")
    ),
    ("subject:\n  stated: [{home: eu, unless: {▲actor: subject}}]", "`actor` cannot be tested here"),
]
LISTENERS = [
    (listener("bind: ▲8443"), "write 0.0.0.0:8443"),
    (listener('bind: ▲":8443"'), "write 0.0.0.0:8443 or [::]:8443"),
    (listener('bind: ▲"*:8443"'), "has no address"),
    (listener('bind: ▲"localhost:8443"'), "write 127.0.0.1:8443"),
    (listener('bind: ▲"0.0.0.0:99999"'), "has no valid port"),
    (listener('bind: ▲"[::1]"'), "is no address to bind"),
    (listener('bind: ▲"::1:80"'), "is no address to bind"),
    (listener('bind: ▲"[127.0.0.1]:80"'), "misplaced brackets"),
    (listener('bind: ▲"unix:"'), "is no socket path"),
    (listener(f'bind: ▲"unix:{"x" * 120}"'), "is no socket path"),
    (listener("bind: ▲[]"), "the list is empty"),
    (listener('bind: ["127.0.0.1:80", ▲"127.0.0.1:80"]'), "is bound twice, line 2"),
    (listener('bind: "[::1]:80"') + '\n  - {name: b, bind: ▲"[0:0::1]:80"}', "is bound twice, line 2"),
    (listener('bind: "127.0.0.1:9400"') + '\nadmin: {bind: ▲"127.0.0.1:9400"}', "is bound twice"),
    (listener('bind: "127.0.0.1:80"') + '\n  - {name: ▲edge, bind: "127.0.0.1:81"}', "duplicate listener `edge`"),
    (listener('bind: "127.0.0.1:80", protocol: ▲https'), "`https` is not among the choices"),
    (listener('bind: "127.0.0.1:80", protocol: ▲udp'), "write http, tls or tcp"),
    *(
        (
            listener(f'bind: "127.0.0.1:80", protocol: ▲{protocol}'),
            f"no provider has an endpoint that serves {protocol} listeners, give one an endpoint tls:// or tcp://",
        )
        for protocol in ("tls", "tcp")
    ),
    (listener('bind: "127.0.0.1:80", protocol: ▲http', passing("tls")), "give one an endpoint https:// or http://"),
    ("listeners:\n  - ▲{name: edge, bind: '127.0.0.1:80'}\n" + passing("tcp"), "serves http listeners"),
    *(
        (
            listener(
                f'bind: "127.0.0.1:80", protocol: {protocol}, '
                "▲tls: {certificates: [{certificate: us.pem, key: us.key}]}",
                passing("tcp"),
            ),
            f"a {protocol} listener decrypts nothing, leave `tls` out, or say `protocol: http`",
        )
        for protocol in ("tls", "tcp")
    ),
    (listener('bind: "127.0.0.1:80", proxy_protocol: ▲v2'), "write none"),
    ("listeners:\n  - ▲{name: edge}", "`bind` is missing"),
    ("listeners:\n  - {name: ▲Edge, bind: '127.0.0.1:80'}", "such as `edge`"),
    (listener('bind: "127.0.0.1:80", tls: ▲{}'), "`certificates` is missing"),
    (listener('bind: "127.0.0.1:80", tls: {certificates: ▲[]}'), "the list is empty"),
    (served("us.pem", "▲other.key"), "is not the key of its certificate"),
    (served("▲absent.pem", "us.key"), "cannot be read"),
    (served("us.pem", "▲absent.key"), "cannot be read"),
]
BOUNDS = [
    ("workers: ▲many", "`many` is no number of workers, write auto, or 1 to 1024"),
    ("workers: ▲0", "is no number of workers"),
    ("workers: ▲-1", "is no number of workers"),
    ("workers: ▲1.5", "is no number of workers"),
    ("workers: ▲1025", "is more workers than can be had, write auto, or at most 1024"),
    ("workers: ▲[1]", "expected a single value, found a list"),
    ("workers: {count: ▲0}", "is no number of workers"),
    ("workers: {affinity: ▲yes}", "write true"),
    ("workers: {▲cpus: 2}", "unknown key `cpus`"),
    ("control: ▲''", "the text is empty"),
    ("control: ▲unix:control.sock", "is no path, write control.sock"),
    (f"control: ▲{'x' * 108}", "is too long, the whole path of a Unix socket has at most 107 bytes"),
    ("control: ▲[a]", "expected a single value"),
    (listener('bind: "unix:a.sock"') + "\ncontrol: ▲a.sock", "`a.sock` is bound twice, line 2"),
    ("admin: {bind: 'unix:a.sock'}\ncontrol: ▲./a.sock", "is bound twice, line 1"),
    ("timeouts: {lifetime: ▲0s}", "is no time at all"),
    ("timeouts: {lifetime: ▲never}", "is no duration"),
    ("limits: {head: ▲32KB}", "is no size"),
    ("limits: {head: ▲none}", "is no size"),
    ("limits: {head: ▲0}", "is no sensible size"),
    ("limits: {body: ▲-1}", "or none"),
    ("limits: {headers: ▲1.5}", "is no count"),
    ("limits: {pipelined: ▲0}", "is no count"),
    ("limits: {connections: ▲none}", "is no count"),
    ("timeouts: {head: ▲3}", "`3` is no duration, write a number with ms"),
    ("timeouts: {head: ▲3 s}", "is no duration"),
    ("timeouts: {head: ▲1w}", "is no duration"),
    ("timeouts: {head: ▲0ms}", "is no time at all"),
    ("timeouts: {head: ▲none}", "is no duration"),
    ("timeouts: {head: ▲99999999999s}", "is no duration"),
    ("log: {subject: ▲1}", "write true"),
    ("admin: {bind: ▲9400}", "write 0.0.0.0:9400"),
    ("admin: {bind: ▲[]}", "expected a single value"),
]
ROWS = [*PROVIDERS, *HEADERS, *TLS, *SOURCES, *LISTENERS, *BOUNDS]


def write_certificate(folder: Path, name: str, days: int = 365) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.fromtimestamp(NOW, UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1000))
        .not_valid_after(now + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / f"{name}.key").write_bytes(pem)
    return key


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    key = write_certificate(folder, "us")
    write_certificate(folder, "other")
    write_certificate(folder, "old", days=-1)
    encrypted = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"passphrase"))
    (folder / "encrypted.key").write_bytes(encrypted)
    (folder / "text.pem").write_text("nothing of the kind")
    ecdsa = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    eddsa = OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate().public_key(), as_dict=True)
    private = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 2048), as_dict=True)
    public = {name: private[name] for name in ("kty", "n", "e")}
    short = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key(), as_dict=True)
    sets: dict[str, object] = {
        "keys": {"keys": [ecdsa, eddsa, public, {"kty": "EC", "crv": "P-521", "use": "enc"}]},
        "list": [ecdsa],
        "empty": {"keys": []},
        "private": {"keys": [private]},
        "symmetric": {"keys": [ecdsa, {"kty": "oct", "k": "c2VjcmV0"}]},
        "broken": {"keys": [{"kty": "EC", "crv": "P-256", "x": "!", "y": 1}]},
        "short": {"keys": [short]},
        "encryption": {"keys": [{**public, "use": "enc"}, {**public, "alg": "RS512"}, {"kty": "EC", "crv": "P-384"}]},
    }
    for name, content in sets.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.mark.parametrize(("text", "said"), ROWS, ids=[f"{number}-{row[1]}"[:50] for number, row in enumerate(ROWS)])
def test_each_mistake_is_said_at_its_place(folder: Path, text: str, said: str) -> None:
    if "▲" in text and text.startswith("providers:") and "ours:" not in text:
        text += (
            '\n  ours: {operator: Ours Inc, zone: eu, endpoints: ["https://ours.example"]}' if "[]" not in text else ""
        )
    assert_marked(folder, text, said)


def test_the_same_files_where_they_are_right(folder: Path) -> None:
    text = "\n".join(
        (
            tls(f"ca: us.pem, client_certificate: us.pem, client_key: us.key, pins: {PIN}, min_version: 1.3"),
            token(", leeway: 5m, forward: false"),
            served("us.pem", "us.key", ", client_certificate: none"),
        )
    )
    policy = loaded(folder, text).policy
    assert policy.providers[0].tls.client_key == folder / "us.key"
    assert policy.listeners[0].certificates[0].certificate == folder / "us.pem"


def test_an_expired_certificate_is_a_finding(folder: Path) -> None:
    findings = [str(note) for note in loaded(folder, served("old.pem", "old.key")).findings]
    assert any("policy.yaml:2:74: the certificate has expired" in finding for finding in findings), findings
