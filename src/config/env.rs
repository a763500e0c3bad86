//! The environment of the process, as far as it configures anything.
//!
//! Owns the names of all variables and the overrides `PLEXCACHE_SECTION__KEY`. Nothing else reads
//! the environment of the process, so that a test sets up its own. A variable of that form which
//! names no key is refused, like an unknown key in the file; one that is empty counts as not set,
//! because templates of containers set every variable they know.

use std::collections::BTreeMap;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use super::ConfigError;
use super::file::Document;

const PREFIX: &str = "PLEXCACHE_";
/// Tables of `[users]` whose keys are names.
const USER_TABLES: [&str; 3] = ["tokens", "pin_files", "override"];

/// The variables and what else about the process decides where files are.
pub struct Environment {
    variables: BTreeMap<String, String>,
    unraid: bool,
    root_user: bool,
    /// Where `/etc` and its kin are looked for. Only tests have another one than `/`.
    system: Utf8PathBuf,
}

impl Environment {
    /// What this process was started with.
    ///
    /// Bytes that are not UTF-8 become U+FFFD: such a value then fails as what it is, and by name.
    pub fn of_process() -> Self {
        let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        let variables = std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value)));
        let mut own = Self::new(variables, false, rustix::process::geteuid().is_root());
        // For the tests of the binary, which have a machine of their own. A release build knows none.
        if cfg!(debug_assertions)
            && let Some(system) = own.directory("PLEXCACHE_TEST_SYSTEM")
        {
            own.system = system.to_owned();
        }
        own.unraid = own.system_path("/etc/unraid-version").exists();
        own
    }

    /// An environment made up of `variables`, on Unraid or not, run by root or not.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>, unraid: bool, root_user: bool) -> Self {
        Self { variables: variables.into_iter().collect(), unraid, root_user, system: "/".into() }
    }

    #[cfg(test)]
    pub(crate) fn with_system(self, system: &Utf8Path) -> Self {
        Self { system: system.to_owned(), ..self }
    }

    /// The value of a variable that is set and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// An absolute path in a variable. The XDG specification has relative ones ignored.
    pub(crate) fn directory(&self, name: &str) -> Option<&Utf8Path> {
        self.get(name).map(Utf8Path::new).filter(|path| path.is_absolute())
    }

    pub(crate) fn on_unraid(&self) -> bool {
        self.unraid
    }

    pub(crate) fn is_root(&self) -> bool {
        self.root_user
    }

    /// The pause before the first retry, for the tests of the binary, which would wait for seconds
    /// otherwise. `None` in a release build.
    pub(crate) fn first_pause(&self) -> Option<Duration> {
        let told = cfg!(debug_assertions).then(|| self.get("PLEXCACHE_TEST_PAUSE_MS")).flatten();
        told?.parse().ok().map(Duration::from_millis)
    }

    /// A fixed path of the system, such as `/etc/plexcache/token`.
    pub(crate) fn system_path(&self, absolute: &str) -> Utf8PathBuf {
        self.system.join(absolute.trim_start_matches('/'))
    }

    /// Lays every override over the file. Says whether there was any.
    pub(super) fn apply<'t>(&'t self, document: &mut Document<'t>) -> Result<bool, ConfigError> {
        let mut overrides: Vec<_> = self
            .variables
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .filter_map(|(name, value)| Some((key_path(name)?, name, value)))
            .collect();
        // Maps in the order of their numbers, so that `MAP__10` comes after `MAP__9`; a table before
        // what is in it.
        overrides.sort_by_cached_key(|(path, ..)| {
            let number = path.get(1).and_then(|index| index.parse::<u64>().ok());
            (path[0].clone(), number, path.clone())
        });
        let any = !overrides.is_empty();
        for (path, name, value) in overrides {
            document.set(name, path, value)?;
        }
        Ok(any)
    }
}

/// The key that a variable sets; `None` when its name has not the form of an override.
///
/// Names of users keep their case, as Plex tells `ben` from `Ben`; everything else is lower case.
fn key_path(variable: &str) -> Option<Vec<String>> {
    let rest = variable.strip_prefix(PREFIX).filter(|rest| rest.contains("__"))?;
    let mut path: Vec<String> = Vec::new();
    for name in rest.split("__") {
        let is_user =
            matches!(path.as_slice(), [users, table] if users == "users" && USER_TABLES.contains(&table.as_str()));
        path.push(if is_user { name.to_owned() } else { name.to_ascii_lowercase() });
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::File;

    const FILE: &str = "[plex]\nurl = \"http://a\"\n[[map]]\nplex = \"/data\"\narray = [\"/a\"]\ncache = \"/b\"\n";

    fn with(variables: &[(&str, &str)]) -> Result<File, ConfigError> {
        let pairs = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let env = Environment::new(pairs, false, false);
        let mut document = Document::parse(Utf8Path::new("c.toml"), FILE)?;
        env.apply(&mut document)?;
        document.typed()
    }

    #[test]
    fn an_override_is_read_as_the_type_of_its_key() {
        let file = with(&[
            ("PLEXCACHE_PLEX__URL", "https://b:1"),
            ("PLEXCACHE_PLEX__MACHINE_ID", "0123"),
            ("PLEXCACHE_SELECT__NEXT_EPISODES", "7"),
            ("PLEXCACHE_SELECT__ON_DECK", "false"),
            ("PLEXCACHE_SELECT__LIBRARIES", "Films, 2"),
            ("PLEXCACHE_SELECT__PLAYLISTS", "[\"a, b\"]"),
            ("PLEXCACHE_LIMITS__MAX_SIZE", "60%"),
            ("PLEXCACHE_LIMITS__MIN_FREE", "1000"),
            ("PLEXCACHE_EVICT__UNDO_HOLD", "0"),
            ("PLEXCACHE_USERS__TOKENS__Ben", "xyz"),
            ("PLEXCACHE_USERS__OVERRIDE__anna__NEXT_EPISODES", "1"),
            ("PLEXCACHE_PLEX__ENDPOINTS__ACCOUNT", "http://c"),
        ])
        .unwrap();
        assert_eq!(file.plex.url, "https://b:1");
        assert_eq!(file.plex.machine_id.as_deref(), Some("0123"));
        assert_eq!(file.select.next_episodes, 7);
        assert!(!file.select.on_deck);
        assert_eq!(file.select.libraries, ["Films", "2"]);
        assert_eq!(file.select.playlists, ["a, b"]);
        assert_eq!(file.limits.max_size.to_string(), "60%");
        assert_eq!(file.limits.min_free.to_string(), "1KB");
        assert!(file.evict.undo_hold.is_zero());
        assert_eq!(file.users.tokens["Ben"].expose(), "xyz");
        assert_eq!(file.users.overrides["anna"].next_episodes, Some(1));
        assert_eq!(file.plex.endpoints.account.as_deref(), Some("http://c"));
    }

    #[test]
    fn maps_are_overridden_and_added_by_their_number() {
        let mut variables = vec![("PLEXCACHE_MAP__0__CACHE", "/c".to_owned())];
        let names: Vec<String> = (1..=10).map(|index| format!("PLEXCACHE_MAP__{index}__PLEX")).collect();
        variables.extend(names.iter().map(|name| (name.as_str(), format!("/{name}"))));
        let pairs: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let file = with(&pairs).unwrap();
        assert_eq!(file.map.len(), 11);
        assert_eq!(file.map[0].cache.as_ref().unwrap().0, "/c");
        assert_eq!(file.map[0].plex.as_deref(), Some("/data"));
        assert_eq!(file.map[10].plex.as_deref(), Some("/PLEXCACHE_MAP__10__PLEX"));

        let whole = with(&[("PLEXCACHE_MAP__0", "{ plex = \"/x\", array = [\"/y\"], cache = \"/z\" }")]).unwrap();
        assert_eq!(whole.map.len(), 1);
        assert_eq!(whole.map[0].plex.as_deref(), Some("/x"));
    }

    #[test]
    fn a_bad_override_names_its_variable() {
        for (name, value, message) in [
            ("PLEXCACHE_SELECT__NEXT_EPISODE", "1", "found an unknown key `next_episode`"),
            ("PLEXCACHE_SELCT__ON_DECK", "true", "found an unknown key `selct`"),
            ("PLEXCACHE_SELECT__", "1", "found an unknown key ``"),
            ("PLEXCACHE_SELECT__NEXT_EPISODES", "five", "found string \"five\", expected a whole number"),
            ("PLEXCACHE_SELECT__ON_DECK", "yes", "found string \"yes\", expected true or false"),
            ("PLEXCACHE_SELECT__LIBRARIES", "[Films", ""),
            ("PLEXCACHE_SELECT__LIBRARIES__0", "Films", "expected a list"),
            ("PLEXCACHE_MAP__2__PLEX", "/x", "counted from 0 and without gaps"),
            ("PLEXCACHE_MAP__ONE__PLEX", "/x", "the number of a [[map]]"),
            ("PLEXCACHE_PLEX__URL__X", "y", "expected"),
        ] {
            let error = with(&[(name, value)]).err().unwrap_or_else(|| panic!("{name} was accepted")).to_string();
            assert!(error.starts_with(&format!("{name}: ")) && error.contains(message), "{error}");
        }
    }

    #[test]
    fn single_words_foreign_names_and_empty_values_are_no_overrides() {
        for (name, value) in [
            ("PLEXCACHE_CONFIG", "x"),
            ("PLEXCACHE_PORT_80_TCP", "x"),
            ("OTHER_SELECT__ON_DECK", "x"),
            ("PLEXCACHE_SELECT__ON_DECK", ""),
        ] {
            assert!(with(&[(name, value)]).unwrap().select.on_deck, "{name}");
        }
    }

    #[test]
    fn no_message_about_a_variable_shows_a_token() {
        let error = with(&[("PLEXCACHE_PLEX__TOKEN_FILE", "abc123")]).err().unwrap().to_string();
        assert!(!error.contains("abc123"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn whatever_variables_there_are_the_answer_is_a_file_or_an_error(
            variables in proptest::collection::vec((
                "(MAP|PLEX|USERS|SELECT)(__(MAP|PLEX|TOKENS|OVERRIDE|RSS|0|1|x|)){1,4}",
                "[\\[{\"a,=1\\]}. ]{1,6}",
            ), 1..4),
        ) {
            let named: Vec<_> = variables.iter().map(|(name, value)| (format!("{PREFIX}{name}"), value)).collect();
            let pairs: Vec<_> = named.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            if let Err(error) = with(&pairs) {
                proptest::prop_assert!(named.iter().any(|(name, _)| error.to_string().starts_with(name)), "{error}");
            }
        }
    }
}
