//! The checksum of a file's contents, and the only place that names its algorithm.
//!
//! Owns the type [`Checksum`] and its one spelling, `xxh3:` and 32 lower-case hexadecimal digits, which the
//! history keeps. xxh3 finds what disks, cables and memory do wrong; it is no signature and promises
//! nothing against somebody who forges a file. Pure: no file is read here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

const PREFIX: &str = "xxh3:";

/// A checksum of a file's contents: xxh3-128 with seed 0, shown and serialised as `xxh3:<32 hex>`.
///
/// The digits are the canonical form of the xxHash specification, as `xxhsum -H2` prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Checksum(u128);

/// A text that is no [`Checksum`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no checksum: expected \"xxh3:\" and 32 lower-case hexadecimal digits")]
pub struct BadChecksum(String);

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{:032x}", self.0)
    }
}

impl FromStr for Checksum {
    type Err = BadChecksum;

    fn from_str(text: &str) -> Result<Self, BadChecksum> {
        text.strip_prefix(PREFIX)
            // One value has one spelling, so capitals and the sign that the parser of numbers takes are refused.
            .filter(|digits| digits.len() == 32 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
            .and_then(|digits| u128::from_str_radix(digits, 16).ok())
            .map(Self)
            .ok_or_else(|| BadChecksum(text.to_owned()))
    }
}

impl TryFrom<String> for Checksum {
    type Error = BadChecksum;

    fn try_from(text: String) -> Result<Self, BadChecksum> {
        text.parse()
    }
}

impl From<Checksum> for String {
    fn from(checksum: Checksum) -> Self {
        checksum.to_string()
    }
}

/// Makes a [`Checksum`] of bytes that come in pieces.
#[derive(Default)]
pub(crate) struct Hasher(Xxh3);

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(&self) -> Checksum {
        Checksum(self.0.digest128())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(pieces: &[&[u8]]) -> String {
        let mut hasher = Hasher::default();
        for piece in pieces {
            hasher.update(piece);
        }
        hasher.finish().to_string()
    }

    #[test]
    fn known_contents_have_their_published_checksums() {
        assert_eq!(of(&[]), "xxh3:99aa06d3014798d86001c324468d497f");
        assert_eq!(of(&[b"a"]), "xxh3:a96faf705af16834e6c632b61e964e1f");
    }

    #[test]
    fn only_the_one_spelling_is_a_checksum() {
        let good = "xxh3:0123456789abcdef0123456789abcdef";
        assert_eq!(good.parse::<Checksum>().unwrap().to_string(), good);
        for bad in [
            "",
            "xxh3:",
            "0123456789abcdef0123456789abcdef",
            "md5:0123456789abcdef0123456789abcdef",
            "xxh3:0123456789ABCDEF0123456789abcdef",
            "xxh3:0123456789abcdef0123456789abcde",
            "xxh3:0123456789abcdef0123456789abcdef0",
            "xxh3:+123456789abcdef0123456789abcdef",
            " xxh3:0123456789abcdef0123456789abcdef",
        ] {
            assert_eq!(bad.parse::<Checksum>(), Err(BadChecksum(bad.to_owned())));
            assert!(serde_json::from_value::<Checksum>(bad.into()).is_err());
        }
    }

    proptest! {
        #[test]
        fn a_checksum_survives_being_written_and_read(number: u128) {
            let text = serde_json::to_string(&Checksum(number)).unwrap();
            prop_assert_eq!(serde_json::from_str::<Checksum>(&text).unwrap(), Checksum(number));
        }

        #[test]
        fn pieces_and_the_whole_have_the_same_checksum(bytes: Vec<u8>, cut: prop::sample::Index) {
            let cut = cut.index(bytes.len() + 1);
            let whole = Checksum(xxhash_rust::xxh3::xxh3_128(&bytes)).to_string();
            prop_assert_eq!(of(&[&bytes[..cut], &bytes[cut..]]), whole);
        }
    }
}
