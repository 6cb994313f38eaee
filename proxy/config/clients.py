"""What a listener shows its clients and what it demands of them: a certificate, its key, and whom it believes."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from proxy.config.note import Wrong
from proxy.config.part import OneOrSeveral, Part, Typed, words
from proxy.config.revocation import RevocationFile, read_lists, unlisted, unrooted
from proxy.config.scalars import one_of
from proxy.config.trust import AuthorityFile, CertificateFile, KeyFile, certificates
from proxy.policy.settings import Certificate

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
