-- The end of each chain, signed under the ledger's key.
ALTER TABLE audit_head ADD COLUMN signature BLOB;
