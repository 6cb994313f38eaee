"""What was right once and is past its time: findings, for a proxy that runs must still take new laws."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from proxy.config.document import Document, Loc
from proxy.config.note import Note
from proxy.config.trust import database_age, expiry
from proxy.policy.policy import Policy


def aged(document: Document, policy: Policy, now: float) -> Iterator[Note]:
    """Certificates that have expired and a country database past its max_age. now: seconds since the epoch."""
    for loc, certificate in _certificates(policy):
        end = expiry(certificate)
        if end.timestamp() <= now:
            yield document.note(loc, f"the certificate has expired ({end.isoformat()})", "replace it")
    geoip = policy.geoip
    if geoip.database is not None and geoip.max_age is not None:
        built = database_age(geoip.database)
        if built + geoip.max_age < now:
            since = datetime.fromtimestamp(built, UTC).date()
            what = f"the database is of {since}, older than `max_age`: every country is unknown"
            yield document.note(("geoip", "database"), what, "renew it")


def _certificates(policy: Policy) -> Iterator[tuple[Loc, Path]]:
    for i, listener in enumerate(policy.listeners):
        for j, pair in enumerate(listener.certificates):
            yield ("listeners", i, "tls", "certificates", j, "certificate"), pair.certificate
    for provider in policy.providers:
        if provider.tls.client_certificate is not None:
            yield ("providers", provider.name, "tls", "client_certificate"), provider.tls.client_certificate
