//! The ledger, over SQLite, over a real PostgreSQL, and over PostgreSQL behind a real transaction pooler: one suite.

mod bench;
pub mod disk;
mod files;
mod log;
mod pages;
mod rotation;

/// Stamps the suite for every database.
macro_rules! over_all {
    ($($part:ident: $($name:ident),+;)+) => {
        mod sqlite {
            $($(#[tokio::test]
            async fn $name() {
                super::$part::$name(super::bench::Bench::sqlite()).await;
            })+)+
        }
        #[cfg(feature = "postgres")]
        mod postgres {
            $($(#[tokio::test]
            async fn $name() {
                super::$part::$name(super::bench::Bench::postgres(false).await).await;
            })+)+
        }
        // Proves: FM-49
        #[cfg(feature = "postgres")]
        mod pooler {
            $($(#[tokio::test]
            async fn $name() {
                super::$part::$name(super::bench::Bench::postgres(true).await).await;
            })+)+
        }
    };
}

over_all! {
    rotation:
        a_stale_value_is_fenced_and_writes_nothing,
        two_flights_are_impossible,
        a_reply_is_kept_whatever_happened_to_its_flight,
        rf07_promotion_is_all_or_nothing,
        rf09_writers_of_facts_never_put_an_old_value_back,
        every_step_survives_the_end_of_the_process,
        a_step_written_twice_is_written_once,
        previous_values_are_kept_and_erased,
        a_removed_credential_can_come_back_for_seven_days,
        sixty_four_writers_share_commits,
        a_caller_that_goes_away_cancels_nothing,
        t26_values_cannot_be_swapped_or_rolled_back,
        fm36_a_wrong_key_is_refused,
        a_new_key_opens_everything_and_the_old_one_nothing,
        fm76_tables_of_a_newer_minor_version_are_refused_and_left_as_they_are;
    pages:
        of_write_backs_the_latest_wins,
        incidents_begin_and_end_once,
        messages_of_one_incident_leave_in_order,
        a_newer_word_takes_the_place_of_one_that_waits,
        fm63_another_channel_stands_in_once,
        pages_of_removed_channels_find_another,
        fm63_what_is_decided_is_queued_with_it,
        embedded_documents_are_compared_and_swapped;
    log:
        t37_the_audit_log_verifies,
        t37_tampering_is_named,
        t37_a_chain_that_was_computed_anew_is_not_signed,
        t37_a_chain_that_was_taken_away_or_put_in_is_seen,
        t37_an_older_ledger_verifies_and_is_signed_at_the_next_start,
        t37_nobody_makes_a_ledger_look_older_to_have_a_forged_log_signed,
        fm42_what_the_audit_log_does_not_take_has_not_happened,
        the_log_is_read_and_exported;
}
