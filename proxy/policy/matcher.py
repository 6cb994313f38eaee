"""Many conditions tested at once: every condition is one bit.

For each key there is a table from the fact's value to two masks over all conditions: `sure` (this key does
not stop the condition from matching) and `maybe` (it may not). They differ only where the fact is not known:
None, or the country `unknown` for a test that does not name `unknown`; then a tested condition is `maybe` and
not `sure`. A condition surely matches where the `sure` masks of all keys have its bit, and may match where
the `maybe` masks have it. The cost of a look does not grow with the number of conditions but for the width of
the integers, and is bounded in the length of host and path by the depth of the deepest pattern.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Network, collapse_addresses
from operator import attrgetter

from proxy.policy.facts import READING_METHODS, UNKNOWN, Address, Facts
from proxy.policy.rules import Condition, Network

Masks = tuple[int, int]
"""sure, maybe; sure is a subset of maybe."""

Test = Callable[[Facts], Masks]

KEYS = ("home", "country", "host", "path", "method", "listener", "client", "source", "actor", "ech")
"""Every key of a condition but `data_class`, which is derived from the others."""

_POSSIBILITIES = 1024  # how many sets of possible classes are remembered


def bits(mask: int) -> Iterator[int]:
    """The places of the set bits, lowest first."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


class Matcher:
    """Conditions, as bits: condition i is bit i. None never matches (an `unless` that is not there).

    The keys in `unasked` are not known, whatever the facts say.
    """

    def __init__(self, conditions: Sequence[Condition | None], unasked: frozenset[str] = frozenset()) -> None:
        self.all = 0
        named: dict[str, dict[object, int]] = {key: defaultdict(int) for key in (*KEYS, "data_class")}
        tested = dict.fromkeys(named, 0)
        for i, condition in enumerate(conditions):
            if condition is None:
                continue
            bit = 1 << i
            self.all |= bit
            for key in named:
                wanted = getattr(condition, key)
                if wanted is None:
                    continue
                tested[key] |= bit
                for value in wanted if isinstance(wanted, frozenset) else (wanted,):
                    named[key][value] |= bit
        self.tested = tested
        """Which conditions test a key."""
        self._classes = dict(named["data_class"])
        self._by_class: dict[frozenset[str], Masks] = {}
        makers: dict[str, Callable[[str, dict[object, int], int, int], Test]] = {
            "country": _country_test,
            "host": _host_test,
            "path": _path_test,
            "method": _method_test,
        }
        self.tests: dict[str, Test] = {}
        """For each key that some condition tests: the masks that a fact gives."""
        for key in KEYS:
            if tested[key] and key != "client":
                self.tests[key] = makers.get(key, _plain_test)(key, dict(named[key]), self.all, tested[key])
        self.networks = _Networks(conditions) if tested["client"] else None
        if self.networks is not None:
            self.tests["client"] = self.networks.test(self.all, tested["client"])
        for key in unasked & self.tests.keys():
            self.tests[key] = _not_known(self.all & ~tested[key], self.all)
        self._tests = tuple(self.tests.values())

    def look(self, facts: Facts) -> Masks:
        """What these facts match, the class aside."""
        sure = maybe = self.all
        for test in self._tests:
            one, other = test(facts)
            sure &= one
            maybe &= other
        return sure, maybe

    def by_class(self, possible: frozenset[str]) -> Masks:
        """What a class that is one of these matches: surely if all of them do, maybe if any does."""
        found = self._by_class.get(possible)
        if found is None:
            untested = self.all & ~self.tested["data_class"]
            sure, maybe = self.all, untested
            for name in possible:
                named = untested | self._classes.get(name, 0)
                sure &= named
                maybe |= named
            found = sure, maybe
            if len(self._by_class) >= _POSSIBILITIES:
                self._by_class.clear()
            self._by_class[possible] = found
        return found


def _not_known(untested: int, all_: int) -> Test:
    return lambda facts: (untested, all_)


def _plain_test(key: str, named: dict[object, int], all_: int, tested: int) -> Test:
    untested = all_ & ~tested
    table: dict[object, Masks] = {value: (untested | mask, untested | mask) for value, mask in named.items()}
    table[None] = (untested, all_)
    other = (untested, untested)
    value_of = attrgetter(key)
    get = table.get
    return lambda facts: get(value_of(facts), other)


def _country_test(key: str, named: dict[object, int], all_: int, tested: int) -> Test:
    untested = all_ & ~tested
    table: dict[object, Masks] = {value: (untested | mask, untested | mask) for value, mask in named.items()}
    # A test that names `unknown` knows; for any other, the country is not known and may be one of its own.
    table[UNKNOWN] = (untested | named.get(UNKNOWN, 0), all_)
    other = (untested, untested)
    get = table.get
    return lambda facts: get(facts.country, other)


def _host_test(key: str, named: dict[object, int], all_: int, tested: int) -> Test:
    untested = all_ & ~tested
    exact: dict[str, int] = {}
    below: dict[str, int] = {}  # ".suffix"
    for pattern, mask in named.items():
        assert isinstance(pattern, str)
        if pattern.startswith("*."):
            below[pattern[1:]] = mask
        else:
            exact[pattern] = mask
    deepest = max((suffix.count(".") for suffix in below), default=0)
    unknown = (untested, all_)

    def masks(facts: Facts) -> Masks:
        host = facts.host
        if host is None:
            return unknown
        found = untested | exact.get(host, 0)
        end = len(host)
        for _ in range(deepest):
            end = host.rfind(".", 0, end)
            if end < 1:  # a dot at the very start has nothing before it: the suffix itself
                break
            found |= below.get(host[end:], 0)
        return found, found

    return masks


def _path_test(key: str, named: dict[object, int], all_: int, tested: int) -> Test:
    untested = all_ & ~tested
    exact: dict[str, int] = {}
    below: dict[str, int] = {}  # "/p" of "/p/*"
    for pattern, mask in named.items():
        assert isinstance(pattern, str)
        if pattern.endswith("/*"):
            below[pattern[:-2]] = mask
        else:
            exact[pattern] = mask
    deepest = max((prefix.count("/") for prefix in below), default=-1)
    unknown = (untested, all_)

    def masks(facts: Facts) -> Masks:
        path = facts.path
        if path is None:
            return unknown
        found = untested | exact.get(path, 0) | below.get(path, 0)
        end = -1
        for _ in range(deepest + 1):
            end = path.find("/", end + 1)
            if end < 0:
                break
            found |= below.get(path[:end], 0)
        return found, found

    return masks


def _method_test(key: str, named: dict[object, int], all_: int, tested: int) -> Test:
    untested = all_ & ~tested
    # A client may send a method spelt `read`: it is a name that nothing can name, not this word.
    reading, writing = untested | named.pop("read", 0), untested | named.pop("write", 0)
    names = dict(named)
    unknown = (untested, all_)

    def masks(facts: Facts) -> Masks:
        method = facts.method
        if method is None:
            return unknown
        found = reading if method in READING_METHODS and not facts.upgrade else writing
        found |= names.get(method, 0)
        return found, found

    return masks


MAPPED = 0xFFFF << 32  # ::ffff:0:0/96, where the IPv4 addresses lie (RFC 4291, 2.5.5.2)
MAPPED_END = MAPPED + (1 << 32)


def _place(address: Address) -> int:
    return int(address) + MAPPED if isinstance(address, IPv4Address) else int(address)


class _Networks:
    """The client networks of all conditions, as disjoint intervals of one axis: the IPv6 addresses.

    An IPv4 address and its mapped form are one place, which IPv4 networks alone hold.
    """

    def __init__(self, conditions: Sequence[Condition | None]) -> None:
        toggles: dict[int, int] = defaultdict(int)
        for i, condition in enumerate(conditions):
            for start, end in _intervals((condition and condition.client) or frozenset()):
                toggles[start] ^= 1 << i
                toggles[end] ^= 1 << i
        self.starts = sorted(toggles)
        self.masks = [0]  # one more than starts: masks[i] holds below starts[i]
        for start in self.starts:
            self.masks.append(self.masks[-1] ^ toggles[start])

    def interval(self, address: Address) -> int:
        """Which interval the address lies in: all the addresses of one interval match alike."""
        return bisect_right(self.starts, _place(address))

    def test(self, all_: int, tested: int) -> Test:
        untested = all_ & ~tested
        masks = [(untested | mask, untested | mask) for mask in self.masks]
        unknown = (untested, all_)
        interval = self.interval

        def of(facts: Facts) -> Masks:
            return unknown if facts.client is None else masks[interval(facts.client)]

        return of


def _intervals(networks: frozenset[Network]) -> list[tuple[int, int]]:
    """Half-open, disjoint."""
    found = []
    for four in collapse_addresses(n for n in networks if isinstance(n, IPv4Network)):
        start = _place(four.network_address)
        found.append((start, start + four.num_addresses))
    for six in collapse_addresses(n for n in networks if isinstance(n, IPv6Network)):
        start = _place(six.network_address)
        end = start + six.num_addresses
        # The part below the mapped addresses, and the part above.
        found += [(a, b) for a, b in ((start, min(end, MAPPED)), (max(start, MAPPED_END), end)) if a < b]
    return found
