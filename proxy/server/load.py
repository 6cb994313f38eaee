"""From a policy to everything that serves it: sources, country data, providers' state, clients' certificates.

All or nothing: whatever cannot be opened is told, all of it at once, and nothing has changed.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from proxy.http1.line import Line
from proxy.identity.client_address import CdnHeader
from proxy.identity.country import Countries, open_countries
from proxy.identity.identify import Sources, open_sources
from proxy.identity.networks import Networks
from proxy.identity.refused import SourceRefused
from proxy.policy.policy import Policy
from proxy.providers.contexts import UnusableFiles
from proxy.providers.fleet import Fleet
from proxy.providers.rates import RateLimits, RatesRefused
from proxy.providers.resolve import Resolver
from proxy.server.certificates import CertificateError, Certificates, open_certificates
from proxy.tcp.line import Line as PassingLine


class LoadRefused(Exception):
    """The operator's to mend. `mistakes`: a line for each, with its place where it has one."""

    def __init__(self, mistakes: tuple[str, ...]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


@dataclass(frozen=True, slots=True)
class Opened:
    """A line for each plane, and what listeners show. certificates: by name of listener, TLS ones only.

    expiries: when certificates end, ours to clients and to providers, by name (seconds since the epoch).
    """

    line: Line
    passing: PassingLine
    certificates: Mapping[str, Certificates]
    expiries: Mapping[str, float]


def open_line(policy: Policy, resolver: Resolver, old: Line | None = None) -> Opened:
    """Open what the policy names. Reads files for up to some tenths of a second; any thread may call it.

    old: the line in force, whose unchanged providers and sources carry over. Raises LoadRefused with every mistake.
    """
    mistakes: list[str] = []
    if not policy.listeners:
        mistakes.append("the policy has no listeners, so there is nothing to serve")
    countries: Countries | None = None
    sources: Sources | None = None
    fleet = None
    rates: RateLimits | None = None
    certificates: dict[str, Certificates] = {}
    expiries: dict[str, float] = {}
    try:
        countries = open_countries(policy.geoip, time.time(), old=None if old is None else old.countries)
        in_force = None if old is None else old.sources
        sources = open_sources(policy.subject, policy.zones, countries, in_force)
    except SourceRefused as refused:
        mistakes.append(str(refused))
    try:
        fleet = Fleet.open(policy, resolver) if old is None else old.fleet.renewed(policy)[0]
    except UnusableFiles as unusable:
        mistakes += map(str, unusable.faults)
    try:
        rates = RateLimits.open(policy.rates, None if old is None else old.rates)
    except RatesRefused as refused:
        mistakes.append(str(refused))
    try:
        certificates, expiries = open_certificates(policy.listeners)
    except CertificateError as error:
        mistakes += error.mistakes
    if countries is None or sources is None or fleet is None or rates is None or mistakes:
        if sources is not None:
            sources.abandon()
        raise LoadRefused(tuple(mistakes))
    for state in fleet.states.values():
        shown = state.definition.tls.client_certificate
        if shown is not None and state.client_expiry is not None:
            expiries.setdefault(shown.name, state.client_expiry)
    policy.decider.epoch(time.time())  # compiled here and not by the first request
    demands = {name: opened.demands_by_name for name, opened in certificates.items()}
    stated = policy.subject.client_header
    cdn = None if stated is None else CdnHeader(stated)
    trusted = Networks(policy.subject.trusted_proxies)
    line = Line(policy, sources, countries, trusted, fleet, demands, cdn, rates)
    passing = PassingLine(policy, sources, countries, trusted, fleet, cdn, rates)
    return Opened(line, passing, certificates, expiries)
