//! The lifecycle as the ledger keeps it: with the boot that its boot times belong to.

use jiff::Timestamp;

use crate::{clock::Now, ledger::Record, lifecycle::Lifecycle};

/// What stands in the ledger.
#[derive(serde::Serialize, serde::Deserialize)]
struct Kept {
    boot_id: String,
    /// The date of boot time zero, as it was believed when this was written.
    #[serde(default)]
    zero: Option<Timestamp>,
    life: Lifecycle,
}

fn zero(now: Now) -> Timestamp {
    now.wall.checked_sub(now.boot).unwrap_or(Timestamp::MIN)
}

/// As text, for the ledger.
pub(super) fn write(life: &Lifecycle, boot_id: &str, now: Now) -> String {
    let kept = Kept { boot_id: boot_id.to_owned(), zero: Some(zero(now)), life: life.clone() };
    serde_json::to_string(&kept).expect("a lifecycle has only text keys")
}

/// The lifecycle of a record; `None` where another version of credd wrote it in a form that cannot be read any more.
pub(super) fn revived(record: &Record, boot_id: &str, now: Now) -> Option<Lifecycle> {
    match serde_json::from_str::<Kept>(&record.lifecycle) {
        Ok(kept) => {
            let mut life = kept.life;
            if kept.boot_id != boot_id {
                life.after_reboot();
            } else if let Some(before) = kept.zero {
                // The clock may have stepped while nobody looked.
                life.clock_stepped(zero(now).duration_since(before), now, super::fleet::place(&record.id));
            }
            Some(life)
        }
        Err(error) => {
            tracing::warn!(credential = %record.id, %error, "the ledger's lifecycle of this credential is not readable; it begins anew from its value");
            None
        }
    }
}

/// Whether a record's value was ever seen good.
pub(super) fn was_proven(record: &Record) -> bool {
    serde_json::from_str::<Kept>(&record.lifecycle).is_ok_and(|kept| kept.life.was_proven())
}
