"""Which of several certificates a server name means: the one rule, for handshakes and for whoever asks afterwards."""

from collections.abc import Iterable


class ServerNames:
    """The names of each certificate, by its place in the order of the policy.

    Names are in canonical form; `*.` in front stands for exactly one label.
    """

    __slots__ = ("_by_name", "_by_suffix")

    def __init__(self, entries: Iterable[frozenset[str]]) -> None:
        self._by_name: dict[str, int] = {}
        self._by_suffix: dict[str, int] = {}
        for index, names in enumerate(entries):
            for name in names:
                if name.startswith("*."):
                    self._by_suffix.setdefault(name[1:], index)
                else:
                    self._by_name.setdefault(name, index)

    def choose(self, name: str | None) -> int:
        """The index for a server name: an exact name, else a wildcard of one label, else the first.

        A name that nobody holds gets the first too; its requests are answered by their Host, which then disagrees.
        """
        if name is None:
            return 0
        exact = self._by_name.get(name)
        if exact is not None:
            return exact
        dot = name.find(".")
        return self._by_suffix.get(name[dot:], 0) if dot > 0 else 0
