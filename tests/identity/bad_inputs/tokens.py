"""Bad tokens: in Authorization, in a header, in a cookie, and with a key set that never came."""

import json
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from tests.http1.staging import request
from tests.identity import tokens
from tests.identity.bad_inputs.table import Bytes, Row, Table, rows

JWT = "jwks: jwks.json, issuer: 'https://id.example', audience: storage, home_claim: residency, actor_claim: act.role"
SOURCES = """  sources:
    - jwt: {%s}
    - location: {accounts: true}
  stated: [{when: {host: nowhere.example}, home: eu}]
"""
BEARER = "Authorization: Bearer "


@cache
def _times() -> dict[str, float]:
    now = int(time.time())
    return {"exp": now + 3600, "iat": now - 10}


def made(algorithm: str = "EdDSA", *, header: dict[str, Any] | None = None, **claims: Any) -> str:
    """A token that is good but for these changes."""
    return tokens.token(algorithm, header=header, **(_times() | claims)).decode()


def payload(**claims: Any) -> bytes:
    return json.dumps(tokens.claims(**(_times() | claims))).encode()


def by_hand(header: bytes, claims: bytes, signer: Callable[[bytes], bytes] = tokens.eddsa) -> str:
    return tokens.sealed(header, claims, signer).decode()


def bearer(text: str) -> bytes:
    return request("/", xff=None, headers=BEARER + text)


def fields(*lines: str) -> bytes:
    return request("/", xff=None, headers="\r\n".join(lines))


HEADER = b'{"alg":"EdDSA","kid":"d"}'
P256 = b'{"alg":"ES256","kid":"e"}'
DER = b"\x30\x06\x02\x01\x01\x02\x01\x01"


def parts(text: str) -> list[str]:
    return text.split(".")


BAD: dict[str, Bytes] = {
    "nothing behind the scheme": lambda: fields("Authorization: Bearer"),
    "spaces behind the scheme": lambda: fields("Authorization: Bearer   "),
    "no space behind the scheme": lambda: fields("Authorization: Bearer\t" + made()),
    "two fields": lambda: fields(BEARER + made(), BEARER + made()),
    "two fields, one of another scheme": lambda: fields("Authorization: Basic eDp5", BEARER + made()),
    "two fields, one in another case": lambda: fields(BEARER + made(), "authorization: x"),
    "two credentials in a list": lambda: fields(f"{BEARER}{made()}, Bearer {made()}"),
    "a second credential in a list": lambda: fields(f"Authorization: Basic eDp5, Bearer {made()}"),
    "one part": lambda: bearer("x"),
    "two parts": lambda: bearer(made().rpartition(".")[0]),
    "four parts": lambda: bearer(made() + ".x"),
    "five parts (encrypted)": lambda: bearer("a.b.c.d.e"),
    "empty parts": lambda: bearer(".."),
    "too large": lambda: bearer(made(padding="x" * 6200)),
    "padding": lambda: bearer(made() + "=="),
    "white space inside": lambda: bearer(made().replace(".", ". ", 1)),
    "base64 instead of base64url": lambda: bearer("+/" + made()),
    "stray bits": lambda: bearer(".".join([parts(made())[0][:-1] + "B", *parts(made())[1:]])),
    "header no JSON": lambda: bearer(by_hand(b"{", payload())),
    "header a list": lambda: bearer(by_hand(b"[]", payload())),
    "claims no object": lambda: bearer(by_hand(HEADER, b'"x"')),
    "claims not UTF-8": lambda: bearer(by_hand(HEADER, b"\xff" + payload())),
    "a claim twice": lambda: bearer(by_hand(HEADER, payload()[:-1] + b',"residency":"DE"}')),
    "a header member twice": lambda: bearer(by_hand(HEADER[:-1] + b',"alg":"none"}', payload())),
    "NaN": lambda: bearer(by_hand(HEADER, payload()[:-1] + b',"n":NaN}')),
    "nested too deeply": lambda: bearer(by_hand(HEADER, b'{"a":' * 1000 + b"1" + b"}" * 1000)),
    "alg none": lambda: bearer(by_hand(b'{"alg":"none"}', payload(), lambda signed: b"")),
    "alg none in capitals": lambda: bearer(by_hand(b'{"alg":"NONE"}', payload(), lambda signed: b"")),
    "no alg": lambda: bearer(made(header={"alg": ...})),
    "alg a number": lambda: bearer(made(header={"alg": 1})),
    "HMAC by the public key": lambda: bearer(made(header={"alg": "HS256"})),
    "the right key under another algorithm": lambda: bearer(made(header={"alg": "RS256"})),
    "an unknown key": lambda: bearer(made(header={"kid": "new"})),
    "a key for encryption": lambda: bearer(made("RS256", header={"kid": "enc"})),
    "a kid that is no text": lambda: bearer(made(header={"kid": ["d"]})),
    "a kid that is a path": lambda: bearer(made(header={"kid": "../../etc/passwd"})),
    "crit": lambda: bearer(made(header={"crit": ["exp"], "exp": 1})),
    "b64": lambda: bearer(made(header={"b64": False})),
    "a token of another purpose": lambda: bearer(made(header={"typ": "logout+jwt"})),
    "its own key": lambda: bearer(
        by_hand(b'{"alg":"EdDSA","jwk":%b}' % json.dumps(tokens.ed_jwk(1)).encode(), payload(), stranger)
    ),
    "a place of its own key": lambda: bearer(
        by_hand(b'{"alg":"EdDSA","kid":"d","jku":"https://evil.example/"}', payload(), stranger)
    ),
    "signed by a stranger": lambda: bearer(by_hand(HEADER, payload(), stranger)),
    "no signature": lambda: bearer(made().rpartition(".")[0] + "."),
    "the signature of other claims": lambda: bearer(".".join((*parts(made(residency="DE"))[:2], parts(made())[2]))),
    "an ECDSA signature in DER": lambda: bearer(by_hand(P256, payload(), lambda signed: DER)),
    "an ECDSA signature of zeros": lambda: bearer(by_hand(P256, payload(), lambda signed: bytes(64))),
    "another issuer": lambda: bearer(made(iss="https://id.example.evil.example")),
    "no issuer": lambda: bearer(made(iss=...)),
    "another audience": lambda: bearer(made(aud="billing")),
    "an audience among lists": lambda: bearer(made(aud=[["storage"]])),
    "no audience": lambda: bearer(made(aud=...)),
    "no end": lambda: bearer(made(exp=...)),
    "an end that is text": lambda: bearer(made(exp="4000000000")),
    "an end that is true": lambda: bearer(made(exp=True)),
    "an end beyond numbers": lambda: bearer(made(exp=1e300)),
    "expired": lambda: bearer(made(exp=_times()["iat"] - 3600)),
    "not yet": lambda: bearer(made(nbf=_times()["exp"])),
    "issued in the future": lambda: bearer(made(iat=_times()["exp"])),
    "no subject": lambda: bearer(made(sub=...)),
    "an empty subject": lambda: bearer(made(sub="")),
    "a subject that is a number": lambda: bearer(made(sub=7)),
    "a subject with a new line": lambda: bearer(made(sub="a\nX-Account: b")),
    "a subject with NUL": lambda: bearer(made(sub="a\0")),
    "a long subject": lambda: bearer(made(sub="a" * 256)),
    "a home of nowhere": lambda: bearer(made(residency="ZZ")),
    "a home that is unknown": lambda: bearer(made(residency="unknown")),
    "a home that is a list": lambda: bearer(made(residency=["CN"])),
    "an empty home": lambda: bearer(made(residency="")),
    "staff that nobody lists": lambda: bearer(made(act={"role": "king"})),
    "somebody acts": lambda: bearer(made(act={"sub": "x"})),
    "who acts is a list": lambda: bearer(made(act={"role": ["support"]})),
    "a claim both ways": lambda: bearer(made(**{"act.role": "support", "act": {"role": "support"}})),
}


def stranger(signed: bytes) -> bytes:
    return tokens.eddsa(signed, 1)


def write(folder: Path) -> None:
    tokens.written(folder, tokens.all_keys())


PLACED: dict[str, Bytes] = {
    "two fields": lambda: fields("X-Token: " + made(), "x-token: " + made()),
    "two tokens in a list": lambda: fields(f"X-Token: {made()}, {made()}"),
    "empty": lambda: fields("X-Token:"),
    "with its scheme": lambda: fields("X-Token: Bearer " + made()),
    "cut": lambda: fields("X-Token: " + made()[:-4]),
    "bytes": lambda: fields("X-Token: \xff\xfe"),
}

IN_COOKIES: dict[str, Bytes] = {
    "twice": lambda: fields(f"Cookie: session={made()}; session={made()}"),
    "twice, in two fields": lambda: fields(f"Cookie: session={made()}", "Cookie: session=x"),
    "empty": lambda: fields("Cookie: session="),
    "quoted": lambda: fields(f'Cookie: session="{made()}"'),
    "cut": lambda: fields(f"Cookie: a=b; session={made()[:-4]}; c=d"),
    "signed by a stranger": lambda: fields("Cookie: session=" + by_hand(HEADER, payload(), stranger)),
}

NOBODY = "{url: 'http://127.0.0.1:1/jwks.json', timeout: 1s}"

TABLES = [
    Table(
        "tokens in Authorization",
        SOURCES % JWT,
        lambda: bearer(made()),
        rows(401, BAD),
        write,
        credential=lambda: made().encode(),
    ),
    Table(
        "tokens in a header",
        SOURCES % (JWT + ", token: {header: X-Token}"),
        lambda: fields("X-Token: " + made()),
        rows(401, PLACED),
        write,
        credential=lambda: made().encode(),
    ),
    Table(
        "tokens in a cookie",
        SOURCES % (JWT + ", token: {cookie: session}"),
        lambda: fields(f"Cookie: session={made()}"),
        rows(401, IN_COOKIES),
        write,
        credential=lambda: made().encode(),
    ),
    Table(
        "a key set that never came",
        SOURCES % JWT.replace("jwks.json", NOBODY),
        lambda: request("/", xff=None, host="nowhere.example"),
        {
            "a good token": Row(lambda: bearer(made()), 503),
            "a token of an unknown key": Row(lambda: bearer(made(header={"kid": "new"})), 503),
            "no token at all": Row(lambda: bearer("x"), 401),
        },
    ),
]
