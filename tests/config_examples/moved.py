"""An example of config/ on this machine: the file as it stands, with other addresses and ports in it and nothing else.

    text = moved("quickstart", {"http://127.0.0.1:9000": own.origin, "127.0.0.1:8080": ANY_PORT})

What an operator has to put in place of the example's own files (key sets, authorities) goes beside it by name.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.identity.tokens import b64, key_set

CONFIG = Path(__file__).parents[2] / "config"

ANY_PORT = "127.0.0.1:0"

# Real addresses: of registries, or long announced by their holders.
MAINLAND = "1.2.4.8"
HONG_KONG = "202.45.84.58"
NETHERLANDS = "193.0.6.139"
AMERICA = "8.8.8.8"
PRIVATE = "192.168.7.7"

LOOPBACK_PROXIES = {"10.0.0.0/8": "127.0.0.0/8"}
"""The test stands where the load balancers do, so that its requests can come from real addresses."""


def moved(name: str, changes: Mapping[str, str]) -> str:
    """The text of an example's policy; each change has to be there to be made."""
    text = (CONFIG / name / "policy.yaml").read_text("utf-8")
    for written, here in changes.items():
        assert text.count(written) == 1, f"{name} has {written!r} {text.count(written)} times"
        text = text.replace(written, here)
    return text


class Issuer:
    """Signs accounts' tokens; `key_set` is what goes into jwks.json."""

    def __init__(self, audience: str) -> None:
        self._private = Ed25519PrivateKey.generate()
        self._audience = audience
        public = b64(self._private.public_key().public_bytes_raw())
        self.key_set = key_set({"kty": "OKP", "crv": "Ed25519", "kid": "test", "x": public})

    def token(self, subject: str, **claims: Any) -> str:
        """A token of one account, good for ten minutes. Claims beside the registered ones are given by name."""
        now = int(time.time())
        registered = {"iss": "https://id.example.com", "aud": self._audience, "sub": subject, "exp": now + 600}
        return jwt.encode({**registered, **claims}, self._private, algorithm="EdDSA", headers={"kid": "test"})
