//! Values of which one copy serves everybody: names of maps and users, paths, titles, reasons.
//!
//! Owns the pool that finds a value again. A cache may hold a hundred thousand units, and each is named by the
//! history, by what was wanted before, by what is wanted now and by the plan, all in the same words. Refuses
//! changes: whoever needs another value makes another one. Invariant: equal values are one piece of memory as
//! long as anybody holds it, and what nobody holds is let go of before the pool has twice as much.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::ops::Deref;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use camino::{Utf8Path, Utf8PathBuf};
use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// As many values may lie idle in a pool without being looked at.
const IDLE: usize = 4096;

/// The values of one type that are held somewhere.
pub(crate) struct Pool<T: ?Sized>(LazyLock<Mutex<HashSet<Arc<T>, Seed>>>);

/// Makes [`Quick`] hashers. A pool is asked for every text of every file that is read.
#[derive(Clone)]
struct Seed(u64);

impl Default for Seed {
    fn default() -> Self {
        // Nobody can choose names that meet in one place.
        Self(RandomState::new().hash_one(()))
    }
}

impl BuildHasher for Seed {
    type Hasher = Quick;

    fn build_hasher(&self) -> Quick {
        Quick(self.0)
    }
}

/// A hasher that is quick with texts of the length of a path.
struct Quick(u64);

impl Hasher for Quick {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn write_u8(&mut self, byte: u8) {
        // The end of a text, which only has to be told from none.
        self.0 = self.0.wrapping_add(u64::from(byte));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl<T: ?Sized + Eq + Hash> Pool<T> {
    pub(crate) const fn new() -> Self {
        Self(LazyLock::new(Mutex::default))
    }

    /// The one copy of `value`.
    pub(crate) fn share<'v>(&self, value: &'v T) -> Arc<T>
    where
        Arc<T>: From<&'v T>,
    {
        // A panic elsewhere leaves a set that is whole.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = known.get(value) {
            return Arc::clone(shared);
        }
        // When it would grow; and then it grows unless half of it was idle, so that no value is looked at often.
        if known.len() >= IDLE && known.len() == known.capacity() {
            known.retain(|shared| Arc::strong_count(shared) > 1);
            if known.len() > known.capacity() / 2 {
                let more = known.len();
                known.reserve(more);
            }
        }
        let shared = Arc::from(value);
        known.insert(Arc::clone(&shared));
        shared
    }
}

static TEXTS: Pool<str> = Pool::new();

/// A text that costs nothing to copy.
#[derive(Clone)]
pub struct Text(Arc<str>);

impl Text {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(TEXTS.share(text))
    }
}

impl From<&String> for Text {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        // Not by the pool's invariant: that is about memory, and this about truth.
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Eq for Text {}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        *self.0 == **other
    }
}

impl PartialEq<String> for Text {
    fn eq(&self, other: &String) -> bool {
        *self.0 == **other
    }
}

impl PartialEq<Text> for String {
    fn eq(&self, other: &Text) -> bool {
        **self == *other.0
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyText;

        impl Visitor<'_> for AnyText {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
                Ok(text.into())
            }
        }

        deserializer.deserialize_str(AnyText)
    }
}

/// The path of a root, which all files below it have in common.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SharedPath(Text);

impl SharedPath {
    pub fn as_path(&self) -> &Utf8Path {
        Utf8Path::new(self.0.as_str())
    }
}

impl<P: AsRef<Utf8Path>> From<P> for SharedPath {
    fn from(path: P) -> Self {
        Self(path.as_ref().as_str().into())
    }
}

impl Deref for SharedPath {
    type Target = Utf8Path;

    fn deref(&self) -> &Utf8Path {
        self.as_path()
    }
}

impl PartialEq<Utf8PathBuf> for SharedPath {
    fn eq(&self, other: &Utf8PathBuf) -> bool {
        // Paths are compared by their components, which takes longer.
        self.0 == other.as_str() || self.as_path() == other
    }
}

impl PartialEq<SharedPath> for Utf8PathBuf {
    fn eq(&self, other: &SharedPath) -> bool {
        self == other.as_path()
    }
}

impl fmt::Debug for SharedPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for SharedPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one_piece_of_memory_as_long_as_one_is_held() {
        let pool = Pool::<str>::new();
        let (one, other) = (pool.share("a"), pool.share(&String::from("a")));
        assert!(Arc::ptr_eq(&one, &other));
        assert!(!Arc::ptr_eq(&one, &pool.share("b")));
    }

    #[test]
    fn what_nobody_holds_is_let_go_of() {
        let pool = Pool::<str>::new();
        let held: Vec<Arc<str>> = (0..100).map(|number| pool.share(&format!("held {number}"))).collect();
        for number in 0..100 * IDLE {
            pool.share(&format!("idle {number}"));
        }
        assert!(pool.0.lock().unwrap().len() <= 4 * IDLE);
        assert!(Arc::ptr_eq(&held[7], &pool.share("held 7")));
    }

    #[test]
    fn a_text_is_read_and_written_as_one() {
        let text: Text = serde_json::from_str(r#""\u00e9 \"""#).unwrap();
        assert_eq!(text, "é \"");
        assert_eq!(serde_json::to_string(&text).unwrap(), r#""é \"""#);
        assert!(serde_json::from_str::<Text>("7").is_err());
    }
}
