//! What nobody without the ledger's key can say of the audit log: which chains there are, and where each of them ends. The
//! hashes alone anybody could compute anew.

use std::collections::BTreeSet;

use super::connection::{Connection, Value, values};
use crate::seal::Sealer;

/// Labels: a signature of the one is never good for the other.
const HEAD: &str = "credd audit head";
const CHAINS: &str = "credd audit chains";
const TAG: usize = 32;

/// The end of a chain, as it was last written.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub seq: i64,
    pub hash: Vec<u8>,
    pub signature: Option<Vec<u8>>,
}

impl Head {
    /// Whether the holder of the key wrote this end.
    pub fn is_signed(&self, sealer: &Sealer, chain: i64) -> bool {
        let text = text(chain, self.seq, &self.hash);
        self.signature.as_ref().is_some_and(|signature| sealer.is_signed(HEAD, &text, signature))
    }
}

/// The signature of an end.
pub(super) fn of_head(sealer: &Sealer, chain: i64, seq: i64, hash: &[u8]) -> Vec<u8> {
    sealer.sign(HEAD, &text(chain, seq, hash))
}

fn text(chain: i64, seq: i64, hash: &[u8]) -> Vec<u8> {
    [&chain.to_be_bytes(), &seq.to_be_bytes(), hash].concat()
}

/// The chains that the holder of the key has begun; `None` where the list is gone, or is not theirs.
pub(super) async fn chains(conn: &mut Connection, sealer: &Sealer) -> Result<Option<BTreeSet<i64>>, sqlx::Error> {
    let row = conn.row("SELECT value FROM meta WHERE name = 'audit_chains'", vec![]).await?;
    let value: Vec<u8> = row.map_or(Ok(vec![]), |row| row.get(0))?;
    Ok(read_chains(sealer, &value))
}

/// The same, and nobody else writes it until the transaction ends.
pub(super) async fn chains_to_change(
    conn: &mut Connection,
    sealer: &Sealer,
) -> Result<Option<BTreeSet<i64>>, sqlx::Error> {
    if !conn.is_postgres() {
        return chains(conn, sealer).await;
    }
    let row = conn.row("SELECT value FROM meta WHERE name = 'audit_chains' FOR UPDATE", vec![]).await?;
    let value: Vec<u8> = row.map_or(Ok(vec![]), |row| row.get(0))?;
    Ok(read_chains(sealer, &value))
}

fn read_chains(sealer: &Sealer, value: &[u8]) -> Option<BTreeSet<i64>> {
    let (signature, list) = value.split_at_checked(TAG)?;
    sealer.is_signed(CHAINS, list, signature).then(|| serde_json::from_slice(list).ok())?
}

/// That list as it is stored.
pub(super) fn of_chains(sealer: &Sealer, chains: &BTreeSet<i64>) -> Vec<u8> {
    let list = serde_json::to_vec(chains).expect("numbers always serialise");
    [sealer.sign(CHAINS, &list), list].concat()
}

/// Signs the log as it is found: a new one, or that of a credd which did not sign yet.
pub(super) async fn sign_all(conn: &mut Connection, sealer: &Sealer) -> Result<(), sqlx::Error> {
    let heads = heads(conn).await?;
    let chains = heads.iter().map(|(chain, _)| *chain).collect();
    for (chain, head) in heads {
        let signature = of_head(sealer, chain, head.seq, &head.hash);
        conn.execute("UPDATE audit_head SET signature = $2 WHERE chain = $1", values![chain, signature]).await?;
    }
    let list = values![of_chains(sealer, &chains)];
    conn.execute("INSERT INTO meta (name, value) VALUES ('audit_chains', $1)", list).await.map(drop)
}

/// What is to be written where another key takes over. What the old one did not sign, the new one does not either.
pub(super) async fn signed_anew(
    conn: &mut Connection,
    old: &Sealer,
    new: &Sealer,
) -> Result<Vec<(&'static str, Vec<Value>)>, sqlx::Error> {
    let mut writes = Vec::new();
    for (chain, head) in heads(conn).await? {
        let signature = head.is_signed(old, chain).then(|| of_head(new, chain, head.seq, &head.hash));
        writes.push(("UPDATE audit_head SET signature = $2 WHERE chain = $1", values![chain, signature]));
    }
    if let Some(chains) = chains(conn, old).await? {
        writes.push(("UPDATE meta SET value = $1 WHERE name = 'audit_chains'", values![of_chains(new, &chains)]));
    }
    Ok(writes)
}

async fn heads(conn: &mut Connection) -> Result<Vec<(i64, Head)>, sqlx::Error> {
    let rows = conn.rows("SELECT chain, seq, hash, signature FROM audit_head", vec![]).await?;
    rows.iter()
        .map(|row| Ok((row.get(0)?, Head { seq: row.get(1)?, hash: row.get(2)?, signature: row.get(3)? })))
        .collect()
}
