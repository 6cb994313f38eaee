"""A JSON Web Key Set (RFC 7517): public keys that tokens are verified with, from a file or an issuer.

- A key serves one algorithm, which its own type decides: RSA is RS256, P-256 is ES256, Ed25519 is EdDSA. What
  a token's header says is compared with that and never chooses.
- Keys for something else (`use: enc`, another `alg`, curve or type) are passed over, as RFC 7517 5 asks:
  providers of identity publish them beside the ones that sign.
- Private and symmetric keys, small RSA keys and two keys of one `kid` make the whole set refused.
"""

from collections.abc import Awaitable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, Protocol

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import Algorithm, ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import PyJWTError

from proxy.identity.refused import SourceRefused
from proxy.identity.strict import base64url, json_object

LARGEST_KEY_SET = 1 << 20
"""Bytes of a key set file that are read; more is refused."""

SMALLEST_RSA = 2048
"""Bits of an RSA modulus (RFC 7518 3.3)."""

LARGEST_RSA = 8192
"""Bits of an RSA modulus: a larger one makes every token expensive."""

AlgorithmName = Literal["RS256", "ES256", "EdDSA"]

_ALGORITHMS: dict[str, Algorithm] = {
    "RS256": RSAAlgorithm(RSAAlgorithm.SHA256),
    "ES256": ECAlgorithm(ECAlgorithm.SHA256),
    "EdDSA": OKPAlgorithm(),
}

# Members that only private and symmetric keys have (RFC 7518 6.2.2, 6.3.2, 6.4; RFC 8037 2).
_SECRET_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})

_PUBLIC_MEMBERS = {"RS256": ("n", "e"), "ES256": ("x", "y"), "EdDSA": ("x",)}


@dataclass(frozen=True, slots=True)
class Key:
    """One public key and the one algorithm that it verifies."""

    kid: str | None
    algorithm: AlgorithmName
    _public: Any = field(repr=False)

    def verifies(self, signed: bytes, signature: bytes) -> bool:
        """Whether `signature` is this key's over `signed`."""
        return _ALGORITHMS[self.algorithm].verify(signed, self._public, signature)


class KeySet:
    """The usable keys of a set. digest: the SHA-256 of what it was read from."""

    __slots__ = ("_by_kid", "_keys", "digest")

    def __init__(self, keys: tuple[Key, ...], digest: bytes) -> None:
        self.digest = digest
        self._keys = keys
        self._by_kid = {key.kid: key for key in keys if key.kid is not None}

    def named(self, kid: str, algorithm: str) -> Key | None:
        """The key of that `kid`, if it is one of that algorithm."""
        key = self._by_kid.get(kid)
        return key if key is not None and key.algorithm == algorithm else None

    def knows(self, kid: str) -> bool:
        """Whether some key has that `kid`."""
        return kid in self._by_kid

    def only(self, algorithm: str) -> Key | None:
        """The only key of that algorithm, if there is exactly one: what a token without a `kid` may mean."""
        fitting = [key for key in self._keys if key.algorithm == algorithm]
        return fitting[0] if len(fitting) == 1 else None

    def __len__(self) -> int:
        return len(self._keys)


class Keys(Protocol):
    """The key set that serves now, wherever it comes from."""

    @property
    def failing(self) -> bool:
        """Whether the set could not be had when it was last asked for."""
        ...

    def current(self) -> KeySet | None:
        """The keys that may be used now; None for none."""
        ...

    def age(self) -> float | None:
        """Seconds since the keys were fetched; None for a file, and where there are none."""
        ...

    def coming(self) -> Awaitable[object] | None:
        """What is done when a set that is on its way has come, or failed to; None where none is."""
        ...

    def look_again(self) -> Awaitable[object] | None:
        """As `coming`, for a token whose key is unknown: asks for the set anew, if that was not just done."""
        ...


class LocalKeys:
    """A set from a file: it is what it was when it was opened."""

    __slots__ = ("_keys",)

    failing = False

    def __init__(self, keys: KeySet) -> None:
        self._keys = keys

    def current(self) -> KeySet:
        return self._keys

    def age(self) -> None:
        return None

    def coming(self) -> None:
        return None

    def look_again(self) -> None:
        return None


def open_key_set(path: Path) -> KeySet:
    """Read a JWKS file. Raises SourceRefused, the operator's fault, with the place in the file."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_KEY_SET + 1)
    except OSError as error:
        raise SourceRefused(f"{path}: cannot be read: {error.strerror}") from None
    return read_key_set(content, str(path))


def read_key_set(content: bytes, name: str) -> KeySet:
    """Read a JWKS, wherever it came from. Raises SourceRefused, which calls it by its name."""
    if len(content) > LARGEST_KEY_SET:
        raise SourceRefused(f"{name}: the key set is larger than {LARGEST_KEY_SET >> 10} KiB")
    try:
        listed = json_object(content).get("keys")
    except ValueError as error:
        raise SourceRefused(f"{name}: {error}") from None
    if not isinstance(listed, list):
        raise SourceRefused(f"{name}: a key set has a list `keys`")
    keys: list[Key] = []
    kids: set[str] = set()
    for index, member in enumerate(listed):
        place = f"{name}: keys[{index}]"
        key = _key(member, place)
        if key is None:
            continue
        if key.kid is not None:
            if key.kid in kids:
                raise SourceRefused(f"{place}: another key has the same kid")
            kids.add(key.kid)
        keys.append(key)
    if not keys:
        raise SourceRefused(f"{name}: no key verifies RS256, ES256 or EdDSA")
    return KeySet(tuple(keys), sha256(content).digest())


def _key(member: object, place: str) -> Key | None:
    if not isinstance(member, dict):
        raise SourceRefused(f"{place}: a key is an object")
    if member.get("kty") == "oct" or not _SECRET_MEMBERS.isdisjoint(member):
        raise SourceRefused(f"{place}: a private or symmetric key does not belong here")
    algorithm = _algorithm(member)
    if algorithm is None or not _signs(member, algorithm):
        return None
    kid = member.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise SourceRefused(f"{place}: kid is not text")
    try:
        for name in _PUBLIC_MEMBERS[algorithm]:
            base64url(member[name].encode("ascii"))
        public = _ALGORITHMS[algorithm].from_jwk(member)
    except (PyJWTError, ValueError, KeyError, AttributeError, TypeError):
        raise SourceRefused(f"{place}: not a {algorithm} public key") from None
    if isinstance(public, RSAPublicKey) and not SMALLEST_RSA <= public.key_size <= LARGEST_RSA:
        raise SourceRefused(f"{place}: an RSA key has {SMALLEST_RSA} to {LARGEST_RSA} bits")
    return Key(kid, algorithm, public)


def _algorithm(member: dict[str, object]) -> AlgorithmName | None:
    match member.get("kty"), member.get("crv"):
        case "RSA", _:
            return "RS256"
        case "EC", "P-256":
            return "ES256"
        case "OKP", "Ed25519":
            return "EdDSA"
        case _:
            return None


def _signs(member: dict[str, object], algorithm: AlgorithmName) -> bool:
    """Whether `use`, `key_ops` and `alg` (RFC 7517 4.2 to 4.4), where they are there, allow verification."""
    operations = member.get("key_ops", ["verify"])
    return (
        member.get("use", "sig") == "sig"
        and member.get("alg", algorithm) == algorithm
        and isinstance(operations, list)
        and "verify" in operations
    )
