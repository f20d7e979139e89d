//! `credd sandbox`: an OAuth provider and API that misbehaves on demand.
