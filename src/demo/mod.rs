//! `credd demo`: a minute in the life of credentials.
