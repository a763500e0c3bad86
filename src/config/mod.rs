//! The configuration: found, read, checked.
//!
//! Owns the way from a TOML file and the environment to a [`Config`] that the rest of the program can
//! believe without looking again: every value in its range, every path absolute, no root in another.
//! Refuses a key that it does not know instead of ignoring it. Nothing here changes a file, talks to
//! Plex or looks at a root.

mod env;
mod file;
mod globs;
#[cfg(any(test, fuzzing))]
pub(crate) mod hostile;
mod map;
mod sections;
mod token;
mod values;

use std::fmt;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};

pub use env::Environment;
pub use globs::{Globs, Pins};
pub use map::Map;
pub use sections::{Endpoints, Evict, Limits, Override, Plex, Safety, Select, State, Transfer, Users};
pub use token::{DEFAULT_TOKEN_FILE, token, token_in};
pub use values::{
    BadValue, HostTask, Placement, Rate, Sidecars, Size, Verify, Versions, format_duration, parse_bytes, parse_duration,
};

use file::{Document, File};

/// Where the state is when nothing says otherwise and root runs the program.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/plexcache";

/// Everything that is configured, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub plex: Plex,
    pub users: Users,
    pub select: Select,
    /// At least one.
    pub maps: Vec<Map>,
    pub limits: Limits,
    pub evict: Evict,
    pub transfer: Transfer,
    pub safety: Safety,
    pub state: State,
}

/// A configuration and where it came from.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    pub file: Utf8PathBuf,
    /// What should be said about it, one sentence each.
    pub warnings: Vec<String>,
}

/// What is wrong with the configuration: `FILE:LINE: [section] key: found …, expected …`, or the name
/// of a variable in place of file and line.
#[derive(Debug)]
pub struct ConfigError {
    message: String,
    hint: Option<String>,
    denied: bool,
}

impl ConfigError {
    fn new(message: String) -> Self {
        Self { message, hint: None, denied: false }
    }

    fn of_io(what: &str, error: &io::Error) -> Self {
        let denied = error.kind() == io::ErrorKind::PermissionDenied;
        Self { message: format!("{what}: {error}"), hint: None, denied }
    }

    fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Whether a file may not be read, which has an exit status of its own.
    pub fn is_permission_denied(&self) -> bool {
        self.denied
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConfigError {}

/// Finds the file, lays the overrides of the environment over it and checks the result.
///
/// The file is `explicit`, else `$PLEXCACHE_CONFIG`, else the first that exists of
/// `$XDG_CONFIG_HOME/plexcache/config.toml` (or below `~/.config`), on Unraid
/// `/boot/config/plugins/plexcache/config.toml`, and `/etc/plexcache/config.toml`.
///
/// # Errors
/// There is no file, it cannot be read, or the first thing that is wrong in it.
pub fn load(explicit: Option<&Utf8Path>, env: &Environment) -> Result<Loaded, ConfigError> {
    let (file, text) = find(explicit, env)?;
    let mut warnings = Vec::new();
    let config = parse_with(&file, &text, env, |written| {
        let secrets = written.plex.token.is_some() || !written.users.tokens.is_empty();
        if secrets && token::readable_by_others(&file) {
            warnings.push(format!("{file} holds a Plex token and others may read it: chmod 600 {file}"));
        }
    })?;
    if config.plex.insecure_tls {
        warnings.push("plex.insecure_tls: any certificate is taken for that of the Plex server".to_owned());
    }
    Ok(Loaded { config, file, warnings })
}

/// Checks `text` as if it had been read from `file`, with the overrides of the environment.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(file: &Utf8Path, text: &str, env: &Environment) -> Result<Config, ConfigError> {
    parse_with(file, text, env, |_| ())
}

fn parse_with(
    file: &Utf8Path,
    text: &str,
    env: &Environment,
    as_written: impl FnOnce(&File),
) -> Result<Config, ConfigError> {
    let mut document = Document::parse(file, text)?;
    let mut typed = document.typed()?;
    as_written(&typed);
    if env.apply(&mut document)? {
        typed = document.typed()?;
    }
    checked(typed, &document)
}

/// The first file in the search order, and its text.
fn find(explicit: Option<&Utf8Path>, env: &Environment) -> Result<(Utf8PathBuf, String), ConfigError> {
    let cannot_read = |file: &Utf8Path, error: &io::Error| {
        ConfigError::of_io(&format!("{file}: cannot read the configuration"), error)
    };
    if let Some(file) = explicit.or_else(|| env.get("PLEXCACHE_CONFIG").map(Utf8Path::new)) {
        return match std::fs::read_to_string(file) {
            Ok(text) => Ok((file.to_owned(), text)),
            Err(error) => Err(cannot_read(file, &error).with_hint(
                "`plexcache init` writes one; examples/config.toml and plexcache.toml(5) explain every key",
            )),
        };
    }
    let candidates = candidates(env);
    for file in &candidates {
        match std::fs::read_to_string(file) {
            Ok(text) => return Ok((file.clone(), text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(cannot_read(file, &error)),
        }
    }
    let looked: Vec<&str> = candidates.iter().map(|file| file.as_str()).collect();
    Err(ConfigError::new(format!("found no configuration; looked for {}", looked.join(", ")))
        .with_hint("`plexcache init` writes one, or start from examples/config.toml; --config names another file"))
}

/// Where the file is looked for, in this order.
fn candidates(env: &Environment) -> Vec<Utf8PathBuf> {
    let home = env.directory("HOME").map(|home| home.join(".config"));
    let user = env.directory("XDG_CONFIG_HOME").map(Utf8Path::to_owned).or(home);
    let unraid = env.on_unraid().then(|| env.system_path("/boot/config/plugins/plexcache/config.toml"));
    let user = user.map(|directory| directory.join("plexcache/config.toml"));
    user.into_iter().chain(unraid).chain([env.system_path("/etc/plexcache/config.toml")]).collect()
}

/// Where a new file belongs: in the place of the one that would be read, so that none hides it, else where
/// root (for the machine) or the user will find it.
pub fn place_for_new(explicit: Option<&Utf8Path>, env: &Environment) -> Utf8PathBuf {
    if let Some(file) = explicit.or_else(|| env.get("PLEXCACHE_CONFIG").map(Utf8Path::new)) {
        return file.to_owned();
    }
    let candidates = candidates(env);
    let there = candidates.iter().find(|file| file.exists());
    let for_machine = candidates.iter().find(|file| file.starts_with(env.system_path("/boot"))).or(candidates.last());
    let usual = if env.is_root() { for_machine } else { candidates.first() };
    there.or(usual).cloned().unwrap_or_else(|| env.system_path("/etc/plexcache/config.toml"))
}

/// Checks what no section can tell alone.
fn checked(file: File, document: &Document<'_>) -> Result<Config, ConfigError> {
    let File { version, plex, users, select, map, limits, evict, transfer, safety, state } = file;
    if let Some(found) = version.filter(|version| *version != 1) {
        return Err(document
            .error(&["version"], format!("found {found}, expected 1"))
            .with_hint("a file of a newer release needs that release"));
    }
    if !document.has("plex.url") {
        return Err(document.error(&["plex", "url"], "missing, expected the address of the Plex server"));
    }
    if plex.timeout.is_zero() {
        return Err(document.error(&["plex", "timeout"], "found 0, expected a duration of at least `1s`"));
    }
    for (table, mut names) in [
        ("tokens", users.tokens.keys().collect::<Vec<_>>().into_iter()),
        ("pin_files", users.pin_files.keys().collect::<Vec<_>>().into_iter()),
        ("override", users.overrides.keys().collect::<Vec<_>>().into_iter()),
    ] {
        if let Some(name) = names.find(|name| name.trim().is_empty()) {
            return Err(document.error(&["users", table, name], "found an empty name, expected that of a user"));
        }
    }
    if let Some((name, _)) = users.tokens.iter().find(|(_, token)| token.expose().trim().is_empty()) {
        return Err(document.error(&["users", "tokens", name], "found nothing, expected the token of that user"));
    }
    // What is refused is not shown: the address of a feed is as good as a password.
    let is_address = |text: &String| {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '['))
            && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'@' && byte != b'#')
    };
    if !select.rss.iter().all(is_address) {
        return Err(document.error(
            &["select", "rss"],
            "found something else (not shown), expected addresses such as https://rss.plex.tv/…",
        ));
    }
    if map.is_empty() {
        return Err(document
            .error(&[], "found no [[map]], expected at least one")
            .with_hint("a [[map]] says where a folder of Plex is on the array and on the cache"));
    }
    let maps = map::checked(map, document)?;
    Ok(Config { plex, users, select, maps, limits, evict, transfer, safety, state })
}

/// The directory of the state.
///
/// `cli`, else `$PLEXCACHE_STATE_DIR`, else `state.dir` when it is set, else the first directory in
/// `$STATE_DIRECTORY` (systemd), else [`DEFAULT_STATE_DIR`] for root and
/// `$XDG_STATE_HOME/plexcache` (or below `~/.local/state`) for everybody else.
pub fn state_dir(cli: Option<&Utf8Path>, config: &Config, env: &Environment) -> Utf8PathBuf {
    let named = cli.or_else(|| env.get("PLEXCACHE_STATE_DIR").map(Utf8Path::new)).or(config.state.dir.as_deref());
    if let Some(directory) = named {
        return directory.to_owned();
    }
    let systemd = env.get("STATE_DIRECTORY").and_then(|list| list.split(':').next()).map(Utf8Path::new);
    if let Some(directory) = systemd.filter(|directory| directory.is_absolute()) {
        return directory.to_owned();
    }
    let home = || env.directory("HOME").map(|home| home.join(".local/state"));
    match env.directory("XDG_STATE_HOME").map(Utf8Path::to_owned).or_else(home) {
        Some(directory) if !env.is_root() => directory.join("plexcache"),
        _ => DEFAULT_STATE_DIR.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::OpenOptionsExt;

    const EXAMPLE: &str = include_str!("../../examples/config.toml");
    const MAN_PAGE: &str = include_str!("../../man/plexcache.toml.5");
    const MINIMAL: &str = "[plex]\nurl = \"http://a\"\n[[map]]\nplex = \"/d\"\narray = [\"/a\"]\ncache = \"/b\"\n";

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::new(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())), false, false)
    }

    fn check(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        parse(Utf8Path::new("c.toml"), text, &environment(variables))
    }

    fn temporary() -> (tempfile::TempDir, Utf8PathBuf) {
        let temp = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::try_from(temp.path().to_owned()).unwrap();
        (temp, root)
    }

    fn put(path: &Utf8Path, text: &str, mode: u32) {
        use std::io::Write;
        #[expect(clippy::disallowed_methods, reason = "the test's own directory")]
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn the_example_has_every_default() {
        let example = check(EXAMPLE, &[]).unwrap();
        let defaults = Config {
            plex: Plex { url: "http://127.0.0.1:32400".to_owned(), ..Plex::default() },
            users: Users::default(),
            select: Select::default(),
            maps: vec![Map {
                plex: "/data/media".to_owned(),
                array: vec!["/mnt/disk1/media".into(), "/mnt/disk2/media".into()],
                cache: "/mnt/cache/media".into(),
                merged: Some("/mnt/user/media".into()),
                placement: Placement::Copy,
                cacheable: true,
            }],
            limits: Limits::default(),
            evict: Evict::default(),
            transfer: Transfer::default(),
            safety: Safety::default(),
            state: State::default(),
        };
        assert_eq!(example, defaults);
    }

    /// The example with its commented settings in force.
    fn whole_example() -> String {
        let setting = |line: &str| line.starts_with(|c: char| c.is_ascii_lowercase() || matches!(c, '[' | '"'));
        let uncommented =
            EXAMPLE.lines().map(|line| line.strip_prefix('#').filter(|rest| setting(rest)).unwrap_or(line));
        uncommented.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_commented_settings_of_the_example_are_right_too() {
        let text = whole_example();
        let typed = Document::parse(Utf8Path::new("example"), &text).and_then(|document| document.typed()).unwrap();
        assert_eq!(typed.plex.token_file.as_deref().map(Utf8Path::as_str), Some(DEFAULT_TOKEN_FILE));
        assert_eq!(typed.state.dir.as_deref().map(Utf8Path::as_str), Some(DEFAULT_STATE_DIR));
        assert_eq!(typed.select, Select::default());
        assert_eq!(typed.safety, Safety::default());
        assert_eq!(typed.users.overrides["anna"].next_episodes, Some(10));
    }

    #[test]
    fn every_key_stands_in_the_example_and_in_the_man_page() {
        let text = whole_example().replace("\"anna\"", "NAME");
        let document = Document::parse(Utf8Path::new("example"), &text).unwrap();
        let keys = file::known_keys();
        assert!(keys.len() > 50, "{keys:?}");
        for path in keys {
            assert!(document.has(&path.join(".")), "{path:?} is not in the example");
            let key = path.last().unwrap();
            let entry = |line: &str| {
                line.strip_prefix(".It Ic ").is_some_and(|rest| rest.split_whitespace().any(|word| word == key))
            };
            assert!(MAN_PAGE.lines().any(entry), "{key} has no entry in the man page");
        }
    }

    #[test]
    fn only_the_url_and_a_map_are_required() {
        assert!(check(MINIMAL, &[]).is_ok());
        for (text, message) in [
            ("", "c.toml: [plex] url: missing"),
            ("version = 1\n[plex]\ntimeout = \"1s\"", "c.toml:2: [plex] url: missing"),
            ("[plex]\nurl = \"http://a\"", "c.toml: found no [[map]]"),
        ] {
            let error = check(text, &[]).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }

    #[test]
    fn what_no_section_can_tell_alone_is_checked() {
        for (more, message) in [
            ("[users.tokens]\n\"\" = \"x\"", "c.toml:8: [users.tokens] : found an empty name"),
            ("[users.tokens]\nben = \" \"", "c.toml:8: [users.tokens] ben: found nothing"),
            ("[users.override.\" \"]", "c.toml:7: [users.override]  : found an empty name"),
        ] {
            let error = check(&format!("{MINIMAL}{more}"), &[]).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
        let error = check(&format!("\nversion = 2\n{MINIMAL}"), &[]).unwrap_err();
        assert_eq!(error.to_string(), "c.toml:2: version: found 2, expected 1");
        let error = check(MINIMAL, &[("PLEXCACHE_PLEX__TIMEOUT", "0")]).unwrap_err();
        assert!(error.to_string().starts_with("PLEXCACHE_PLEX__TIMEOUT: found 0"), "{error}");
    }

    #[test]
    fn a_map_from_the_environment_is_complained_about_by_variable() {
        let error = check(MINIMAL, &[("PLEXCACHE_MAP__1__PLEX", "/e")]).unwrap_err().to_string();
        assert!(error.starts_with("PLEXCACHE_MAP__1__PLEX: `array` is missing"), "{error}");
        let error = check(MINIMAL, &[("PLEXCACHE_MAP__0__CACHE", "/a/x")]).unwrap_err().to_string();
        assert!(error.starts_with("PLEXCACHE_MAP__0__CACHE: found \"/a/x\""), "{error}");
        let error = check("", &[("PLEXCACHE_PLEX__URL", "http://a")]).unwrap_err().to_string();
        assert!(error.starts_with("c.toml: found no [[map]]"), "{error}");
    }

    #[test]
    fn the_search_takes_the_first_file_there_is() {
        let (_temp, root) = temporary();
        let find = |unraid: bool, variables: &[(&str, &str)], explicit: Option<&Utf8Path>| {
            let pairs = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let env = Environment::new(pairs, unraid, true).with_system(&root);
            load(explicit, &env).map(|loaded| loaded.file.strip_prefix(&root).unwrap().to_string())
        };
        let home = root.join("home");
        let home = [("HOME", home.as_str())];

        let error = find(true, &home, None).unwrap_err();
        for place in ["home/.config/plexcache/", "boot/config/plugins/plexcache/", "etc/plexcache/"] {
            assert!(error.to_string().contains(&format!("{}", root.join(place).join("config.toml"))), "{error}");
        }
        assert!(error.hint().unwrap().contains("examples/config.toml"));

        put(&root.join("etc/plexcache/config.toml"), MINIMAL, 0o600);
        assert_eq!(find(true, &home, None).unwrap(), "etc/plexcache/config.toml");
        put(&root.join("boot/config/plugins/plexcache/config.toml"), MINIMAL, 0o600);
        assert_eq!(find(false, &home, None).unwrap(), "etc/plexcache/config.toml");
        assert_eq!(find(true, &home, None).unwrap(), "boot/config/plugins/plexcache/config.toml");
        put(&root.join("home/.config/plexcache/config.toml"), MINIMAL, 0o600);
        assert_eq!(find(true, &home, None).unwrap(), "home/.config/plexcache/config.toml");
        put(&root.join("xdg/plexcache/config.toml"), MINIMAL, 0o600);
        let xdg = root.join("xdg");
        let xdg = [home[0], ("XDG_CONFIG_HOME", xdg.as_str())];
        assert_eq!(find(true, &xdg, None).unwrap(), "xdg/plexcache/config.toml");
        assert_eq!(
            find(true, &[home[0], ("XDG_CONFIG_HOME", "xdg")], None).unwrap(),
            "home/.config/plexcache/config.toml"
        );
        let named = root.join("named");
        let named = [home[0], ("PLEXCACHE_CONFIG", named.as_str())];
        assert!(find(true, &named, None).unwrap_err().to_string().contains("named: cannot read"));
        put(&root.join("named"), MINIMAL, 0o600);
        assert_eq!(find(true, &named, None).unwrap(), "named");
        put(&root.join("explicit"), MINIMAL, 0o600);
        assert_eq!(find(true, &named, Some(&root.join("explicit"))).unwrap(), "explicit");
    }

    #[test]
    fn a_file_with_a_token_that_others_may_read_is_warned_about() {
        let (_temp, root) = temporary();
        let token = MINIMAL.replacen('\n', "\ntoken = \"abc\"\n", 1);
        let tokens = format!("{MINIMAL}[users.tokens]\nben = \"abc\"\n");
        for (index, (text, mode, warnings)) in
            [(MINIMAL, 0o644, 0), (&token, 0o600, 0), (&token, 0o640, 1), (&tokens, 0o604, 1)].into_iter().enumerate()
        {
            let file = root.join(index.to_string());
            put(&file, text, mode);
            // A token from the environment is not in the file.
            let loaded = load(Some(&file), &environment(&[("PLEXCACHE_PLEX__TOKEN", "x")])).unwrap();
            assert_eq!(loaded.warnings.len(), warnings, "{text}");
        }
    }

    #[test]
    fn taking_any_certificate_is_warned_about_each_time() {
        let (_temp, root) = temporary();
        let file = root.join("config.toml");
        put(&file, &MINIMAL.replacen('\n', "\ninsecure_tls = true\n", 1), 0o600);
        assert!(load(Some(&file), &environment(&[])).unwrap().warnings[0].starts_with("plex.insecure_tls"));
    }

    #[test]
    fn the_state_directory_has_its_order() {
        let set = format!("{MINIMAL}[state]\ndir = \"/set\"\n");
        for (cli, text, variables, root_user, expected) in [
            (Some("/cli"), set.as_str(), &[("PLEXCACHE_STATE_DIR", "/var")][..], true, "/cli"),
            (None, &set, &[("PLEXCACHE_STATE_DIR", "/var"), ("STATE_DIRECTORY", "/sd")], true, "/var"),
            (None, &set, &[("STATE_DIRECTORY", "/sd")], true, "/set"),
            (None, MINIMAL, &[("STATE_DIRECTORY", "/sd:/other"), ("HOME", "/h")], false, "/sd"),
            (None, MINIMAL, &[("HOME", "/h"), ("XDG_STATE_HOME", "/x")], true, "/var/lib/plexcache"),
            (None, MINIMAL, &[("HOME", "/h"), ("XDG_STATE_HOME", "/x")], false, "/x/plexcache"),
            (None, MINIMAL, &[("HOME", "/h")], false, "/h/.local/state/plexcache"),
            (None, MINIMAL, &[], false, "/var/lib/plexcache"),
        ] {
            let pairs = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let env = Environment::new(pairs, false, root_user);
            let config = parse(Utf8Path::new("c"), text, &env).unwrap();
            assert_eq!(state_dir(cli.map(Utf8Path::new), &config, &env), expected, "{variables:?}");
        }
    }
}
