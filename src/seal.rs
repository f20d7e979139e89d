//! Sealing of stored secrets: AES-256-GCM under a data key of their own, which is wrapped by one key-encryption key.
//!
//! So the key-encryption key can change without touching the data, and a stolen ledger says nothing without it.

use std::{
    fmt, fs,
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    hkdf, hmac, rand,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use crate::credential::{Fingerprint, Secret};

const KEY: usize = 32;
const TAG: usize = 16;
const WRAPPED: usize = NONCE_LEN + KEY + TAG;
/// The first byte of every sealed record, for the day when the form changes.
const FORM: u8 = 1;
const WRAP: &str = "credd data key";
const CHECK: &str = "credd key check";
/// Both derived keys have labels of their own, so that no tag of one is ever good for the other.
const FINGERPRINTS: &[u8] = b"credd fingerprints";
const SIGNATURES: &[u8] = b"credd signatures";

/// One message for a wrong key and for damaged data: the difference would be an oracle (FM-36).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it does not open: the key is not the one it was sealed with, or the data is damaged")]
pub struct SealError;

/// Why there is no key. The texts say where and what to do, and never show the key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read or made.
    #[error("the key file {path}: {reason}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// Others could read or replace it (FM-37, FM-40).
    #[error("the key file {path} {problem}; run `{remedy} {path}`, and replace the key if others may have read it")]
    Loose {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// The command that mends it.
        remedy: &'static str,
    },
    /// Not 32 bytes in base64.
    #[error("{place} holds no key: it must be 32 bytes in base64 (44 characters); `openssl rand -base64 32` makes one")]
    Malformed {
        /// Where it came from.
        place: String,
    },
}

/// Seals and opens under one key-encryption key.
pub struct Sealer {
    wrap: RandomizedNonceKey,
    fingerprints: hmac::Key,
    signatures: hmac::Key,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(..)")
    }
}

impl Sealer {
    fn new(key: &[u8; KEY]) -> Self {
        let derived = hkdf::Salt::none(hkdf::HKDF_SHA256).extract(key);
        let key_for = |label: &[u8]| -> hmac::Key {
            derived.expand(&[label], hmac::HMAC_SHA256).expect("32 bytes are within HKDF's reach").into()
        };
        Self { wrap: aead(key), fingerprints: key_for(FINGERPRINTS), signatures: key_for(SIGNATURES) }
    }

    /// A key that came by reference: 32 bytes in base64.
    #[expect(clippy::disallowed_methods, reason = "the key that everything else is sealed with")]
    pub fn from_base64(key: &Secret) -> Result<Self, KeyError> {
        Self::decode(key.expose(), || "the reference in `ledger.key`".into())
    }

    fn decode(text: &str, place: impl Fn() -> String) -> Result<Self, KeyError> {
        let bytes = STANDARD.decode(text.trim()).map(Zeroizing::new).unwrap_or_default();
        match bytes.as_slice().try_into() {
            Ok(key) => Ok(Self::new(key)),
            Err(_) => Err(KeyError::Malformed { place: place() }),
        }
    }

    /// The key in a file of our own with mode 0600.
    pub fn from_file(path: &Path) -> Result<Self, KeyError> {
        Self::from_file_of(path, rustix::process::geteuid().as_raw())
    }

    /// The key in a file of `owner` (or root's) with mode 0600: root may look into another user's ledger.
    pub fn from_file_of(path: &Path, owner: u32) -> Result<Self, KeyError> {
        let failed = |reason| KeyError::File { path: path.into(), reason };
        let no_follow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        let file = fs::OpenOptions::new().read(true).custom_flags(no_follow).open(path).map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        let loose = |problem, remedy| Err(KeyError::Loose { path: path.into(), problem, remedy });
        if !meta.is_file() {
            return Err(failed(io::Error::other("it is not a regular file")));
        }
        if meta.uid() != owner && meta.uid() != 0 {
            return loose(format!("belongs to uid {}, not to us (uid {owner})", meta.uid()), "chown credd");
        }
        if meta.mode() & 0o077 != 0 {
            return loose(format!("has mode {:04o}: others may use it", meta.mode() & 0o7777), "chmod 0600");
        }
        let mut text = Zeroizing::new(String::with_capacity(128));
        file.take(128).read_to_string(&mut text).map_err(failed)?;
        Self::decode(&text, || format!("the key file {}", path.display()))
    }

    /// The key in that file, or a new one that is durable in that file before this returns. Says whether it was made.
    /// Where a ledger exists already, use [`Sealer::from_file`]: a new key would not open it.
    pub fn from_file_or_new(path: &Path) -> Result<(Self, bool), KeyError> {
        if path.symlink_metadata().is_ok() {
            return Ok((Self::from_file(path)?, false));
        }
        let mut key = Zeroizing::new([0; KEY]);
        rand::fill(&mut *key).expect("the system has randomness");
        let text = Zeroizing::new(STANDARD.encode(*key) + "\n");
        let write = || {
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::File::open(path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")))?.sync_all()
        };
        write().map_err(|reason| KeyError::File { path: path.into(), reason })?;
        Ok((Self::new(&key), true))
    }

    /// Seals a record. `aad` says what it is (kind, name, generation): under any other it does not open, so records
    /// cannot be swapped or rolled back unseen.
    pub fn seal(&self, aad: &str, plain: &[u8]) -> Vec<u8> {
        let mut data_key = Zeroizing::new([0; KEY]);
        rand::fill(&mut *data_key).expect("the system has randomness");
        let mut sealed = Vec::with_capacity(1 + WRAPPED + NONCE_LEN + plain.len() + TAG);
        sealed.push(FORM);
        sealed.extend(lock(&self.wrap, WRAP, &*data_key));
        sealed.extend(lock(&aead(&*data_key), aad, plain));
        sealed
    }

    /// Opens what [`Sealer::seal`] sealed under the same `aad`.
    pub fn open(&self, aad: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (wrapped, body) = split(sealed)?;
        unlock(&aead(&*self.unwrap(wrapped)?), aad, body)
    }

    /// The same record under another key-encryption key; its data is not touched.
    pub fn rewrap(&self, sealed: &[u8], new: &Self) -> Result<Vec<u8>, SealError> {
        let (wrapped, body) = split(sealed)?;
        let mut fresh = vec![FORM];
        fresh.extend(lock(&new.wrap, WRAP, &*self.unwrap(wrapped)?));
        fresh.extend_from_slice(body);
        Ok(fresh)
    }

    fn unwrap(&self, wrapped: &[u8]) -> Result<Zeroizing<[u8; KEY]>, SealError> {
        let key = unlock(&self.wrap, WRAP, wrapped)?;
        key.as_slice().try_into().map(Zeroizing::new).map_err(|_| SealError)
    }

    /// A record by which [`Sealer::check`] knows this key again. What it says nobody can change without the key.
    pub fn check_value(&self, says: &str) -> Vec<u8> {
        self.seal(CHECK, says.as_bytes())
    }

    /// What that check value says, if it was made with this key.
    pub fn check(&self, value: &[u8]) -> Result<String, SealError> {
        let said = self.open(CHECK, value)?;
        String::from_utf8(said.to_vec()).map_err(|_| SealError)
    }

    /// Signs what may be read by all and changed by nobody without the key. `what` says which kind of thing it is: no
    /// signature of one kind is good for another.
    pub fn sign(&self, what: &str, text: &[u8]) -> Vec<u8> {
        hmac::sign(&self.signatures, &signed(what, text)).as_ref().to_vec()
    }

    /// Whether that was signed with this key. In constant time.
    pub fn is_signed(&self, what: &str, text: &[u8], signature: &[u8]) -> bool {
        hmac::verify(&self.signatures, &signed(what, text), signature).is_ok()
    }

    /// The one form in which a token may be logged or compared in the open.
    pub fn fingerprint(&self, secret: &Secret) -> Fingerprint {
        Fingerprint::of(secret, &self.fingerprints)
    }
}

fn signed(what: &str, text: &[u8]) -> Vec<u8> {
    [what.as_bytes(), b"\0", text].concat()
}

fn aead(key: &[u8]) -> RandomizedNonceKey {
    RandomizedNonceKey::new(&AES_256_GCM, key).expect("the key has 32 bytes")
}

/// Nonce, ciphertext, tag.
fn lock(key: &RandomizedNonceKey, aad: &str, plain: &[u8]) -> Vec<u8> {
    // Reserved before the copy, so that no reallocation leaves plain text behind.
    let mut body = Vec::with_capacity(plain.len() + TAG);
    body.extend_from_slice(plain);
    let nonce = key
        .seal_in_place_append_tag(Aad::from(aad.as_bytes()), &mut body)
        .expect("AES-GCM seals anything that fits in memory");
    [nonce.as_ref().as_slice(), &body].concat()
}

fn unlock(key: &RandomizedNonceKey, aad: &str, locked: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (nonce, body) = locked.split_at_checked(NONCE_LEN).ok_or(SealError)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError)?;
    let mut body = Zeroizing::new(body.to_vec());
    let length = key.open_in_place(nonce, Aad::from(aad.as_bytes()), &mut body).map_err(|_| SealError)?.len();
    body.truncate(length);
    Ok(body)
}

fn split(sealed: &[u8]) -> Result<(&[u8], &[u8]), SealError> {
    match sealed.split_first() {
        Some((&FORM, rest)) => rest.split_at_checked(WRAPPED).ok_or(SealError),
        _ => Err(SealError),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn sealer(byte: u8) -> Sealer {
        Sealer::new(&[byte; KEY])
    }

    #[test]
    fn t26_a_record_opens_only_as_what_it_was_sealed_as() {
        let sealer = sealer(1);
        let sealed = sealer.seal("value a 1", b"planted-canary");
        assert_eq!(*sealer.open("value a 1", &sealed).unwrap(), b"planted-canary");
        assert!(!sealed.windows(6).any(|part| part == b"canary"));
        assert_eq!(sealer.open("value a 2", &sealed), Err(SealError));
        for at in 0..sealed.len() {
            let mut bent = sealed.clone();
            bent[at] ^= 1;
            assert_eq!(sealer.open("value a 1", &bent), Err(SealError), "byte {at}");
            assert_eq!(sealer.open("value a 1", &sealed[..at]), Err(SealError), "cut at {at}");
        }
        assert_ne!(sealed, sealer.seal("value a 1", b"planted-canary"));
    }

    #[test]
    fn fm36_a_wrong_key_reads_like_damage() {
        let sealed = sealer(1).seal("x", b"y");
        let wrong = sealer(2).open("x", &sealed).unwrap_err();
        let damaged = sealer(1).open("x", &sealed[1..]).unwrap_err();
        assert_eq!(wrong.to_string(), damaged.to_string());
        assert_eq!(sealer(1).check(&sealer(1).check_value("says")).unwrap(), "says");
        assert!(sealer(2).check(&sealer(1).check_value("says")).is_err());
    }

    #[test]
    fn a_rewrapped_record_opens_under_the_new_key_alone() {
        let (old, new) = (sealer(1), sealer(2));
        let sealed = old.seal("x", b"y");
        let moved = old.rewrap(&sealed, &new).unwrap();
        assert_eq!(*new.open("x", &moved).unwrap(), b"y");
        assert_eq!(old.open("x", &moved), Err(SealError));
        assert_eq!(sealed[1 + WRAPPED..], moved[1 + WRAPPED..], "the data is not touched");
        assert!(new.rewrap(&sealed, &old).is_err());
    }

    #[test]
    fn fm37_a_key_file_is_made_once_and_refused_when_others_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.key");
        let (first, made) = Sealer::from_file_or_new(&path).unwrap();
        assert!(made);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let (second, made) = Sealer::from_file_or_new(&path).unwrap();
        assert!(!made);
        second.check(&first.check_value("")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = Sealer::from_file_or_new(&path).unwrap_err().to_string();
        assert!(error.contains("0640") && error.contains("chmod 0600"), "{error}");
    }

    #[test]
    fn a_key_of_the_wrong_form_is_refused_without_being_shown() {
        for text in ["", "planted-canary", "AAAA"] {
            let error = Sealer::from_base64(&Secret::new(text)).unwrap_err().to_string();
            assert!(error.contains("32 bytes") && !error.contains("canary"), "{error}");
        }
        Sealer::from_base64(&Secret::new(STANDARD.encode([7; 32]))).unwrap();
    }

    #[test]
    fn t37_a_signature_is_good_for_one_thing_under_one_key() {
        let signature = sealer(1).sign("head", b"text");
        assert!(sealer(1).is_signed("head", b"text", &signature));
        for (key, what, text) in
            [(2, "head", &b"text"[..]), (1, "heads", b"text"), (1, "head", b"texT"), (1, "headt", b"ext")]
        {
            assert!(!sealer(key).is_signed(what, text, &signature), "{key} {what}");
        }
        assert!(!sealer(1).is_signed("head", b"text", b""));
        let fingerprint = hmac::sign(&sealer(1).fingerprints, &signed("head", b"text"));
        assert_ne!(fingerprint.as_ref(), signature, "the keys differ");
    }

    #[test]
    fn fingerprints_belong_to_an_installation() {
        let secret = Secret::new("t");
        assert_eq!(sealer(1).fingerprint(&secret), sealer(1).fingerprint(&secret));
        assert_ne!(sealer(1).fingerprint(&secret), sealer(2).fingerprint(&secret));
    }
}
