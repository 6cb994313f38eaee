"""Fuzzes the ClientHello reader, as python -m fuzz.hello with libFuzzer's options."""

import sys

import atheris

from fuzz.cuts import cuts_of

with atheris.instrument_imports(include=["proxy.wire"]):
    from tests.wire.hello_promises import in_records, keep, with_extensions


def one(data: bytes) -> None:
    keep(data, cuts_of(data))
    # The same bytes where all lengths around them are right: chance alone seldom gets that deep.
    deep = in_records(with_extensions(data[:8192]))
    keep(deep, cuts_of(deep))


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
