-- Times are microseconds since 1970. Secrets are sealed; nothing else here is secret.
PRAGMA application_id = 1668441444;

-- What the ledger knows of itself: `key_check`.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;

-- A credential and the facts about it. Its value has a table of its own, so that no writer of facts can put an old
-- value back.
CREATE TABLE credential (
    id                TEXT PRIMARY KEY,
    shard             INTEGER NOT NULL,
    epoch             INTEGER NOT NULL DEFAULT 0,
    lifecycle         TEXT NOT NULL,
    store_version     TEXT,
    store_fingerprint TEXT,
    changed_at        INTEGER NOT NULL,
    removed_at        INTEGER
) STRICT, WITHOUT ROWID;

-- The value: refresh token and access token in one sealed document. The generation is the row's version.
CREATE TABLE material (
    credential           TEXT PRIMARY KEY,
    generation           INTEGER NOT NULL,
    sealed               BLOB NOT NULL,
    fingerprint          TEXT,
    previous             BLOB,
    previous_fingerprint TEXT,
    previous_until       INTEGER
) STRICT;

-- One row for each request that may spend a grant.
CREATE TABLE flight (
    attempt     TEXT PRIMARY KEY,
    credential  TEXT NOT NULL,
    shard       INTEGER NOT NULL,
    epoch       INTEGER NOT NULL DEFAULT 0,
    target      INTEGER NOT NULL,
    presents    TEXT NOT NULL,
    prepared_at INTEGER NOT NULL,
    boot_id     TEXT NOT NULL,
    deadline    INTEGER,
    received_at INTEGER,
    capture     BLOB,
    outcome     TEXT,
    closed_at   INTEGER
) STRICT;
CREATE UNIQUE INDEX flight_open ON flight (credential) WHERE closed_at IS NULL;
CREATE INDEX flight_closed ON flight (closed_at) WHERE closed_at IS NOT NULL;

-- Replies to flights that this database does not know (a restored backup, a removed credential).
CREATE TABLE orphan (
    attempt     TEXT PRIMARY KEY,
    received_at INTEGER NOT NULL,
    capture     BLOB NOT NULL
) STRICT;

-- Values to be carried to their home stores: the latest of each credential.
CREATE TABLE write_back (
    credential  TEXT PRIMARY KEY,
    generation  INTEGER NOT NULL,
    attempt     TEXT NOT NULL,
    since       INTEGER NOT NULL,
    next_try_at INTEGER NOT NULL,
    tries       INTEGER NOT NULL,
    error       TEXT
) STRICT, WITHOUT ROWID;

-- What began and ended, what on-call was told of it, and when nothing more is to be said.
CREATE TABLE incident (
    seq              INTEGER PRIMARY KEY AUTOINCREMENT,
    dedup_key        TEXT NOT NULL,
    kind             TEXT NOT NULL,
    credential       TEXT NOT NULL,
    grouping         TEXT NOT NULL,
    severity         TEXT NOT NULL,
    summary          TEXT NOT NULL,
    body             TEXT NOT NULL,
    opened_at        INTEGER NOT NULL,
    closed_at        INTEGER,
    why              TEXT,
    told             TEXT,
    settled_at       INTEGER
) STRICT;
CREATE UNIQUE INDEX incident_open ON incident (dedup_key) WHERE closed_at IS NULL;
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
CREATE INDEX notice_waiting ON notice (channel, dedup_key, seq) WHERE done_at IS NULL;
CREATE INDEX notice_done ON notice (done_at) WHERE done_at IS NOT NULL;

-- The log: a chain of hashes for each shard, and chain -1 for the house.
CREATE TABLE audit (
    chain      INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    credential TEXT NOT NULL,
    event      TEXT NOT NULL,
    entry      TEXT NOT NULL,
    hash       BLOB NOT NULL,
    PRIMARY KEY (chain, seq)
) STRICT;
CREATE INDEX audit_at ON audit (at);
CREATE INDEX audit_credential ON audit (credential, at);
CREATE TABLE audit_head (
    chain INTEGER PRIMARY KEY,
    seq   INTEGER NOT NULL,
    hash  BLOB NOT NULL
) STRICT;

-- The embedded home store. A removed document keeps its version, so that versions never repeat.
CREATE TABLE document (
    name       TEXT PRIMARY KEY,
    version    INTEGER NOT NULL,
    sealed     BLOB,
    changed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The last batch of each writer: how a writer learns whether a commit that failed has happened.
CREATE TABLE writer (
    instance TEXT PRIMARY KEY,
    batch    INTEGER NOT NULL,
    at       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Who owns a shard, where several replicas share the database; shard -1 is the house. Times are the database's.
CREATE TABLE shard (
    shard      INTEGER PRIMARY KEY,
    holder     TEXT,
    epoch      INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
