//! The owner's token: where it is looked for, and in which order.
//!
//! Owns the precedence of its six places. The first place that is set decides: a file that was asked
//! for and cannot be read is an error, never a reason to go on with another token.

use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;

use camino::Utf8Path;

use super::env::Environment;
use super::{Config, ConfigError};
use crate::secret::Secret;

/// Where the token is when nothing says otherwise.
pub const DEFAULT_TOKEN_FILE: &str = "/etc/plexcache/token";

/// The longest token that is believed, in bytes. Those of Plex have some 20, JSON web tokens some 1000.
const LONGEST: usize = 8192;

/// Finds the token, and what should be said about the place it was found in.
///
/// In this order: `$PLEXCACHE_TOKEN_FILE`, `$CREDENTIALS_DIRECTORY/plex-token`, `plex.token_file`,
/// `plex.token`, `$PLEXCACHE_TOKEN`. When `plex.token_file` is not set, [`DEFAULT_TOKEN_FILE`] takes its
/// turn if it exists.
///
/// # Errors
/// There is none, or the first place that is set holds none that can be read.
pub fn token(config: &Config, env: &Environment) -> Result<(Secret, Vec<String>), ConfigError> {
    let mut looked = Vec::new();
    let mut warnings = Vec::new();

    let named = env.get("PLEXCACHE_TOKEN_FILE").map(Utf8Path::new);
    let credential = env.directory("CREDENTIALS_DIRECTORY").map(|directory| directory.join("plex-token"));
    let default = env.system_path(DEFAULT_TOKEN_FILE);
    let configured = config.plex.token_file.as_deref();
    // A file that someone named must be there; of the others it is enough to look.
    let files = [
        ("PLEXCACHE_TOKEN_FILE", named, true),
        ("CREDENTIALS_DIRECTORY", credential.as_deref(), false),
        ("plex.token_file", Some(configured.unwrap_or(&default)), configured.is_some()),
    ];
    for (place, file, must_exist) in files {
        let Some(file) = file else {
            looked.push(format!("${place} (not set)"));
            continue;
        };
        match read(file) {
            Ok(text) => {
                // The service manager protects its credentials in its own way.
                if place != "CREDENTIALS_DIRECTORY" && readable_by_others(file) {
                    warnings.push(format!("{file} holds the Plex token and others may read it: chmod 600 {file}"));
                }
                return Ok((checked(&format!("{file} ({place})"), &text)?, warnings));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => {
                looked.push(format!("{file} (does not exist)"));
            }
            Err(error) => {
                let hint = format!("put the token into {file} (mode 0600) or change {place}");
                return Err(ConfigError::of_io(&format!("{file} ({place}): cannot read the Plex token"), &error)
                    .with_hint(hint));
            }
        }
    }
    match &config.plex.token {
        Some(token) => return Ok((checked("plex.token", token.expose())?, warnings)),
        None => looked.push("plex.token (not set)".to_owned()),
    }
    match env.get("PLEXCACHE_TOKEN") {
        Some(token) => return Ok((checked("PLEXCACHE_TOKEN", token)?, warnings)),
        None => looked.push("$PLEXCACHE_TOKEN (not set)".to_owned()),
    }
    Err(ConfigError::new(format!("found no Plex token in {}", looked.join(", "))).with_hint(format!(
        "put the token into {DEFAULT_TOKEN_FILE} (mode 0600); Plex keeps it in Preferences.xml, as PlexOnlineToken"
    )))
}

/// The token that a file holds, for who was told to use it.
///
/// # Errors
/// The file cannot be read, or holds something else.
pub fn token_in(file: &Utf8Path) -> Result<Secret, ConfigError> {
    let text =
        read(file).map_err(|error| ConfigError::of_io(&format!("{file}: cannot read the Plex token"), &error))?;
    checked(file.as_str(), &text)
}

/// A pipe will do, too. Of what is too long no more is read than shows it.
fn read(file: &Utf8Path) -> io::Result<String> {
    io::read_to_string(std::fs::File::open(file)?.take(LONGEST as u64 + 1))
}

/// The token in `text`, which came from `place`. It goes into a header, so nothing but plain
/// characters may be in it.
fn checked(place: &str, text: &str) -> Result<Secret, ConfigError> {
    let token = Secret::new(text);
    let found = match token.expose() {
        "" => "nothing",
        text if text.len() > LONGEST => "a text that is too long",
        text if !text.bytes().all(|byte| byte.is_ascii_graphic()) => "more than one word",
        _ => return Ok(token),
    };
    Err(ConfigError::new(format!("{place}: found {found}, expected the Plex token and nothing else"))
        .with_hint("the token alone, on one line; Plex keeps it in Preferences.xml, as PlexOnlineToken"))
}

/// Whether the group or others may read `file`. What cannot be looked at is not complained about.
pub(super) fn readable_by_others(file: &Utf8Path) -> bool {
    std::fs::metadata(file).is_ok_and(|metadata| metadata.mode() & 0o044 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::OpenOptionsExt;

    use camino::Utf8PathBuf;

    struct Places {
        _temp: tempfile::TempDir,
        root: Utf8PathBuf,
        config: Config,
        variables: Vec<(String, String)>,
    }

    impl Places {
        fn new() -> Self {
            let temp = tempfile::tempdir().unwrap();
            let root = Utf8PathBuf::try_from(temp.path().to_owned()).unwrap();
            let text = "[plex]\nurl = \"http://a\"\n[[map]]\nplex = \"/d\"\narray = [\"/a\"]\ncache = \"/b\"\n";
            let env = Environment::new([], false, false);
            let config = super::super::parse(Utf8Path::new("c"), text, &env).unwrap();
            Self { _temp: temp, root, config, variables: Vec::new() }
        }

        fn file(&self, name: &str, text: &str, mode: u32) -> Utf8PathBuf {
            use std::io::Write;
            let path = self.root.join(name);
            #[expect(clippy::disallowed_methods, reason = "the test's own directory")]
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            path
        }

        fn set(&mut self, name: &str, value: &str) {
            self.variables.push((name.to_owned(), value.to_owned()));
        }

        fn find(&self) -> Result<(String, usize), ConfigError> {
            let env = Environment::new(self.variables.clone(), false, false).with_system(&self.root);
            token(&self.config, &env).map(|(secret, warnings)| (secret.expose().to_owned(), warnings.len()))
        }
    }

    #[test]
    fn every_place_is_beaten_by_those_before_it() {
        let mut places = Places::new();
        places.set("PLEXCACHE_TOKEN", "sixth");
        assert_eq!(places.find().unwrap().0, "sixth");
        places.config.plex.token = Some(Secret::new("fifth"));
        assert_eq!(places.find().unwrap().0, "fifth");
        places.file("etc/plexcache/token", "fourth\n", 0o600);
        assert_eq!(places.find().unwrap().0, "fourth");
        places.config.plex.token_file = Some(places.file("third", "third\n", 0o600));
        assert_eq!(places.find().unwrap().0, "third");
        let credential = places.file("cred/plex-token", "second", 0o440);
        places.set("CREDENTIALS_DIRECTORY", credential.parent().unwrap().as_str());
        assert_eq!(places.find().unwrap(), ("second".to_owned(), 0));
        let named = places.file("first", " first \n", 0o600);
        places.set("PLEXCACHE_TOKEN_FILE", named.as_str());
        assert_eq!(places.find().unwrap(), ("first".to_owned(), 0));
    }

    #[test]
    fn without_a_token_the_error_names_every_place() {
        let places = Places::new();
        let error = places.find().unwrap_err();
        let message = error.to_string();
        for place in [
            "PLEXCACHE_TOKEN_FILE",
            "CREDENTIALS_DIRECTORY",
            "/etc/plexcache/token",
            "plex.token ",
            "$PLEXCACHE_TOKEN ",
        ] {
            assert!(message.contains(place), "{place} in {message}");
        }
        assert!(error.hint().unwrap().contains("Preferences.xml"));
    }

    #[test]
    fn a_named_file_that_is_missing_or_empty_is_an_error_and_not_passed_over() {
        let mut places = Places::new();
        places.set("PLEXCACHE_TOKEN", "other");
        places.config.plex.token_file = Some(places.root.join("missing"));
        assert!(places.find().unwrap_err().to_string().contains("missing (plex.token_file)"));
        places.config.plex.token_file = Some(places.file("empty", "\n", 0o600));
        assert!(places.find().unwrap_err().to_string().contains("found nothing"));
        places.config.plex.token_file = Some("/dev/zero".into());
        assert!(places.find().unwrap_err().to_string().contains("found a text that is too long"));
        places.config.plex.token_file = Some(places.file("two", "abc def", 0o600));
        let message = places.find().unwrap_err().to_string();
        assert!(message.contains("more than one word") && !message.contains("abc"), "{message}");
    }

    #[test]
    fn a_token_file_that_others_may_read_is_warned_about() {
        for (mode, warnings) in [(0o600, 0), (0o640, 1), (0o604, 1)] {
            let mut places = Places::new();
            places.config.plex.token_file = Some(places.file("token", "abc", mode));
            assert_eq!(places.find().unwrap(), ("abc".to_owned(), warnings), "{mode:o}");
        }
    }
}
