-- Times are microseconds since 1970. Secrets are sealed; nothing else here is secret.

-- What the ledger knows of itself: `key_check`.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value BYTEA NOT NULL
);

-- A credential and the facts about it. Its value has a table of its own, so that no writer of facts can put an old
-- value back.
CREATE TABLE credential (
    id                TEXT PRIMARY KEY,
    shard             BIGINT NOT NULL,
    epoch             BIGINT NOT NULL DEFAULT 0,
    lifecycle         TEXT NOT NULL,
    store_version     TEXT,
    store_fingerprint TEXT,
    changed_at        BIGINT NOT NULL,
    removed_at        BIGINT
);

-- The value: refresh token and access token in one sealed document. The generation is the row's version.
CREATE TABLE material (
    credential           TEXT PRIMARY KEY,
    generation           BIGINT NOT NULL,
    sealed               BYTEA NOT NULL,
    fingerprint          TEXT,
    previous             BYTEA,
    previous_fingerprint TEXT,
    previous_until       BIGINT
);

-- One row for each request that may spend a grant.
CREATE TABLE flight (
    attempt     TEXT PRIMARY KEY,
    credential  TEXT NOT NULL,
    shard       BIGINT NOT NULL,
    epoch       BIGINT NOT NULL DEFAULT 0,
    target      BIGINT NOT NULL,
    presents    TEXT NOT NULL,
    prepared_at BIGINT NOT NULL,
    boot_id     TEXT NOT NULL,
    deadline    BIGINT,
    received_at BIGINT,
    capture     BYTEA,
    outcome     TEXT,
    closed_at   BIGINT
);
CREATE UNIQUE INDEX flight_open ON flight (credential) WHERE closed_at IS NULL;
CREATE INDEX flight_closed ON flight (closed_at) WHERE closed_at IS NOT NULL;

-- Replies to flights that this database does not know (a restored backup, a removed credential).
CREATE TABLE orphan (
    attempt     TEXT PRIMARY KEY,
    received_at BIGINT NOT NULL,
    capture     BYTEA NOT NULL
);

-- Values to be carried to their home stores: the latest of each credential.
CREATE TABLE write_back (
    credential  TEXT PRIMARY KEY,
    generation  BIGINT NOT NULL,
    attempt     TEXT NOT NULL,
    since       BIGINT NOT NULL,
    next_try_at BIGINT NOT NULL,
    tries       BIGINT NOT NULL,
    error       TEXT
);

-- What began and ended, what on-call was told of it, and when nothing more is to be said.
CREATE TABLE incident (
    seq              BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dedup_key        TEXT NOT NULL,
    kind             TEXT NOT NULL,
    credential       TEXT NOT NULL,
    grouping         TEXT NOT NULL,
    severity         TEXT NOT NULL,
    summary          TEXT NOT NULL,
    body             TEXT NOT NULL,
    opened_at        BIGINT NOT NULL,
    closed_at        BIGINT,
    why              TEXT,
    told             TEXT,
    settled_at       BIGINT
);
CREATE UNIQUE INDEX incident_open ON incident (dedup_key) WHERE closed_at IS NULL;
CREATE INDEX incident_unsettled ON incident (seq) WHERE settled_at IS NULL;

-- Messages to on-call: one row for each channel that ever had one.
CREATE TABLE notice (
    seq        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id         TEXT NOT NULL,
    channel    TEXT NOT NULL,
    dedup_key  TEXT NOT NULL,
    resolves   BIGINT NOT NULL,
    message    TEXT NOT NULL,
    decided_at BIGINT NOT NULL,
    due_at     BIGINT NOT NULL,
    attempts   BIGINT NOT NULL,
    done_at    BIGINT,
    UNIQUE (id, channel)
);
CREATE INDEX notice_waiting ON notice (channel, dedup_key, seq) WHERE done_at IS NULL;
CREATE INDEX notice_done ON notice (done_at) WHERE done_at IS NOT NULL;

-- The log: a chain of hashes for each shard, and chain -1 for the house.
CREATE TABLE audit (
    chain      BIGINT NOT NULL,
    seq        BIGINT NOT NULL,
    at         BIGINT NOT NULL,
    credential TEXT NOT NULL,
    event      TEXT NOT NULL,
    entry      TEXT NOT NULL,
    hash       BYTEA NOT NULL,
    PRIMARY KEY (chain, seq)
);
CREATE INDEX audit_at ON audit (at);
CREATE INDEX audit_credential ON audit (credential, at);
CREATE TABLE audit_head (
    chain BIGINT PRIMARY KEY,
    seq   BIGINT NOT NULL,
    hash  BYTEA NOT NULL
);

-- The embedded home store. A removed document keeps its version, so that versions never repeat.
CREATE TABLE document (
    name       TEXT PRIMARY KEY,
    version    BIGINT NOT NULL,
    sealed     BYTEA,
    changed_at BIGINT NOT NULL
);

-- The last batch of each writer: how a writer learns whether a commit that failed has happened.
CREATE TABLE writer (
    instance TEXT PRIMARY KEY,
    batch    BIGINT NOT NULL,
    at       BIGINT NOT NULL
);

-- Who owns a shard, where several replicas share the database; shard -1 is the house. Times are the database's.
CREATE TABLE shard (
    shard      BIGINT PRIMARY KEY,
    holder     TEXT,
    epoch      BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
