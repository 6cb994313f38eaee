"""ISO 3166-1 countries, and the unions of them that a policy may name.

A code is what it is: CN does not contain HK, MO or TW, which are codes of their own.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.policy.policy import Policy

# ISO 3166-1 alpha-2, officially assigned (249). XK is user-assigned and therefore not here.
# fmt: off
COUNTRIES = frozenset({
    "AD", "AE", "AF", "AG", "AI", "AL", "AM", "AO", "AQ", "AR", "AS", "AT", "AU", "AW", "AX", "AZ",
    "BA", "BB", "BD", "BE", "BF", "BG", "BH", "BI", "BJ", "BL", "BM", "BN", "BO", "BQ", "BR", "BS",
    "BT", "BV", "BW", "BY", "BZ", "CA", "CC", "CD", "CF", "CG", "CH", "CI", "CK", "CL", "CM", "CN",
    "CO", "CR", "CU", "CV", "CW", "CX", "CY", "CZ", "DE", "DJ", "DK", "DM", "DO", "DZ", "EC", "EE",
    "EG", "EH", "ER", "ES", "ET", "FI", "FJ", "FK", "FM", "FO", "FR", "GA", "GB", "GD", "GE", "GF",
    "GG", "GH", "GI", "GL", "GM", "GN", "GP", "GQ", "GR", "GS", "GT", "GU", "GW", "GY", "HK", "HM",
    "HN", "HR", "HT", "HU", "ID", "IE", "IL", "IM", "IN", "IO", "IQ", "IR", "IS", "IT", "JE", "JM",
    "JO", "JP", "KE", "KG", "KH", "KI", "KM", "KN", "KP", "KR", "KW", "KY", "KZ", "LA", "LB", "LC",
    "LI", "LK", "LR", "LS", "LT", "LU", "LV", "LY", "MA", "MC", "MD", "ME", "MF", "MG", "MH", "MK",
    "ML", "MM", "MN", "MO", "MP", "MQ", "MR", "MS", "MT", "MU", "MV", "MW", "MX", "MY", "MZ", "NA",
    "NC", "NE", "NF", "NG", "NI", "NL", "NO", "NP", "NR", "NU", "NZ", "OM", "PA", "PE", "PF", "PG",
    "PH", "PK", "PL", "PM", "PN", "PR", "PS", "PT", "PW", "PY", "QA", "RE", "RO", "RS", "RU", "RW",
    "SA", "SB", "SC", "SD", "SE", "SG", "SH", "SI", "SJ", "SK", "SL", "SM", "SN", "SO", "SR", "SS",
    "ST", "SV", "SX", "SY", "SZ", "TC", "TD", "TF", "TG", "TH", "TJ", "TK", "TL", "TM", "TN", "TO",
    "TR", "TT", "TV", "TW", "TZ", "UA", "UG", "UM", "US", "UY", "UZ", "VA", "VC", "VE", "VG", "VI",
    "VN", "VU", "WF", "WS", "YE", "YT", "ZA", "ZM", "ZW",
})

# Art. 355 TFEU: the outermost regions that have codes of their own, and Aland. IC and EA have none.
_OVERSEAS = frozenset({"AX", "GF", "GP", "MF", "MQ", "RE", "YT"})

EU = _OVERSEAS | {
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU",
    "IE", "IT", "LT", "LU", "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK",
}
# fmt: on
EEA = EU | {"IS", "LI", "NO"}

UNIONS = {"EU": EU, "EEA": EEA}
"""Names that stand for several countries."""


class UnknownCountryError(ValueError):
    """The policy file names a country or union that does not exist; `name` is what it wrote."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name!r} is no ISO 3166-1 alpha-2 code, EU or EEA")
        self.name = name


def expand(names: Iterable[str], except_: Iterable[str] = ()) -> frozenset[str]:
    """The ISO codes that these names (codes, EU, EEA; upper case) stand for, without those of `except_`.

    Raises UnknownCountryError. `*` and `unknown` are the caller's: they are no countries.
    """
    return _union(names) - _union(except_)


def _union(names: Iterable[str]) -> frozenset[str]:
    found: set[str] = set()
    for name in names:
        if name in UNIONS:
            found |= UNIONS[name]
        elif name in COUNTRIES:
            found.add(name)
        else:
            raise UnknownCountryError(name)
    return frozenset(found)


def zone_of(policy: "Policy", country: str) -> str | None:
    """The name of the zone that holds the country (upper-case code), None when no zone does."""
    return next((zone.name for zone in policy.zones if country in zone.countries), None)
