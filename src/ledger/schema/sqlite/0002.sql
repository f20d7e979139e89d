-- Replies that no rule matched, without their secrets.
CREATE TABLE unclassified (
    id       TEXT PRIMARY KEY,
    provider TEXT NOT NULL,
    specimen TEXT NOT NULL,
    first_at INTEGER NOT NULL,
    last_at  INTEGER NOT NULL,
    seen     INTEGER NOT NULL
) STRICT;
