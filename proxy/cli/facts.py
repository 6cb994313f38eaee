"""Facts as people and programs give them, brought to the canonical form that live traffic has.

One set of names serves the options of `explain` and the objects of its --facts: home, country, class,
host, path, method, upgrade, listener, client, source, actor, ech, time. Whatever is left out is not known. What no
connection of the named listener's protocol can have is refused: nothing would ever be decided for it.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Any

from proxy.config.addresses import read_host
from proxy.config.conditions import SOURCES as SOURCE_WORDS
from proxy.config.note import VALUE, Wrong, did_you_mean, quoted
from proxy.config.scalars import one_of, read_flag, read_instant, read_token_method
from proxy.policy.canonical import canonical_path
from proxy.policy.countries import COUNTRIES, zone_of
from proxy.policy.facts import NO_SOURCE, SUBJECT, UNCLASSIFIED, UNKNOWN, Address, Facts
from proxy.policy.policy import Policy
from proxy.policy.protocols import NEVER, SOURCES

_ON_THE_WIRE = re.compile(r"[!\x22\x24-~]+")  # as in proxy.wire.target: a fragment or a space is never sent


class BadFacts(Exception):
    """Whoever gave the facts has to change them: each mistake as (name, text). The policy is not at fault."""

    def __init__(self, mistakes: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{name}: {text}" for name, text in mistakes))
        self.mistakes = mistakes


@dataclass(frozen=True, slots=True)
class FactsReader:
    """Reads facts for one policy. now: what `time` is when it is left out, seconds since the epoch."""

    policy: Policy
    now: float

    def read(self, given: Mapping[str, object]) -> Facts:
        """The facts under these names; None counts as left out. Raises BadFacts with all mistakes."""
        readers = self._readers()
        values: dict[str, Any] = {}
        mistakes: list[tuple[str, str]] = []
        for name, value in given.items():
            if name not in readers:
                hint = did_you_mean(name, readers) or f"facts are {', '.join(readers)}"
                mistakes.append((name, f"no such fact, {hint}"))
            elif value is not None:
                field, read = readers[name]
                try:
                    values[field] = read(value)
                except Wrong as wrong:
                    mistakes.append((name, wrong.said_of(value if isinstance(value, str) else json.dumps(value))))
        mistakes += self._impossible(values)
        if mistakes:
            raise BadFacts(mistakes)
        return Facts(**{"time": self.now, **values})

    def _impossible(self, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Of these facts, those that no connection of the named listener has."""
        listener = next((each for each in self.policy.listeners if each.name == values.get("listener")), None)
        if listener is None:
            return
        whose = f"connections of listener {quoted(listener.name)}, protocol {listener.protocol},"
        for fact in ("host", "path", "method", "upgrade", "ech"):
            # Where there is no method, nothing asks for an upgrade: false says no more than that.
            lacking = ("method" if fact == "upgrade" else fact) in NEVER[listener.protocol]
            if lacking and fact in values and (fact != "upgrade" or values[fact]):
                yield fact, f"{whose} have none, leave it out"
        source = values.get("source", NO_SOURCE)
        if source not in SOURCES[listener.protocol]:
            yield "source", f"{whose} show nothing to {quoted(source)}, leave it out"

    def read_line(self, line: str) -> Facts:
        """The facts of one JSON object. Raises BadFacts."""
        try:
            given = json.loads(line, object_pairs_hook=_without_duplicates)
        except Wrong as wrong:
            raise BadFacts([("facts", wrong.what)]) from None
        except (ValueError, RecursionError):
            raise BadFacts([("facts", "not JSON, write one object on each line")]) from None
        if not isinstance(given, dict):
            raise BadFacts([("facts", 'not an object, write one such as {"home": "eu"}')])
        return self.read(given)

    def _readers(self) -> dict[str, tuple[str, Callable[[object], object]]]:
        policy = self.policy
        return {
            "home": ("home", _text(self._home)),
            "country": ("country", _text(_country)),
            "class": ("data_class", _text(_known("class", [*(each.name for each in policy.classes), UNCLASSIFIED]))),
            "host": ("host", _text(_host)),
            "path": ("path", _text(_path)),
            "method": ("method", _text(_method)),
            "upgrade": ("upgrade", _flag),
            "listener": ("listener", _text(_known("listener", [each.name for each in policy.listeners]))),
            "client": ("client", _text(_client)),
            "source": ("source", _text(one_of(SOURCE_WORDS))),
            "actor": ("actor", _text(_known("actor", [SUBJECT, UNKNOWN, *sorted(policy.subject.actors)]))),
            "ech": ("ech", _flag),
            "time": ("time", _text(read_instant)),
        }

    def _home(self, text: str) -> str:
        zones = [zone.name for zone in self.policy.zones]
        if text in zones or text == UNKNOWN:
            return text
        code = text.upper()
        if code in COUNTRIES:
            return zone_of(self.policy, code) or code
        suggestion = did_you_mean(text, [*zones, UNKNOWN])
        hint = f"write a zone ({', '.join(zones)}), an ISO code, or unknown"
        raise Wrong(f"{VALUE} is no home", hint, suggestion=suggestion)


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    given = dict(pairs)
    if len(given) < len(pairs):
        names = [name for name, _ in pairs]
        raise Wrong(f"{quoted(next(name for name in names if names.count(name) > 1))} is given twice")
    return given


def _text(read: Callable[[str], object]) -> Callable[[object], object]:
    def typed(value: object) -> object:
        if not isinstance(value, str):
            raise Wrong(f"{VALUE} is not text", "write it in quotes")
        return read(value)

    return typed


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise Wrong(f"{VALUE} is neither true nor false", "write true or false")
    return read_flag(value)


def _known(noun: str, names: list[str]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text in names:
            return text
        hint = f"there are: {', '.join(names)}" if names else f"the policy defines no {noun}"
        raise Wrong(f"{VALUE} is no {noun} of the policy", hint, suggestion=did_you_mean(text, names))

    return read


def _country(text: str) -> str:
    if text.lower() == UNKNOWN:
        return UNKNOWN
    if text.upper() in COUNTRIES:
        return text.upper()
    hint = "the United Kingdom is GB" if text.upper() == "UK" else "write an ISO 3166-1 code of two letters, or unknown"
    raise Wrong(f"{VALUE} is no country code", hint)


def _host(text: str) -> str:
    match = re.fullmatch(r"(\[[^\]]*\]|[^:]*):[0-9]{1,5}", text)
    return read_host(match[1] if match else text)


def _path(text: str) -> str:
    path = text.partition("?")[0]
    canonical = canonical_path(path)
    if canonical is None or not _ON_THE_WIRE.fullmatch(path):
        hint = "a request with it is refused where a rule looks at paths" if path.startswith("/") else "begin it with /"
        raise Wrong(f"{VALUE} has no canonical form", hint)
    return canonical


def _method(text: str) -> str:
    if text in ("read", "write"):
        raise Wrong(f"{VALUE} is no method", "requests have one method, such as GET or PUT")
    return read_token_method(text)


def _client(text: str) -> Address:
    try:
        address = ip_address(text)
    except ValueError:
        raise Wrong(f"{VALUE} is no address", "write one such as 203.0.113.9 or 2001:db8::1") from None
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            raise Wrong(f"{VALUE} has a zone id", "leave it out")
        return address.ipv4_mapped or address
    return address
