"""Where client addresses are: country databases that have to agree, and what the operator knows better."""

import struct
from pathlib import Path
from typing import Annotated, Literal

import maxminddb
from pydantic import Field

from proxy.config.conditions import NetworkText, read_country
from proxy.config.figures import Age
from proxy.config.note import VALUE, Wrong
from proxy.config.part import OneOrSeveral, Part, Several, Typed, TypedHere, pattern, words
from proxy.config.scalars import one_of
from proxy.config.surroundings import Surroundings
from proxy.config.trust import path_schema, read_path
from proxy.policy.countries import UNIONS
from proxy.policy.facts import UNKNOWN
from proxy.policy.settings import CountryOverride, GeoIP

REGISTRY = "registry"
"""The word for the embedded data; a file of that name is written ./registry."""

_LASTS = 40 * 86400.0


def _read_data(text: str, surroundings: Surroundings) -> Path | None:
    if text == REGISTRY:
        return None
    path = read_path(text, surroundings)
    database_age(path)
    return path


def database_age(path: Path) -> int:
    """When a country database was built, in seconds since the epoch. Raises Wrong."""
    try:
        with maxminddb.open_database(path, maxminddb.MODE_MMAP) as database:
            metadata = database.metadata()
            if metadata.binary_format_major_version != 2:
                raise ValueError
            return metadata.build_epoch
    except (maxminddb.InvalidDatabaseError, ValueError, LookupError, TypeError, AttributeError, EOFError, struct.error):
        raise Wrong(f"{VALUE} is no MMDB database", "name one that gives countries by address") from None
    except OSError as error:
        raise Wrong(f"{VALUE} cannot be read: {error.strerror}", "relative paths start at the policy file") from None


def _read_override(text: str) -> str:
    if text in UNIONS:
        raise Wrong(f"{VALUE} is several countries", "a network is in one, or unknown")
    return text if text == UNKNOWN else read_country(text)


Data = Annotated[Path | None, TypedHere(_read_data, path_schema(f"MMDB file of countries by address, or {REGISTRY}"))]
Agreement = Annotated[Literal["all", "majority"], Typed(one_of(("all", "majority")), words("all", "majority"))]
OverrideCountry = Annotated[str, Typed(_read_override, pattern("[A-Z]{2}|unknown"))]


class OverridePart(Part):
    """The country of a network, whatever the databases say. The longest network that holds an address counts."""

    network: OneOrSeveral[NetworkText] = Field(description="The network, or several; private ones too")
    country: OverrideCountry = Field(description="Its ISO code, or unknown")

    def value(self) -> CountryOverride:
        return CountryOverride(tuple(self.network), self.country)


class GeoIPPart(Part):
    """Where client addresses are. Left out: the embedded registry data."""

    database: Data = Field(default=None, description="The one database: an MMDB file, or registry, the embedded data")
    databases: OneOrSeveral[Data] | None = Field(default=None, description="Databases that have to agree")
    agree: Agreement = Field(
        default="all", description="How many have to say the same: all, or majority (more than half)"
    )
    max_age: Age = Field(
        default=_LASTS,
        json_schema_extra={"default": "40d"},
        description="How old a database may be before it says nothing any more, or none",
    )
    overrides: Several[OverridePart] | None = Field(default=None, description="What is known better of some networks")

    def value(self) -> GeoIP:
        databases = (self.database,) if self.databases is None else tuple(self.databases)
        return GeoIP(
            databases=databases,
            max_age=self.max_age if any(databases) else None,
            agree=self.agree,
            overrides=tuple(each.value() for each in self.overrides or ()),
        )
