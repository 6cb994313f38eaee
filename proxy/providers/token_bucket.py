"""Limits of rate: a bucket of tokens for each subject or client network.

- A bucket is one number, the moment at which it will be full: so one that is full need not be kept (a server keeps it
  a minute longer, lest a clock that is set back fills it), and one that is forgotten gives its burst anew.
  `rate` tokens come back each second, `burst` are the most it holds.
- Keys are digests under a secret: what is kept, here or on a server, names nobody.
- Two forms agree to the last bit: `TokenBuckets` in this process, on monotonic seconds, and SCRIPT on a Valkey server
  for all instances, on the server's own clock, so that theirs need not agree. The script does in the same order what
  `TokenBuckets.take` does.

Sans I/O. Both answer in seconds: 0 is yes, else when there is a token.
"""

from collections import OrderedDict
from hashlib import blake2b, sha1, sha256
from typing import Final

from proxy.policy.balance import RateLimit
from proxy.policy.facts import Address

SCRIPT: Final = b"""\
local rate, burst, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1e6
end
local full = tonumber(redis.call('GET', KEYS[1]) or now)
full = math.min(math.max(full, now), now + burst / rate)
local wait = full - now - (burst - 1) / rate
if wait > 0 then
  return string.format('%.17g', wait)
end
full = full + 1 / rate
redis.call('SET', KEYS[1], string.format('%.17g', full), 'PX', math.ceil((full - now) * 1000) + 60000)
return '0'
"""

SCRIPT_DIGEST: Final = sha1(SCRIPT, usedforsecurity=False).hexdigest()
"""By which EVALSHA knows it, once it was sent with EVAL."""

_MAPPED: Final = 0xFFFF
_ALL4: Final = (1 << 32) - 1


class TokenBuckets:
    """The buckets of one limit in this process; the one used longest ago makes room."""

    __slots__ = ("_keys", "_room", "_step", "_until_full", "_whole")

    def __init__(self, limit: RateLimit) -> None:
        self._step = 1 / limit.rate
        self._room = (limit.burst - 1) / limit.rate
        self._whole = limit.burst / limit.rate
        self._keys = limit.keys
        self._until_full: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until_full)

    def take(self, key: bytes, now: float) -> float:
        """Takes one token, if there is one: 0.0 then; else the seconds until there is one."""
        buckets = self._until_full
        full = buckets.get(key)
        if full is None:
            full = now
            if len(buckets) >= self._keys:
                buckets.popitem(last=False)
        else:
            buckets.move_to_end(key)
            if full < now:
                full = now
            elif full > now + self._whole:
                full = now + self._whole
        wait = full - now - self._room
        if wait > 0.0:
            return wait
        buckets[key] = full + self._step
        return 0.0


class BucketKeys:
    """The keys of one limit's buckets. secret: of all instances that share buckets."""

    __slots__ = ("_begun", "_mask4", "_mask6")

    def __init__(self, secret: bytes, limit: RateLimit) -> None:
        # The name is closed by its length: no name and subject run together as another's do.
        name = limit.name.encode()
        self._begun = blake2b(b"%d:%b" % (len(name), name), digest_size=16, key=sha256(secret).digest())
        self._mask4 = (1 << 32) - (1 << (32 - limit.prefix4))
        self._mask6 = (1 << 128) - (1 << (128 - limit.prefix6))

    def of_subject(self, subject: str) -> bytes:
        return self._of(b"s" + subject.encode())

    def of_network(self, client: Address) -> bytes:
        """An IPv4 address counts alike however it is written."""
        number = int(client)
        if client.version == 4 or number >> 32 == _MAPPED:
            return self._of(b"4" + (number & self._mask4 & _ALL4).to_bytes(4, "big"))
        return self._of(b"6" + (number & self._mask6).to_bytes(16, "big"))

    def _of(self, name: bytes) -> bytes:
        digest = self._begun.copy()
        digest.update(name)
        return digest.digest()


def arguments(prefix: str, key: bytes, limit: RateLimit, now: float | None = None) -> tuple[int, str, str, str, str]:
    """What follows the script or its digest in EVAL and EVALSHA. now: None is the server's clock."""
    return 1, prefix + key.hex(), repr(limit.rate), repr(limit.burst), "" if now is None else repr(now)


def wait_of(reply: object) -> float:
    """What the script answered: as `TokenBuckets.take`. Raises ValueError for anything else."""
    if not isinstance(reply, bytes | str):
        raise ValueError("not an answer of the script")
    wait = float(reply)
    if not 0.0 <= wait < float("inf"):
        raise ValueError("not an answer of the script")
    return wait
