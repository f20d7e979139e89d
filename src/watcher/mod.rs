//! Watches credentials: one shard, one task, many credentials.
