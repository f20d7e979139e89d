//! Codes and sentences as one thing: words.

/// Lower-case words with one blank between: punctuation goes, apostrophes vanish, addresses of pages are dropped, and
/// codes are taken apart at their capitals.
pub fn normalise(text: &str, code: bool) -> String {
    let mut words = String::with_capacity(text.len() + 16);
    let mut before = ' ';
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == ':' && chars.peek() == Some(&'/') && (words.ends_with("http") || words.ends_with("https")) {
            words.truncate(words.rfind("http").unwrap_or(words.len()));
            while chars.peek().is_some_and(|c| !c.is_whitespace() && !matches!(c, '"' | '<' | ')')) {
                chars.next();
            }
            before = ' ';
            continue;
        }
        if c.is_alphanumeric() {
            let turn = code
                && c.is_uppercase()
                && (before.is_lowercase() || (before.is_uppercase() && chars.peek().is_some_and(|n| n.is_lowercase())));
            if turn {
                words.push(' ');
            }
            words.extend(c.to_lowercase());
        } else if matches!(c, '\'' | '’') {
            continue;
        } else if !words.ends_with(' ') && !words.is_empty() {
            words.push(' ');
        }
        before = c;
    }
    words.truncate(words.trim_end().len());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_sentences_become_the_same_words() {
        assert_eq!(normalise("TOKEN_EXPIRED", true), "token expired");
        assert_eq!(normalise("ExpiredTokenException", true), "expired token exception");
        assert_eq!(normalise("JWTExpired", true), "jwt expired");
        assert_eq!(normalise("You didn't, see https://a.example/billing?x (now).", false), "you didnt see now");
    }
}
