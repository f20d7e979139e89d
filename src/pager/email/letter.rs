//! An incident's mail: plain text, threaded, and nothing in it that was not put there by us.

use aws_lc_rs::digest;
use jiff::Timestamp;
use lettre::message::{
    Mailbox, SinglePart,
    header::{HeaderName, HeaderValue},
};
use uuid::Uuid;

use crate::{
    incident::words::{date, lasted, one_line, plain},
    pager::{Action, Message},
};

/// The mail for a message. `id` is the same over all attempts, so a repeated attempt is the same mail to the receiver.
///
/// The thread's root is made of the incident's key and beginning: a later incident of the same key is another thread,
/// because servers drop a second mail with a `Message-ID` they have seen.
pub(super) fn letter(
    from: &Mailbox,
    to: &[Mailbox],
    id: Uuid,
    message: &Message,
    attempt_at: Timestamp,
) -> Result<lettre::Message, String> {
    let domain = from.email.domain();
    let root = format!("<incident.{}@{domain}>", fingerprint(message));
    let mut mail = lettre::Message::builder()
        .from(from.clone())
        .date(attempt_at.into())
        .subject(format!("[credd] {}", one_line(&message.title, 120)));
    for mailbox in to {
        mail = mail.to(mailbox.clone());
    }
    mail = match message.sequence {
        0 => mail.message_id(Some(root)),
        _ => {
            let own = format!("<incident.{}.{}@{domain}>", fingerprint(message), id.simple());
            mail.message_id(Some(own)).in_reply_to(root.clone()).references(root)
        }
    };
    for (name, value) in [
        (HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned()),
        (HeaderName::new_from_ascii_str("X-Auto-Response-Suppress"), "All".to_owned()),
        (HeaderName::new_from_ascii_str("List-Id"), format!("credd pages <pages.credd.{domain}>")),
    ] {
        mail = mail.raw_header(HeaderValue::new(name, value));
    }
    mail.singlepart(SinglePart::plain(text(message))).map_err(|error| format!("the mail cannot be built: {error}"))
}

/// The body; its first line is the status, because the subject must stay the same.
fn text(message: &Message) -> String {
    let status = match message.action {
        _ if message.test => "TEST".to_owned(),
        Action::Resolve => format!("RESOLVED after {}", lasted(message.at.duration_since(message.since))),
        Action::Trigger => {
            let still = if message.sequence == 0 { "OPEN" } else { "STILL OPEN" };
            format!("{still}, {}, since {}", message.severity.as_str(), date(message.since))
        }
    };
    format!(
        "{status}\n\n{}\n\n-- \nIncident {} ({}), message {}\n",
        plain(&message.body, 8_000),
        one_line(&message.dedup_key, 255),
        one_line(&message.kind, 80),
        message.sequence + 1,
    )
}

fn fingerprint(message: &Message) -> String {
    let text = format!("{}\0{}", message.dedup_key, message.since);
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    hash.as_ref()[..12].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(change: impl FnOnce(&mut Message)) -> String {
        let mut message = Message::test(Uuid::nil(), Timestamp::UNIX_EPOCH);
        message.test = false;
        change(&mut message);
        let (from, to) = ("credd <credd@example.com>".parse().unwrap(), "on-call@example.com".parse().unwrap());
        let mail = letter(&from, &[to], Uuid::from_u128(7), &message, Timestamp::UNIX_EPOCH).unwrap();
        String::from_utf8(mail.formatted()).unwrap()
    }

    fn header<'a>(mail: &'a str, name: &str) -> Option<&'a str> {
        let head = mail.split("\r\n\r\n").next().unwrap();
        head.split("\r\n").find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    #[test]
    fn the_first_mail_is_the_root_of_the_thread() {
        let first = mail(|_| {});
        let second = mail(|m| (m.sequence, m.action, m.summary) = (1, Action::Resolve, "over".into()));
        let root = header(&first, "Message-ID");
        assert!(root.is_some() && header(&first, "References").is_none());
        assert_eq!((header(&second, "In-Reply-To"), header(&second, "References")), (root, root));
        assert_ne!(header(&second, "Message-ID"), root);
        assert_eq!(header(&first, "Subject"), header(&second, "Subject"));
        assert!(second.contains("\r\n\r\nRESOLVED after"), "{second}");
        let later = mail(|m| m.since = Timestamp::from_second(60).unwrap());
        assert_ne!(header(&later, "Message-ID"), root, "another incident of the same key is another thread");
    }

    #[test]
    fn header_injection_is_impossible() {
        let hostile = "x\r\nBcc: evil@example.com\r\n\r\nbody\u{2028}ü";
        let mail = mail(|m| {
            (m.title, m.summary, m.kind, m.dedup_key) =
                (hostile.into(), hostile.into(), hostile.into(), hostile.into());
            m.body = "\r\n.\r\nMAIL FROM:<evil@example.com>".into();
        });
        let head = mail.split("\r\n\r\n").next().unwrap();
        let names: Vec<_> = head
            .split("\r\n")
            .filter(|line| !line.starts_with([' ', '\t']))
            .map(|line| line.split(':').next().unwrap())
            .collect();
        let ours = [
            "From",
            "Date",
            "Subject",
            "To",
            "Message-ID",
            "Auto-Submitted",
            "X-Auto-Response-Suppress",
            "List-Id",
            "MIME-Version",
            "Content-Type",
            "Content-Transfer-Encoding",
        ];
        for name in &names {
            assert!(ours.contains(name), "{name} is not ours:\n{head}");
        }
        assert_eq!(names.len(), ours.len());
    }
}
