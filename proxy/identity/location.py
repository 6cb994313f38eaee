"""The `location` source: home is where the client's address is.

An address speaks for whoever holds the device, so it is evidence only while nobody was verified and nothing says
that an account is concerned, or the policy says `accounts: true` and who acts is nobody but the subject. Of staff it
says where the staff are, and never where the subject's data belongs.
"""

from proxy.identity.answers import Home, Kind, Silent
from proxy.identity.evidence import Evidence
from proxy.policy.facts import SUBJECT, UNKNOWN

_SILENT = Silent()


class LocationSource:
    """Answers the country of the client's address. stale_at: when the country data outlives its max_age."""

    __slots__ = ("_accounts", "_answers", "_stale_at")

    kind: Kind = "location"

    def __init__(self, accounts: bool, stale_at: float | None) -> None:
        self._accounts = accounts
        self._stale_at = stale_at
        self._answers: dict[str, Home] = {}

    def answer(self, evidence: Evidence, known: Silent, now: float) -> Home | Silent:
        country = evidence.country
        if country == UNKNOWN or (self._stale_at is not None and now >= self._stale_at):
            return _SILENT
        if known.subject is not None:
            if not (self._accounts and known.actor == SUBJECT):
                return _SILENT
        elif known.account and not self._accounts:
            return _SILENT
        answer = self._answers.get(country)
        if answer is None:  # at most one for each ISO 3166-1 code
            answer = self._answers[country] = Home(country, None, UNKNOWN, self._stale_at)
        return answer

    def withheld(self, fields: tuple[tuple[bytes, bytes], ...]) -> frozenset[bytes]:
        return frozenset()
