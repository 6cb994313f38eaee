"""Clients' certificates: what a listener demands of clients by name, and the source that reads what they show."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from proxy.config.conditions import Flag
from proxy.config.note import VALUE, Wrong, did_you_mean
from proxy.config.part import OneOrSeveral, Part, Typed, any_key, as_text, words
from proxy.config.revocation import RevocationFile, read_lists, unlisted, unrooted
from proxy.config.scalars import one_of
from proxy.config.trust import AuthorityFile, CertificateFile, KeyFile, certificates
from proxy.policy.settings import Certificate
from proxy.policy.subject import CertificatePlace, ClientCertificate

_MODES = ("none", "optional", "required")
Mode = Annotated[Literal["none", "optional", "required"], Typed(one_of(_MODES), words(*_MODES))]


class CertificatePart(Part):
    """A certificate for clients, and its key. Chosen by name: exact, then wildcard."""

    certificate: CertificateFile = Field(description="PEM file of the chain, the server's own first")
    key: KeyFile = Field(description="PEM file of its key, not encrypted")
    client_ca: AuthorityFile | None = Field(default=None, description="PEM file of the CAs of clients' certificates")
    client_certificate: Mode = Field(default="none", description="Whether clients show certificates")
    crl: OneOrSeveral[RevocationFile] | None = Field(
        default=None, description="Files of revocation lists, one for each authority of a client's chain"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "CertificatePart":
        if self.client_certificate != "none" and self.client_ca is None:
            raise Wrong("clients' certificates without `client_ca`", "say who vouches for clients")
        if self.client_ca is not None and self.client_certificate == "none":
            raise Wrong("`client_ca` alone asks nobody", "say `client_certificate: optional` or `required`")
        if self.crl is not None:
            if self.client_ca is None:
                raise Wrong("`crl` without `client_ca`", "revocation lists are of clients' certificates")
            _judge_lists(self.client_ca, self.crl)
        return self

    def value(self) -> Certificate:
        return Certificate(self.certificate, self.key, self.client_ca, self.client_certificate, self.crl or ())


def _judge_lists(client_ca: Path, files: tuple[Path, ...]) -> None:
    """Raises Wrong for lists with which some authority's clients could never come in."""
    authorities = certificates(client_ca)
    for index in unrooted(authorities):
        hint = "whoever it vouches for would be refused: add its issuer, up to the root"
        raise Wrong(f"certificate {index + 1} of `client_ca` has no issuer there to judge its revocation", hint)
    lists = [each for file in files for each in read_lists(file)]
    for index in unlisted(authorities, lists):
        hint = "whoever it vouches for would be refused: add its list, or take the authority out"
        raise Wrong(f"`crl` has no list of certificate {index + 1} of `client_ca`", hint)


FIELDS = (
    *("C", "ST", "L", "street", "O", "OU", "CN", "GN", "SN", "title", "serialNumber", "UID", "emailAddress"),
    *("dnQualifier", "pseudonym", "organizationIdentifier"),
)
"""Fields of a subject, as OpenSSL prints them."""

_BRACES = {"type": "string", "pattern": r"^[^{}]*\{\}[^{}]*$"}


def _read_braces(text: str) -> str:
    if text.count("{}") != 1 or "{" in text.replace("{}", "") or "}" in text.replace("{}", ""):
        raise Wrong(f"{VALUE} does not say where the value stands", "write {} once, as in spiffe://example/{}")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise Wrong(f"{VALUE} fits no name in a certificate", "write it in visible ASCII; hosts as A-labels")
    return text


Braces = Annotated[str, Typed(_read_braces, _BRACES)]


class NamePart(Part):
    """An alternative name of a certificate; {} stands for the value."""

    model_config = any_key("uri", "dns", "email")

    uri: Braces | None = Field(default=None, description="A URI, such as urn:residency:{}; case counts")
    dns: Braces | None = Field(default=None, description="A DNS name, such as {}.clients.example; one label")
    email: Braces | None = Field(default=None, description="An address, such as {}@example.com; case counts")

    @model_validator(mode="after")
    def _one(self) -> "NamePart":
        if not isinstance(self, _FieldPart) and len(self.model_fields_set) != 1:
            raise Wrong("the place is not one", "name one of uri, dns and email, or a field of the subject")
        return self

    def value(self) -> CertificatePlace:
        if self.uri is not None:
            return CertificatePlace("uri", self.uri)
        if self.dns is not None:
            return CertificatePlace("dns", self.dns.lower())
        return CertificatePlace("email", self.email or "")


class _FieldPart(NamePart):
    """Written as a field's name."""

    field: str

    def value(self) -> CertificatePlace:
        return CertificatePlace("field", self.field)


def _place(value: object) -> object:
    if isinstance(value, dict):
        return value
    text = as_text(value)
    if text not in FIELDS:
        hint = (
            f"fields are {', '.join(FIELDS)}; alternative names are written {{uri: ...}}, {{dns: ...}}, {{email: ...}}"
        )
        raise Wrong(f"{VALUE} is no field of a subject", hint, suggestion=did_you_mean(text, FIELDS))
    return _FieldPart.model_construct(field=text)


FieldText = Annotated[str, Typed(str, {**words(*FIELDS), "description": "A field of the subject"})]
PlacePart = Annotated[NamePart, BeforeValidator(_place, json_schema_input_type=FieldText | NamePart)]


class ClientCertificatePart(Part):
    """Certificates that clients show in their TLS handshake, or that a trusted proxy forwards."""

    home_from: PlacePart | None = Field(
        default=None, description="Where the home stands: a zone's name or an ISO code; left out: it names no home"
    )
    subject_from: PlacePart = Field(
        default=_FieldPart.model_construct(field="CN"),
        json_schema_extra={"default": "CN"},
        description="Where the subject stands",
    )
    actor_from: PlacePart | None = Field(default=None, description="Where it stands who acts, if not the subject")
    from_header: Flag = Field(
        default=False, description="Read the Client-Cert (RFC 9440) of trusted proxies, and not their own certificate"
    )
    ca: AuthorityFile | None = Field(default=None, description="CAs that a forwarded certificate is verified by again")
    forward: Flag = Field(default=False, description="Whether the provider is told the certificate, as Client-Cert")

    @model_validator(mode="after")
    def _consistent(self) -> "ClientCertificatePart":
        if self.ca is not None and not self.from_header:
            raise Wrong("`ca` without `from_header`", "the listener's `client_ca` verifies what clients show")
        return self

    def value(self) -> ClientCertificate:
        return ClientCertificate(
            home_from=None if self.home_from is None else self.home_from.value(),
            subject_from=self.subject_from.value(),
            actor_from=None if self.actor_from is None else self.actor_from.value(),
            from_header=self.from_header,
            ca=self.ca,
            forward=self.forward,
        )
