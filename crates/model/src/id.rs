//! Names of things. Declared ids come from `catalog.toml`; made ids carry a type prefix and an
//! underscore, which declared ids cannot contain, so the two never collide (docs/rules.md, 19).

use std::fmt;
use std::sync::Arc;

/// Longest declared id, in bytes.
const DECLARED_ID_BYTES_MAX: usize = 63;

/// Why a declared id was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an id is 1 to 63 characters of a-z, 0-9 and -, and starts with a letter or digit")]
pub struct IdError;

/// Checks an id that a person wrote: `[a-z0-9][a-z0-9-]{0,62}`.
///
/// # Errors
/// [`IdError`] when it does not match.
pub fn check_catalog_id(id: &str) -> Result<(), IdError> {
    let bytes = id.as_bytes();
    let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let starts_well = bytes.first().is_some_and(plain);
    let rest_is_fine = bytes.iter().all(|b| plain(b) || *b == b'-');
    if starts_well && rest_is_fine && bytes.len() <= DECLARED_ID_BYTES_MAX {
        Ok(())
    } else {
        Err(IdError)
    }
}

/// 26 characters of Crockford's base32 (lower case), most significant first, so that ids made
/// from UUIDv7 sort by time.
#[must_use]
pub fn base32_u128(value: u128) -> String {
    let mut out = [0u8; 26];
    write_base32(value, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

fn write_base32(mut value: u128, out: &mut [u8; 26]) {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    for slot in out.iter_mut().rev() {
        let digit = usize::from((value & 31) as u8);
        *slot = ALPHABET.get(digit).copied().unwrap_or(b'0');
        value >>= 5;
    }
}

macro_rules! string_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The type prefix of ids that Tollgate makes itself.
            pub const PREFIX: &'static str = $prefix;

            /// An id as it stands in a store or a request; not checked.
            #[must_use]
            pub fn new(id: &str) -> Self {
                Self(Arc::from(id))
            }

            /// An id that a person declared.
            ///
            /// # Errors
            /// [`IdError`] when it breaks the pattern (docs/rules.md, 19).
            pub fn declared(id: &str) -> Result<Self, IdError> {
                check_catalog_id(id).map(|()| Self::new(id))
            }

            /// An id made from a UUIDv7: the type prefix, `_`, 26 characters.
            #[must_use]
            pub fn made(uuid: u128) -> Self {
                Self(Arc::from(format!("{}_{}", $prefix, base32_u128(uuid))))
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

string_id!(
    /// An offered service.
    ApiId, "api"
);
string_id!(
    /// A named limit.
    LimitId, "lim"
);
string_id!(
    /// A plan.
    PlanId, "plan"
);
string_id!(
    /// A customer account.
    OrganizationId, "org"
);
string_id!(
    /// What an organization bought.
    SubscriptionId, "sub"
);
string_id!(
    /// An API key (its name, not its secret).
    KeyId, "key"
);
string_id!(
    /// An access token of the platform API.
    TokenId, "tok"
);
string_id!(
    /// A gateway; made once and kept in its journal folder.
    NodeId, "node"
);

/// `req_` and 26 base32 characters of a UUIDv7, minted when a request is accepted; also the id
/// of its usage record (docs/rules.md, 17). Kept as text because every request sends it thrice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId([u8; 30]);

impl RequestId {
    /// Formats the id once.
    #[must_use]
    pub fn from_uuid(uuid: u128) -> Self {
        let mut digits = [0u8; 26];
        write_base32(uuid, &mut digits);
        let mut text = *b"req_00000000000000000000000000";
        for (slot, digit) in text.iter_mut().skip(4).zip(digits) {
            *slot = digit;
        }
        Self(text)
    }

    /// Reads the textual form back.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; 30] = text.as_bytes().try_into().ok()?;
        let digits_are_fine = bytes.iter().skip(4).all(u8::is_ascii_alphanumeric);
        (bytes.starts_with(b"req_") && digits_are_fine).then_some(Self(bytes))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("req_")
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_ids_follow_the_pattern() {
        for good in ["a", "acme-widgets", "0", &"a".repeat(63)] {
            assert!(check_catalog_id(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "A", "a_b", "a.b", &"a".repeat(64), "ä"] {
            assert!(check_catalog_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn made_ids_cannot_collide_with_declared_ones() {
        let made = SubscriptionId::made(7);
        assert_eq!(made.as_str(), "sub_00000000000000000000000007");
        assert!(SubscriptionId::declared(made.as_str()).is_err());
    }

    #[test]
    fn request_ids_sort_by_their_number_and_read_back() {
        let low = RequestId::from_uuid(1);
        let high = RequestId::from_uuid(u128::MAX);
        assert!(low < high);
        assert_eq!(high.as_str().len(), 30);
        assert_eq!(RequestId::parse(high.as_str()), Some(high));
        assert_eq!(RequestId::parse("req_short"), None);
    }
}
