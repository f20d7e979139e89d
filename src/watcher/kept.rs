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
    /// A fingerprint of the machine that wrote it; empty where that is not known.
    #[serde(default)]
    machine: String,
    /// The client of the settings under which the grant was last renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    life: Lifecycle,
}

fn zero(now: Now) -> Timestamp {
    now.wall.checked_sub(now.boot).unwrap_or(Timestamp::MIN)
}

/// As text, for the ledger.
pub(super) fn write(life: &Lifecycle, client: Option<&str>, boot_id: &str, machine: &str, now: Now) -> String {
    let (boot_id, machine, zero) = (boot_id.to_owned(), machine.to_owned(), Some(zero(now)));
    let kept = Kept { boot_id, zero, machine, client: client.map(str::to_owned), life: life.clone() };
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

/// The client of the settings under which the grant was last renewed, where one was.
pub(super) fn client(record: &Record) -> Option<String> {
    serde_json::from_str::<Kept>(&record.lifecycle).ok()?.client
}

/// Whether another machine than this one wrote a record last: its ledger was moved here, or copied.
pub(super) fn is_of_another_machine(record: &Record, machine: &str) -> bool {
    let kept = serde_json::from_str::<Kept>(&record.lifecycle);
    kept.is_ok_and(|kept| ![machine, &kept.machine].contains(&"") && kept.machine != machine)
}

/// Whether any value of a record's credential was ever seen good.
pub(super) fn was_proven(record: &Record) -> bool {
    serde_json::from_str::<Kept>(&record.lifecycle).is_ok_and(|kept| kept.life.was_proven())
}
