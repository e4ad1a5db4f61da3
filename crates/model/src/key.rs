//! API keys: their secret text, its stored form, and what is known about a key.
//!
//! A key is `<prefix>_` (test keys `<prefix>_test_`), 26 random base62 characters (154 bits) and
//! 6 base62 characters of CRC-32 over all before them, so that a mistyped key is told from an
//! unknown one without a look-up (docs/rules.md, 13). Only [`KeyHash`] is ever stored.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use ipnet::IpNet;
use sha2::{Digest, Sha256};

use crate::{IdGen, KeyId, Quota, RateLimit, SubscriptionId, Timestamp};

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const RANDOM_CHARACTERS: usize = 26;
const CHECK_CHARACTERS: usize = 6;
/// Longest presented credential that is looked at, in bytes; imported keys may be longer than ours.
const CREDENTIAL_BYTES_MAX: usize = 512;

/// The secret that keys the hashes of a whole installation; never printed.
#[derive(Clone)]
pub struct Pepper(Option<Hmac<Sha256>>);

impl PartialEq for Pepper {
    fn eq(&self, other: &Self) -> bool {
        self.check_value() == other.check_value()
    }
}

impl Eq for Pepper {}

impl Pepper {
    /// Takes the bytes as they are.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        // Keyed once, copied for each credential: that is two of five blocks less a request.
        Self(Hmac::new_from_slice(&bytes).ok())
    }

    /// A value that tells whether two processes use the same pepper without giving it away.
    #[must_use]
    pub fn check_value(&self) -> [u8; 32] {
        self.hash_sha256(&Sha256::digest(b"tollgate pepper check").into())
            .0
    }

    /// The stored form of a presented credential: HMAC-SHA256(pepper, SHA-256(key)), RFC 2104.
    #[must_use]
    pub fn hash(&self, presented: &[u8]) -> KeyHash {
        self.hash_sha256(&Sha256::digest(presented).into())
    }

    /// The stored form of a key of which only its SHA-256 is known (imports).
    #[must_use]
    pub fn hash_sha256(&self, digest: &[u8; 32]) -> KeyHash {
        match self.0.clone() {
            Some(mut mac) => {
                mac.update(digest);
                KeyHash(mac.finalize().into_bytes().into())
            }
            // HMAC takes keys of any length; this arm cannot be reached.
            None => KeyHash([0; 32]),
        }
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(..)")
    }
}

/// The stored form of an API key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash(pub [u8; 32]);

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(..)")
    }
}

/// Why a presented credential cannot be a key of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Empty, too long, or with bytes no key has.
    #[error("a key is 1 to 512 visible ASCII characters")]
    Form,
}

/// A key's secret text. Shown once; never logged, never stored.
#[derive(Clone, PartialEq, Eq)]
pub struct KeySecret(String);

impl KeySecret {
    /// Makes a new key.
    #[must_use]
    pub fn generate(prefix: &str, test: bool, ids: &dyn IdGen) -> Self {
        let mut text = String::with_capacity(prefix.len() + 38);
        text.push_str(prefix);
        text.push_str(if test { "_test_" } else { "_" });
        let mut drawn = 0;
        while drawn < RANDOM_CHARACTERS {
            let mut bytes = [0u8; 32];
            ids.fill(&mut bytes);
            // 248 = 4 × 62: larger bytes are thrown away, so that every character is equally likely.
            for byte in bytes
                .into_iter()
                .filter(|b| *b < 248)
                .take(RANDOM_CHARACTERS - drawn)
            {
                text.push(base62(u32::from(byte % 62)));
                drawn += 1;
            }
        }
        let check = checksum(&text);
        text.push_str(&check);
        Self(text)
    }

    /// Checks the form of a presented credential; says nothing about whether it is known.
    ///
    /// # Errors
    /// [`SecretError::Form`].
    pub fn check_form(presented: &[u8]) -> Result<(), SecretError> {
        let fits = (1..=CREDENTIAL_BYTES_MAX).contains(&presented.len());
        if fits && presented.iter().all(u8::is_ascii_graphic) {
            Ok(())
        } else {
            Err(SecretError::Form)
        }
    }

    /// Whether the text carries a correct checksum, as every key that Tollgate made does.
    #[must_use]
    pub fn has_valid_checksum(text: &str) -> bool {
        let Some(split) = text.len().checked_sub(CHECK_CHARACTERS) else {
            return false;
        };
        match (text.get(..split), text.get(split..)) {
            (Some(body), Some(check)) => checksum(body) == check,
            _ => false,
        }
    }

    /// The secret itself, to be shown once.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The last four characters, for recognition.
    #[must_use]
    pub fn last4(&self) -> &str {
        self.0.get(self.0.len().saturating_sub(4)..).unwrap_or("")
    }
}

impl fmt::Debug for KeySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySecret(..)")
    }
}

fn base62(digit: u32) -> char {
    char::from(BASE62.get(digit as usize).copied().unwrap_or(b'0'))
}

fn checksum(text: &str) -> String {
    let mut rest = crc32fast::hash(text.as_bytes());
    let mut out = [0u32; CHECK_CHARACTERS];
    for slot in out.iter_mut().rev() {
        *slot = rest % 62;
        rest /= 62;
    }
    out.into_iter().map(base62).collect()
}

/// Whether a key may be used. Expiry is not a state: it follows from the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyState {
    /// Usable.
    Active,
    /// Switched off for now.
    Disabled,
    /// Taken back for good.
    Revoked,
}

impl KeyState {
    /// As it stands in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Revoked => "revoked",
        }
    }

    /// Reads the stored spelling.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Active, Self::Disabled, Self::Revoked]
            .into_iter()
            .find(|s| s.as_str() == text)
    }
}

/// All that is known about a key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id.
    pub id: KeyId,
    /// The first key of its line of rotations; counters by key belong to the family.
    pub family: KeyId,
    /// Whose key it is.
    pub subscription: SubscriptionId,
    /// What people call it.
    pub name: String,
    /// The stored form of the secret.
    pub hash: KeyHash,
    /// For recognition: what stands before the random part, without the last underscore.
    pub prefix: String,
    /// For recognition.
    pub last4: String,
    /// Whether it may be used.
    pub state: KeyState,
    /// Test keys count and are limited like others, and are left out of statistics.
    pub test: bool,
    /// What it may do; `None`: all that the plan allows.
    pub scopes: Option<Vec<String>>,
    /// Where it may be used from; empty: anywhere.
    pub allowed_addresses: Vec<IpNet>,
    /// Its own limits, in addition to the plan's.
    pub limits: Vec<RateLimit>,
    /// Its own quota, in addition to the subscription's.
    pub quota: Option<Quota>,
    /// The caller's own name for it.
    pub external_id: Option<String>,
    /// The caller's own notes: a JSON object, as text.
    pub metadata: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
    /// When it was taken back.
    pub revoked_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counting(std::sync::atomic::AtomicU8);

    impl IdGen for Counting {
        fn uuid(&self, _at: Timestamp) -> u128 {
            0
        }
        fn fill(&self, secret: &mut [u8]) {
            for byte in secret {
                *byte = self.0.fetch_add(7, std::sync::atomic::Ordering::Relaxed);
            }
        }
    }

    #[test]
    fn keys_are_the_prefix_and_32_characters_with_a_checksum() {
        let ids = Counting(std::sync::atomic::AtomicU8::new(3));
        let key = KeySecret::generate("hm", false, &ids);
        assert_eq!(key.reveal().len(), 3 + 32);
        assert!(key.reveal().starts_with("hm_"));
        assert!(KeySecret::has_valid_checksum(key.reveal()));
        assert!(key.reveal().ends_with(key.last4()));
        let test = KeySecret::generate("hm", true, &ids);
        assert!(test.reveal().starts_with("hm_test_"));
        assert_eq!(test.reveal().len(), 8 + 32);
    }

    #[test]
    fn any_single_changed_character_breaks_the_checksum() {
        let ids = Counting(std::sync::atomic::AtomicU8::new(9));
        let key = KeySecret::generate("hm", false, &ids);
        for at in 0..key.reveal().len() {
            let mut bytes = key.reveal().as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'x' { b'y' } else { b'x' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(!KeySecret::has_valid_checksum(&changed), "{at}");
        }
    }

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        let ids = Counting(std::sync::atomic::AtomicU8::new(1));
        let key = KeySecret::generate("hm", false, &ids);
        let pepper = Pepper::new(b"pepper".to_vec());
        let shown = format!(
            "{key:?} {pepper:?} {:?}",
            pepper.hash(key.reveal().as_bytes())
        );
        assert_eq!(shown, "KeySecret(..) Pepper(..) KeyHash(..)");
    }

    #[test]
    fn a_key_imported_by_its_sha256_hashes_to_the_same_stored_form() {
        let pepper = Pepper::new(b"pepper".to_vec());
        let digest: [u8; 32] = Sha256::digest(b"old-key").into();
        assert_eq!(pepper.hash(b"old-key"), pepper.hash_sha256(&digest));
        assert_ne!(
            pepper.hash(b"old-key"),
            Pepper::new(b"other".to_vec()).hash(b"old-key")
        );
    }
}
