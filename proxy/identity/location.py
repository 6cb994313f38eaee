"""The `location` source: home is where the client's address is.

An address speaks for whoever holds the device, so it is evidence only while nobody was verified and nothing says
that an account is concerned, or the policy says `accounts: true` and who acts is nobody but the subject. Of staff it
says where the staff are, and never where the subject's data belongs.
"""

from proxy.identity.answers import Home, Kind, Silent
from proxy.identity.country import Countries
from proxy.identity.evidence import Evidence
from proxy.policy.facts import SUBJECT, UNKNOWN

_NOWHERE = Silent(why="country-unknown")
_STALE = Silent(why="country-stale")
_ACCOUNT = Silent(why="account")


class LocationSource:
    """Answers the country of the client's address, for as long as the data that gave it lasts."""

    __slots__ = ("_accounts", "_answers", "_countries", "_until")

    kind: Kind = "location"

    def __init__(self, accounts: bool, countries: Countries) -> None:
        self._accounts = accounts
        self._countries = countries
        self._until: float | None = None
        self._answers: dict[str, Home] = {}

    def answer(self, evidence: Evidence, known: Silent, now: float) -> Home | Silent:
        country = evidence.country
        if country == UNKNOWN:
            return _STALE if self._countries.stale(now) else _NOWHERE
        if known.subject is not None:
            if not (self._accounts and known.actor == SUBJECT):
                return _ACCOUNT
        elif known.account and not self._accounts:
            return _ACCOUNT
        until = self._countries.holds_until(now)
        if until != self._until:  # a database was replaced, or went stale
            self._until = until
            self._answers.clear()
        answer = self._answers.get(country)
        if answer is None:  # at most one for each ISO 3166-1 code
            answer = self._answers[country] = Home(country, None, UNKNOWN, until)
        return answer

    def withheld(self, fields: tuple[tuple[bytes, bytes], ...]) -> frozenset[bytes]:
        return frozenset()
