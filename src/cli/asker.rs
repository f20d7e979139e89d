//! Who asks for what a command does itself, as the audit log names them.

/// The person at the terminal, as far as the system knows.
pub fn asker() -> String {
    let (real, effective) = (rustix::process::getuid().as_raw(), rustix::process::geteuid().as_raw());
    name(real, effective, std::env::var("SUDO_UID").ok().as_deref())
}

/// The real user. Where that is root, sudo may say whom it stands for; the word of anybody else's environment is nobody's.
fn name(real: u32, effective: u32, sudo: Option<&str>) -> String {
    match sudo.and_then(|uid| uid.parse::<u32>().ok()).filter(|_| (real, effective) == (0, 0)) {
        Some(uid) => format!("uid {uid} (through sudo)"),
        None => format!("uid {real}"),
    }
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn the_real_user_is_named_and_sudo_is_believed_only_under_root() {
        for (real, effective, sudo, named) in [
            (1000, 1000, None, "uid 1000"),
            (0, 0, None, "uid 0"),
            (0, 0, Some("1000"), "uid 1000 (through sudo)"),
            (0, 0, Some("somebody"), "uid 0"),
            (0, 0, Some("-1"), "uid 0"),
            // Whoever runs a program that changes its user sets its environment.
            (1000, 0, Some("0"), "uid 1000"),
            (1000, 1000, Some("0"), "uid 1000"),
            (0, 107, Some("1000"), "uid 0"),
        ] {
            assert_eq!(name(real, effective, sudo), named, "{real} {effective} {sudo:?}");
        }
    }
}
