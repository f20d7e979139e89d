-- Replies that no rule matched, without their secrets.
CREATE TABLE unclassified (
    id       TEXT PRIMARY KEY,
    provider TEXT NOT NULL,
    specimen TEXT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at  BIGINT NOT NULL,
    seen     BIGINT NOT NULL
);
-- Replies of closed flights that are kept are few, and looked for at each start.
CREATE INDEX flight_kept ON flight (credential) WHERE closed_at IS NOT NULL AND capture IS NOT NULL;
