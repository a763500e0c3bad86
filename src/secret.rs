//! A text that must not be seen: the Plex token and its kin.
//!
//! Owns the one rule that keeps tokens out of logs, messages, the history and panic texts: a
//! [`Secret`] shows itself as `***` through `Debug` and `Display` and cannot be serialised. Whoever
//! needs the text says so with [`Secret::expose`], which is easy to search for.

use std::fmt;

use serde::Deserialize;

/// A token or password. Never printed, never serialised.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`, without the white space that files and copy-and-paste leave around it.
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// The text itself. Only the HTTP client has a reason to call this.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is no text at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_shows_its_text() {
        let secret = Secret::new(" abc \n");
        assert_eq!(secret.expose(), "abc");
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "*** *** Some(***)");
    }
}
