-- Replies that no rule matched, without their secrets.
CREATE TABLE unclassified (
    id       TEXT PRIMARY KEY,
    provider TEXT NOT NULL,
    specimen TEXT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at  BIGINT NOT NULL,
    seen     BIGINT NOT NULL
);
