//! Listeners and problems: what every HTTP face needs.
