"""Accounts with a residence, and the tokens that vouch for them."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

ISSUER = "https://id.example"
AUDIENCE = "storage"
_KEY_ID = "demo"
_LIFETIME = 7 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Account:
    """name: as people say it, and the token's subject. residence: ISO code of the country whose law applies."""

    name: str
    residence: str

    @property
    def stem(self) -> str:
        """The name as a file has it."""
        return self.name.lower().replace(" ", "-")


class Identity:
    """Signs tokens with a key of its own, ES256. Its public half is at `key_set`, a JWKS file."""

    def __init__(self, folder: Path) -> None:
        self._private = ec.generate_private_key(ec.SECP256R1())
        public: dict[str, Any] = ECAlgorithm.to_jwk(self._private.public_key(), as_dict=True)
        public |= {"kid": _KEY_ID, "alg": "ES256", "use": "sig"}
        self.key_set = folder / "jwks.json"
        self.key_set.write_text(json.dumps({"keys": [public]}, indent=2) + "\n", encoding="utf-8")

    def token(self, account: Account) -> str:
        """A token that says who it is and where that person resides."""
        return _signed(account, self._private)

    def residence(self, headers: Mapping[str, str]) -> str | None:
        """The residence that the bearer token of a request states; None without one that verifies."""
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        try:
            claims = jwt.decode(
                token, self._private.public_key(), algorithms=["ES256"], audience=AUDIENCE, issuer=ISSUER
            )
        except jwt.InvalidTokenError:
            return None
        return str(claims["residency"])


def forged(account: Account) -> str:
    """A token that is right in everything but the key that signed it."""
    return _signed(account, ec.generate_private_key(ec.SECP256R1()))


def _signed(account: Account, key: ec.EllipticCurvePrivateKey) -> str:
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": account.name,
        "residency": account.residence,
        "iat": now,
        "exp": now + _LIFETIME,
    }
    return jwt.encode(claims, key, algorithm="ES256", headers={"kid": _KEY_ID})
