//! `WWW-Authenticate`: schemes with parameters, quoted strings with commas inside, and what people make of it.

/// One piece of a challenge header, in order.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece {
    /// The parameter's name in lower case; empty for a scheme or a bare quoted text.
    pub name: String,
    /// Its value without quotes.
    pub value: String,
}

/// Reads a challenge leniently: never fails, each byte once.
pub fn pieces(header: &str) -> Vec<Piece> {
    let mut found = Vec::new();
    let mut chars = header.chars().peekable();
    let mut word = String::new();
    let mut name = String::new();
    loop {
        match chars.next() {
            Some('"') => {
                let mut value = String::new();
                while let Some(c) = chars.next() {
                    match c {
                        '\\' => value.extend(chars.next()),
                        '"' => break,
                        c => value.push(c),
                    }
                }
                found.push(Piece { name: std::mem::take(&mut name), value });
                word.clear();
            }
            Some('=') if name.is_empty() && !word.is_empty() && chars.peek().is_some_and(|c| *c != '=') => {
                name = std::mem::take(&mut word).to_ascii_lowercase();
            }
            Some(c) if !c.is_whitespace() && c != ',' => word.push(c),
            end => {
                if !word.is_empty() {
                    found.push(Piece { name: std::mem::take(&mut name), value: std::mem::take(&mut word) });
                }
                // `error = "x"`: blanks around the sign belong to it.
                let blanks = end.is_some_and(char::is_whitespace);
                if end.is_none() {
                    return found;
                }
                if !blanks {
                    name.clear();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get<'a>(pieces: &'a [Piece], name: &str) -> Option<&'a str> {
        pieces.iter().find(|piece| piece.name == name).map(|piece| piece.value.as_str())
    }

    #[test]
    fn quoted_commas_and_escapes_are_part_of_the_value() {
        let found = pieces(r#"Bearer realm="a, b", error="invalid_token", error_description="scope \"x, y\" lacks""#);
        assert_eq!(found[0], Piece { name: String::new(), value: "Bearer".into() });
        assert_eq!(get(&found, "realm"), Some("a, b"));
        assert_eq!(get(&found, "error"), Some("invalid_token"));
        assert_eq!(get(&found, "error_description"), Some("scope \"x, y\" lacks"));
    }

    #[test]
    fn several_challenges_bare_words_and_rubbish() {
        let found = pieces("Basic realm=simple, DPoP error=use_dpop_nonce, algs=\"ES256\"");
        assert_eq!(get(&found, "error"), Some("use_dpop_nonce"));
        assert_eq!(pieces("OTP"), [Piece { name: String::new(), value: "OTP".into() }]);
        assert_eq!(get(&pieces(r#"OAuth "Facebook Platform" "invalid_token" "x""#), ""), Some("OAuth"));
        for rubbish in ["", "=", "\"", "a=\"", ",,,", "Bearer =", "\\"] {
            let _ = pieces(rubbish);
        }
    }
}
