//! Crash points: named places where a test can kill the process. Empty without the feature `failpoints`.
