//! From facts in the ledger to pages in the outbox, and from there out.
