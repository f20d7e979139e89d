//! The only starter of other programs: nothing inherited, bounded.
