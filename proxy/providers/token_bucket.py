"""Limits of rate: a bucket of tokens for each subject or client network.

- A bucket is one number, the moment at which it will be full: so one that is full need not be kept (a server keeps it
  a minute longer, lest a clock that is set back fills it), and one that is forgotten gives its burst anew.
  `rate` tokens come back each second, `burst` are the most it holds.
- Keys are digests under a secret: what is kept, here or on a server, names nobody.
- Two forms agree to the last bit: `TokenBuckets` in this process, on monotonic seconds, and SCRIPT on a Valkey server
  for all instances, on the server's own clock, so that theirs need not agree. The script does in the same order what
  `TokenBuckets.take` does, for several limits at once: a token of each, or of none.

Sans I/O. Both answer in seconds: 0 is yes, else when there is a token.
"""

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b, sha1, sha256
from typing import Final

from proxy.policy.balance import RateLimit
from proxy.policy.facts import Address

SCRIPT: Final = b"""\
local now = tonumber(ARGV[2 * #KEYS + 1])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1e6
end
local fulls, which, longest = {}, 0, 0
for i, key in ipairs(KEYS) do
  local rate, burst = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  local full = tonumber(redis.call('GET', key) or now)
  full = math.min(math.max(full, now), now + burst / rate)
  local wait = full - now - (burst - 1) / rate
  if wait > longest then
    which, longest = i - 1, wait
  end
  fulls[i] = full
end
if longest > 0 then
  return string.format('%d %.17g', which, longest)
end
for i, key in ipairs(KEYS) do
  local full = fulls[i] + 1 / tonumber(ARGV[2 * i - 1])
  redis.call('SET', key, string.format('%.17g', full), 'PX', math.ceil((full - now) * 1000) + 60000)
end
return '0 0'
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

    def wait(self, key: bytes, now: float) -> float:
        """The seconds until there is a token; 0.0: there is one. Nothing is taken."""
        full = self._until_full.get(key, now)
        return max(0.0, min(max(full, now), now + self._whole) - now - self._room)

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

    def of_nowhere(self) -> bytes:
        """All who have no address, as on a Unix socket: one bucket for all of them."""
        return self._of(b"n")

    def _of(self, name: bytes) -> bytes:
        digest = self._begun.copy()
        digest.update(name)
        return digest.digest()


def arguments(
    prefix: str, wanted: Sequence[tuple[RateLimit, bytes]], now: float | None = None
) -> tuple[int | str, ...]:
    """What follows the script or its digest in EVAL and EVALSHA. now: None is the server's clock."""
    keys = (prefix + key.hex() for _, key in wanted)
    figures = (repr(figure) for limit, _ in wanted for figure in (limit.rate, limit.burst))
    return len(wanted), *keys, *figures, "" if now is None else repr(now)


def question(prefix: str, wanted: Sequence[tuple[RateLimit, bytes]]) -> bytes:
    """The EVALSHA, on the server's clock, as it is sent."""
    return command(b"EVALSHA", SCRIPT_DIGEST.encode(), *(str(word).encode() for word in arguments(prefix, wanted)))


def command(*words: bytes) -> bytes:
    """A command as a server reads it."""
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])


def wait_of(reply: object) -> tuple[int, float]:
    """What the script answered: which limit there is the longest wait for, and its seconds, 0.0 for none.

    Raises ValueError for anything else.
    """
    if not isinstance(reply, bytes | str):
        raise ValueError("not an answer of the script")
    place, _, seconds = (reply.decode() if isinstance(reply, bytes) else reply).partition(" ")
    which, wait = int(place), float(seconds)
    if which < 0 or not 0.0 <= wait < float("inf"):
        raise ValueError("not an answer of the script")
    return which, wait
