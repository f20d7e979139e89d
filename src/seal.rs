//! Sealing of stored secrets (AEAD).
