-- What on-call was told of an incident, and when nothing more is to be said of it.
ALTER TABLE incident ADD COLUMN told TEXT;
ALTER TABLE incident ADD COLUMN settled_at INTEGER;
CREATE INDEX incident_unsettled ON incident (seq) WHERE settled_at IS NULL;

-- Messages to on-call: one row for each channel that ever had one.
CREATE TABLE notice (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL,
    channel    TEXT NOT NULL,
    dedup_key  TEXT NOT NULL,
    resolves   INTEGER NOT NULL,
    message    TEXT NOT NULL,
    decided_at INTEGER NOT NULL,
    due_at     INTEGER NOT NULL,
    attempts   INTEGER NOT NULL,
    done_at    INTEGER,
    UNIQUE (id, channel)
) STRICT;
CREATE INDEX notice_waiting ON notice (channel, seq) WHERE done_at IS NULL;
