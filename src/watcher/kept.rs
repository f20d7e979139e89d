//! The lifecycle as the ledger keeps it: with the boot that its boot times belong to.

use crate::{ledger::Record, lifecycle::Lifecycle};

/// What stands in the ledger.
#[derive(serde::Serialize, serde::Deserialize)]
struct Kept {
    boot_id: String,
    /// A fingerprint of the machine that wrote it; empty where that is not known.
    #[serde(default)]
    machine: String,
    life: Lifecycle,
}

/// As text, for the ledger.
pub(super) fn write(life: &Lifecycle, boot_id: &str, machine: &str) -> String {
    let kept = Kept { boot_id: boot_id.to_owned(), machine: machine.to_owned(), life: life.clone() };
    serde_json::to_string(&kept).expect("a lifecycle has only text keys")
}

/// The lifecycle of a record; `None` where another version of credd wrote it in a form that cannot be read any more.
pub(super) fn revived(record: &Record, boot_id: &str) -> Option<Lifecycle> {
    match serde_json::from_str::<Kept>(&record.lifecycle) {
        Ok(kept) => {
            let mut life = kept.life;
            if kept.boot_id != boot_id {
                life.after_reboot();
            }
            Some(life)
        }
        Err(error) => {
            tracing::warn!(credential = %record.id, %error, "the ledger's lifecycle of this credential is not readable; it begins anew from its value");
            None
        }
    }
}

/// Whether another machine than this one wrote a record last: its ledger was moved here, or copied.
pub(super) fn is_of_another_machine(record: &Record, machine: &str) -> bool {
    let kept = serde_json::from_str::<Kept>(&record.lifecycle);
    kept.is_ok_and(|kept| ![machine, &kept.machine].contains(&"") && kept.machine != machine)
}

/// Whether a record's value was ever seen good.
pub(super) fn was_proven(record: &Record) -> bool {
    serde_json::from_str::<Kept>(&record.lifecycle).is_ok_and(|kept| kept.life.was_proven())
}
