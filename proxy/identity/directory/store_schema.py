"""The tables of the directory's file, and its marks. What they mean is said in `store`."""

APPLICATION_ID = 0x446F6D69
"""`Domi`: what marks the file as ours."""

VERSION = 1
"""Of the schema; a file with a higher one is not opened. It is the lowest byte of `user_version`, the rest of which is
the store's own number."""

SCHEMA = f"""
CREATE TABLE homes (id INTEGER PRIMARY KEY CHECK (id > 0), name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE batches (
    id INTEGER PRIMARY KEY,
    recorded INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('import', 'set', 'undo')),
    reason TEXT,
    digest TEXT,
    undoes INTEGER REFERENCES batches (id),
    changes INTEGER NOT NULL
) STRICT;
CREATE TABLE changes (
    subject TEXT NOT NULL,
    effective INTEGER NOT NULL,
    batch INTEGER NOT NULL REFERENCES batches (id),
    home INTEGER NOT NULL,
    reason TEXT,
    PRIMARY KEY (subject, effective, batch)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER changes_stay BEFORE UPDATE ON changes BEGIN SELECT RAISE(ABORT, 'history is only added to'); END;
CREATE TRIGGER changes_are_kept BEFORE DELETE ON changes BEGIN SELECT RAISE(ABORT, 'history is only added to'); END;
CREATE TRIGGER batches_stay BEFORE UPDATE ON batches BEGIN SELECT RAISE(ABORT, 'history is only added to'); END;
CREATE TRIGGER batches_are_kept BEFORE DELETE ON batches BEGIN SELECT RAISE(ABORT, 'history is only added to'); END;
CREATE TRIGGER homes_stay BEFORE UPDATE ON homes BEGIN SELECT RAISE(ABORT, 'history is only added to'); END;
CREATE TRIGGER homes_are_kept BEFORE DELETE ON homes BEGIN SELECT RAISE(ABORT, 'history is only added to'); END;
PRAGMA application_id = {APPLICATION_ID};
"""
