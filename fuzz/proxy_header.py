"""Fuzzes the PROXY header reader, as python -m fuzz.proxy_header with libFuzzer's options."""

import sys

import atheris

from fuzz.cuts import cuts_of

with atheris.instrument_imports(include=["proxy.wire"]):
    from tests.wire.header_promises import keep, with_fields


def one(data: bytes) -> None:
    keep(data, cuts_of(data))
    # The same bytes where all lengths around them are right: chance alone seldom gets that deep.
    deep = with_fields(data)
    keep(deep, cuts_of(deep))


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
