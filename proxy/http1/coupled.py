"""A client and a provider, each of whom is read only as fast as the other takes it."""

from typing import TYPE_CHECKING

from proxy.http1.provider import ProviderConnection
from proxy.http1.reading import PROVIDER

if TYPE_CHECKING:
    from proxy.http1.client import ClientConnection


class Coupled:
    """What an exchange and a tunnel have in common; the provider may be None, there is none yet or no more."""

    __slots__ = ("_client", "_provider")

    _client: "ClientConnection"
    _provider: ProviderConnection | None

    def provider_paused(self) -> None:
        """The provider takes no more for now."""
        self._client.reading.hold(PROVIDER)

    def provider_resumed(self) -> None:
        """The provider takes bytes again."""
        self._client.reading.unhold(PROVIDER)
        self._moving()

    def client_paused(self) -> None:
        """The client takes no more for now."""
        if self._provider is not None:
            self._provider.pause()

    def client_resumed(self) -> None:
        """The client takes bytes again."""
        if self._provider is not None:
            self._provider.resume()
            self._moving()

    def _moving(self) -> None:
        """One of them takes bytes again."""
