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
        if let Some(plain) = (!c.is_ascii()).then(|| plain(c)).flatten() {
            words.push_str(plain);
        } else if c.is_alphanumeric() {
            let turn = code
                && c.is_uppercase()
                && (before.is_lowercase() || (before.is_uppercase() && chars.peek().is_some_and(|n| n.is_lowercase())));
            if turn {
                words.push(' ');
            }
            if c.is_ascii() {
                words.push(c.to_ascii_lowercase());
                before = c;
                continue;
            }
            for lower in c.to_lowercase() {
                match plain(lower) {
                    Some(plain) => words.push_str(plain),
                    None => words.push(lower),
                }
            }
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

/// Text in which letters have lost their marks.
pub fn unmarked(text: &str) -> String {
    let mut unmarked = String::with_capacity(text.len());
    for c in text.chars() {
        match plain(c) {
            Some(plain) => unmarked.push_str(plain),
            None => unmarked.push(c),
        }
    }
    unmarked
}

/// What a small letter is without its mark: services write "expirée" and "expiree", "inválido" and "invalido".
fn plain(c: char) -> Option<&'static str> {
    Some(match c {
        'à'..='å' | 'ā' | 'ă' | 'ą' => "a",
        'æ' => "ae",
        'ç' | 'ć' | 'č' => "c",
        'ď' | 'đ' => "d",
        'è'..='ë' | 'ē' | 'ė' | 'ę' | 'ě' => "e",
        'ğ' => "g",
        'ì'..='ï' | 'ī' | 'į' | 'ı' => "i",
        'ł' => "l",
        'ñ' | 'ń' | 'ň' => "n",
        'ò'..='ö' | 'ø' | 'ō' | 'ő' => "o",
        'œ' => "oe",
        'ř' => "r",
        'ś' | 'ş' | 'š' | 'ș' => "s",
        'ß' => "ss",
        'ť' | 'ţ' | 'ț' => "t",
        'ù'..='ü' | 'ū' | 'ů' | 'ű' | 'ų' => "u",
        'ý' | 'ÿ' => "y",
        'ź' | 'ż' | 'ž' => "z",
        'ё' => "е",
        '\u{300}'..='\u{36f}' => "",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_sentences_become_the_same_words() {
        assert_eq!(normalise("TOKEN_EXPIRED", true), "token expired");
        assert_eq!(normalise("ExpiredTokenException", true), "expired token exception");
        assert_eq!(normalise("JWTExpired", true), "jwt expired");
        assert_eq!(normalise("Jeton expiré, ÉCHÉANCE, İmza", false), "jeton expire echeance imza");
        assert_eq!(normalise("You didn't, see https://a.example/billing?x (now).", false), "you didnt see now");
    }
}
