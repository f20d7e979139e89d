//! JSON may name a member twice, and readers differ in which one counts. For tokens that is a guess too many (FM-06).

use std::{collections::HashSet, fmt};

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// Whether a member carries a token or tells its life.
pub fn is_token(name: &str) -> bool {
    matches!(name, "access_token" | "refresh_token" | "token" | "expires_in" | "token_type" | "id_token")
}

/// Goes through a document and finds token fields that are given twice; which of them counts would be a guess.
pub struct OnceOnly<'a> {
    /// The last that was found.
    pub twice: &'a mut Option<String>,
}

impl<'de> DeserializeSeed<'de> for OnceOnly<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for OnceOnly<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(OnceOnly { twice: self.twice })?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if is_token(&name) && !seen.insert(name.clone()) {
                *self.twice = Some(name);
            }
            map.next_value_seed(OnceOnly { twice: self.twice })?;
        }
        Ok(())
    }
}
