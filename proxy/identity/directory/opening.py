"""From what a policy says of a directory to the source that asks it. Files are read, nobody is asked yet."""

from hashlib import sha256

from proxy.identity.counts import SourceCount
from proxy.identity.directory.contexts import store_context
from proxy.identity.directory.reader import Reader
from proxy.identity.directory.source import DirectorySource
from proxy.identity.refused import SourceRefused
from proxy.policy.subject import Directory, HttpStore, PostgresStore, SqliteStore, ValkeyStore


def directory_files(definition: Directory) -> object:
    """What tells the files of a definition from others under the same names: a source of the same ones carries over.

    Raises SourceRefused, the operator's fault.
    """
    store = definition.store
    file = store.path if isinstance(store, SqliteStore) else store.ca
    if file is None:
        return None
    try:
        if isinstance(store, SqliteStore):
            state = file.stat()
            return state.st_dev, state.st_ino  # what is written into it later is still it
        return sha256(file.read_bytes()).digest()
    except OSError as error:
        if isinstance(store, SqliteStore):
            return None  # opening it says what to do
        raise SourceRefused(f"{file}: cannot be read: {error.strerror}") from None


def open_directory(definition: Directory, counts: SourceCount) -> DirectorySource:
    """The source, ready to be asked. Raises SourceRefused, the operator's fault, for a file that cannot be used."""
    name = {SqliteStore: "sqlite", ValkeyStore: "valkey", PostgresStore: "postgres", HttpStore: "http"}
    return DirectorySource(
        definition, open_reader(definition), counts, name=f"directory {name[type(definition.store)]}"
    )


def open_reader(definition: Directory) -> Reader:
    """The reader of the definition's store. Raises SourceRefused."""
    store = definition.store
    # The libraries of the stores take tenths of a second to import: only the ones in use are.
    match store:
        case SqliteStore():
            from proxy.identity.directory.sqlite import open_sqlite

            return open_sqlite(store)
        case ValkeyStore():
            from proxy.identity.directory.valkey import ValkeyReader

            return ValkeyReader(store, store_context(store.tls, store.ca))
        case PostgresStore():
            from proxy.identity.directory.postgres import PostgresReader

            return PostgresReader(store, store_context(store.tls, store.ca), definition.timeout)
        case HttpStore():
            from proxy.identity.directory.http import HttpReader

            return HttpReader(store, store_context(store.url.startswith("https:"), store.ca), definition.lookups)
