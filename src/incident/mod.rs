//! Incidents: what on-call is told once and until it ends. Pure.
