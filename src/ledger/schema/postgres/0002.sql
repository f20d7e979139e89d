-- Replies of closed flights that are kept are few, and looked for at each start.
CREATE INDEX flight_kept ON flight (credential) WHERE closed_at IS NOT NULL AND capture IS NOT NULL;
