"""What was right once and is past its time: findings, for a proxy that runs must still take new laws."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from proxy.config.document import Document, Loc
from proxy.config.geoip import database_age
from proxy.config.note import Note
from proxy.config.revocation import next_update, read_lists
from proxy.config.trust import certificates, expiry
from proxy.policy.policy import Policy
from proxy.policy.settings import GeoIP


def aged(document: Document, policy: Policy, now: float) -> Iterator[Note]:
    """Certificates and revocation lists that have expired and a country database past its max_age.

    now: seconds since the epoch.
    """
    for loc, certificate in _certificates(policy):
        end = expiry(certificate)
        if end.timestamp() <= now:
            yield document.note(loc, f"the certificate has expired ({end.isoformat()})", "replace it")
    yield from _believed(document, policy, now)
    yield from _databases(document, policy.geoip, now)


def _databases(document: Document, geoip: GeoIP, now: float) -> Iterator[Note]:
    for index, path in enumerate(geoip.databases):
        if path is None or geoip.max_age is None:
            continue
        built = database_age(path)
        if built + geoip.max_age < now:
            since = datetime.fromtimestamp(built, UTC).date()
            alone = geoip.agree == "all" or len(geoip.databases) < 3
            so = "every country is unknown" if alone else "it agrees with no other any more"
            one: Loc = ("geoip", "database")
            several: Loc = ("geoip", "databases", index)
            loc = one if document.at(one) is not None else several if document.at(several) is not None else several[:2]
            yield document.note(loc, f"the database is of {since}, older than `max_age`: {so}", "renew it")


def _believed(document: Document, policy: Policy, now: float) -> Iterator[Note]:
    """Whom clients' certificates are believed by: nobody comes in by what has expired."""
    for i, listener in enumerate(policy.listeners):
        for j, entry in enumerate(listener.certificates):
            loc: Loc = ("listeners", i, "tls", "certificates", j)
            for index, authority in enumerate(certificates(entry.client_ca) if entry.client_ca else ()):
                end = authority.not_valid_after_utc
                if end.timestamp() <= now:
                    what = f"its certificate {index + 1} has expired ({end.isoformat()})"
                    yield document.note((*loc, "client_ca"), what, "its clients are refused: replace it")
            for k, path in enumerate(entry.crl):
                end = next_update(read_lists(path))
                if end.timestamp() <= now:
                    several = document.at((*loc, "crl", k)) is not None
                    at = (*loc, "crl", k) if several else (*loc, "crl")
                    what = f"the revocation list has expired ({end.isoformat()})"
                    yield document.note(at, what, "its clients are refused: renew it")


def _certificates(policy: Policy) -> Iterator[tuple[Loc, Path]]:
    for i, listener in enumerate(policy.listeners):
        for j, pair in enumerate(listener.certificates):
            yield ("listeners", i, "tls", "certificates", j, "certificate"), pair.certificate
    for provider in policy.providers:
        if provider.tls.client_certificate is not None:
            yield ("providers", provider.name, "tls", "client_certificate"), provider.tls.client_certificate
