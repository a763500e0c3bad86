//! `init`: from a machine with Plex on it to a configuration that works.
//!
//! Everything is found out first, by options, by looking and, on a terminal, by asking; then all of it is
//! shown; and only then the token's file and the configuration are written, so that whoever gives up half-way
//! leaves nothing behind. A map is written only when a real file proves it. The token is sent to no server but
//! the one that it belongs to, as far as that is known. What `PlexCache-D` has cached is taken over last, by
//! the run that [`Adopt`] is.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::time::Duration;

use anyhow::Context;
use camino::{Utf8Path, Utf8PathBuf};

use super::sync::plex_failure;
use super::{Adopt, Command, Failure, RunOptions, Session};
use crate::config::{self, Config, Environment, Map, Placement};
use crate::exit::Exit;
use crate::household::kept_client_id;
use crate::paths::{PathMap, PlexPath};
use crate::plex::pin::{ACCOUNT, Linking};
use crate::plex::{LibraryKind, MediaServer, PlexServer, Read, ServerOptions};
use crate::report::{Message, Reporter};
use crate::secret::Secret;
use crate::setup::import::{self, Imported};
use crate::setup::preferences::{self, PreferencesError};
use crate::setup::proof::PlexFile;
use crate::setup::propose::{CacheWish, Machine, NoMap, Place, files_below};
use crate::setup::write::{Draft, make_cache_root, write_private};
use crate::signal::StopFlag;
use crate::state::StateDir;
use crate::tier::{Leniency, Tiers};

/// Where Plex is when nobody says otherwise.
const USUAL_URL: &str = "http://127.0.0.1:32400";

/// Finds out and writes a configuration.
#[derive(Debug)]
pub struct Init {
    pub url: Option<String>,
    pub token: TokenFrom,
    pub cache: Option<Utf8PathBuf>,
    /// Plex's folders, and where they are here.
    pub maps: Vec<(String, Utf8PathBuf)>,
    /// Settings of `PlexCache-D`.
    pub import: Option<Utf8PathBuf>,
    /// Replace what is there.
    pub force: bool,
}

/// Where the owner's token comes from.
#[derive(Debug)]
pub enum TokenFrom {
    /// It stays in this file.
    File(Utf8PathBuf),
    Preferences(Utf8PathBuf),
    /// A person types a code at plex.tv/link.
    Link,
    /// Wherever one is found.
    Anywhere,
}

/// What `init` works with, in place of a [`Session`], which needs a configuration.
pub struct Setup<'a> {
    pub environment: &'a Environment,
    pub reporter: &'a mut dyn Reporter,
    pub options: RunOptions,
    /// Nothing is shown, so nothing can be asked.
    pub quiet: bool,
}

/// The token, and what is known of it.
struct Token {
    secret: Secret,
    /// The server that it belongs to; empty when that is not known.
    machine_id: String,
    /// It is in this file already.
    file: Option<Utf8PathBuf>,
}

/// What Plex says.
struct Server {
    machine_id: String,
    locations: Vec<PlexPath>,
    files: Vec<PlexFile>,
}

/// The maps, and what was left out.
#[derive(Default)]
struct Proposal {
    maps: Vec<Map>,
    /// Plex's folders without a map, and why.
    left: Vec<(String, String)>,
}

impl Init {
    /// Does it. `config` and `state_dir` are those of the command line.
    ///
    /// # Errors
    /// What stopped it. Up to the last question nothing was written.
    pub fn run(
        &self,
        mut setup: Setup<'_>,
        config: Option<&Utf8Path>,
        state_dir: Option<&Utf8Path>,
    ) -> anyhow::Result<Exit> {
        let target = absolute(&config::place_for_new(config, setup.environment))?;
        if std::fs::symlink_metadata(&target).is_ok() {
            self.may_replace(&mut setup, &target)?;
        }
        let imported = match &self.import {
            Some(file) => import::read(file).map_err(|error| {
                Failure::new(Exit::Config, error.to_string(), Some("name its plexcache_settings.json"))
            })?,
            None => Imported::default(),
        };
        let url = match self.url.clone().or_else(|| imported.url.clone()) {
            Some(url) => url,
            None => setup.ask("The address of the Plex server, as seen from this machine", USUAL_URL)?,
        };
        let own_token_file = target.parent().unwrap_or(Utf8Path::new("/")).join("token");
        let known = state_dir.map(absolute).transpose()?.and_then(|dir| kept_client_id(&StateDir::new(dir)));
        let token = self.token(&mut setup, &imported, &own_token_file, known)?;
        let is_there = std::fs::symlink_metadata(&own_token_file).is_ok();
        let is_same = |known: Secret| known == token.secret;
        if token.file.is_none() && is_there && !config::token_in(&own_token_file).is_ok_and(is_same) {
            self.may_replace(&mut setup, &own_token_file)?;
        }
        let server = ask_plex(&mut setup, &url, &token)?;
        let machine = Machine::look(setup.environment).context("reading the mount table")?;
        let Proposal { maps, left } = self.propose(&mut setup, &machine, &imported, &server)?;
        let draft = Draft {
            url,
            machine_id: server.machine_id,
            token_file: token.file.clone().unwrap_or_else(|| own_token_file.clone()),
            state_dir: state_dir.map(absolute).transpose()?.or_else(|| machine.lasting_folder(&maps)),
            maps,
            settings: imported.settings.clone(),
        };
        let text = draft.text(false);
        // As the file is, whatever the environment sets besides.
        config::parse(&target, &text, &Environment::new([], false, false)).map_err(|error| {
            let hint = "the folders that were found do not go together; name them with --map and --cache";
            Failure::new(Exit::Config, error.to_string(), Some(hint))
        })?;
        for (key, why) in &imported.left {
            setup.note(&format!("not taken over: {key} ({why})"));
        }
        for (folder, why) in &left {
            setup.warn(&format!("no map for Plex's {folder}: {why}"), Some("name it with --map and --cache"));
        }
        let exit = if left.is_empty() { Exit::Ok } else { Exit::Partial };
        if setup.options.dry_run {
            setup.reporter.message(&Message::Configuration { file: &target, text: &draft.text(true) });
        } else if !setup.confirm(&format!("Write {target}?"), true)? {
            setup.note("Nothing was written.");
            return Ok(Exit::Ok);
        }
        // From here on a signal waits for the end of what is under way.
        let stop = StopFlag::install()?;
        if !setup.options.dry_run {
            write(&mut setup, &draft, &target, token.file.is_none().then_some(&token.secret), &text)?;
        }
        let config = config::parse(&target, &text, setup.environment).map_err(Failure::from);
        let state = |config: &Config| StateDir::new(config::state_dir(state_dir, config, setup.environment));
        let ended = if self.import.is_some() {
            let config = config?;
            let state = state(&config);
            let adopted = adopt(&mut setup, &config, stop, state, imported.listed);
            if adopted.is_err() && !setup.options.dry_run {
                let hint = "take over what PlexCache-D has cached later: plexcache init --adopt";
                setup.warn("the configuration is written, and that is all", Some(hint));
            }
            adopted?
        } else if let Some(config) = config.ok().filter(|_| !setup.options.dry_run) {
            let state = state(&config);
            try_roots(&mut setup, &config, &state)
        } else {
            // What the environment sets besides is for the next run to judge.
            Exit::Ok
        };
        if !setup.options.dry_run {
            setup.note("Next: plexcache check, and then plexcache sync --dry-run.");
        }
        Ok(if ended == Exit::Ok { exit } else { ended })
    }

    /// What is there is somebody's work.
    fn may_replace(&self, setup: &mut Setup<'_>, target: &Utf8Path) -> anyhow::Result<()> {
        if self.force || setup.options.yes || setup.options.dry_run {
            return Ok(());
        }
        if setup.is_asking() && setup.confirm(&format!("{target} is there already. Replace it?"), false)? {
            return Ok(());
        }
        let message = format!("{target} is there already; nothing was written");
        Err(Failure::new(Exit::Refused, message, Some("--force replaces it, --config names another one")).into())
    }

    /// `client_id` is what plex.tv knows this installation by, where it does.
    fn token(
        &self,
        setup: &mut Setup<'_>,
        imported: &Imported,
        own: &Utf8Path,
        client_id: Option<String>,
    ) -> anyhow::Result<Token> {
        let from_preferences = |file: &Utf8Path| -> Result<Token, PreferencesError> {
            let found = preferences::read(file)?;
            Ok(Token { secret: found.token, machine_id: found.machine_id, file: None })
        };
        let plain = |secret, file| Token { secret, machine_id: String::new(), file };
        let in_file = |file: &Utf8Path| -> anyhow::Result<Token> {
            Ok(plain(config::token_in(file).map_err(Failure::from)?, Some(absolute(file)?)))
        };
        match &self.token {
            TokenFrom::File(file) => return in_file(file),
            TokenFrom::Preferences(file) => {
                let hint = "name Plex's Preferences.xml, and run this as root";
                return from_preferences(file)
                    .map_err(|error| Failure::new(Exit::Permission, error.to_string(), Some(hint)).into());
            }
            TokenFrom::Link => return Ok(plain(link(setup, client_id)?, None)),
            TokenFrom::Anywhere => {}
        }
        if let Some(token) = &imported.token {
            return Ok(plain(token.clone(), None));
        }
        if own.is_file() {
            setup.note(&format!("The token is in {own}."));
            return in_file(own);
        }
        let mut troubles = Vec::new();
        for file in preferences::places(setup.environment) {
            match from_preferences(&file) {
                Ok(token) if setup.confirm(&format!("Use the token of the Plex server in {file}?"), true)? => {
                    return Ok(token);
                }
                Ok(_) => {}
                Err(error) => troubles.push(error.to_string()),
            }
        }
        for trouble in &troubles {
            setup.warn(trouble, None);
        }
        if setup.is_asking() && setup.confirm("Get a token by a code that you type at plex.tv/link?", true)? {
            return Ok(plain(link(setup, client_id)?, None));
        }
        let hint = "name its file with --token-file or --preferences, or get one with --link";
        Err(Failure::new(Exit::Permission, "found no token of Plex on this machine", Some(hint)).into())
    }

    /// Finds Plex's folders and proves the maps.
    fn propose(
        &self,
        setup: &mut Setup<'_>,
        machine: &Machine<'_>,
        imported: &Imported,
        server: &Server,
    ) -> anyhow::Result<Proposal> {
        let Server { locations, files, .. } = server;
        for place in machine.silent() {
            setup.warn(&format!("{place} does not answer; nothing is looked for on it"), None);
        }
        let mut proposal = Proposal::default();
        let mut places: Vec<(Place, Option<&import::Folder>)> = Vec::new();
        let place = |plex: &str, here: &Utf8Path| Place { plex: plex.to_owned(), here: here.to_owned(), found: true };
        places.extend(self.maps.iter().map(|(plex, here)| (place(plex, here), None)));
        for folder in &imported.folders {
            if !places.iter().any(|(known, _)| known.plex == folder.plex) {
                places.push((place(&folder.plex, &folder.here), Some(folder)));
            }
        }
        let is_covered = |location: &&PlexPath| {
            let folders = places.iter().map(|(place, _)| place.plex.as_str());
            let file = PlexPath::new(format!("{}/x", location.as_str().trim_end_matches('/')));
            PathMap::new(folders).is_ok_and(|map| map.resolve(&file).is_ok())
        };
        let open: Vec<PlexPath> = locations.iter().filter(|location| !is_covered(location)).cloned().collect();
        if imported.folders.is_empty() {
            let found = machine.places(&open, files);
            let folders: Vec<&str> = found.iter().map(|place| place.plex.as_str()).collect();
            let known = PathMap::new(folders).unwrap_or_default();
            for location in &open {
                let file = PlexPath::new(format!("{}/x", location.as_str().trim_end_matches('/')));
                if known.resolve(&file).is_ok() {
                    continue;
                }
                if files_below(location.as_str(), files).next().is_none() {
                    setup.note(&format!("Plex has no file in {location} yet, so it gets no map."));
                    continue;
                }
                if let Some(here) = where_is(setup, machine, location)? {
                    places.push((place(location.as_str(), &here), None));
                } else {
                    let why = "no file of it was found on this machine";
                    proposal.left.push((location.to_string(), why.to_owned()));
                }
            }
            places.extend(found.into_iter().map(|place| (place, None)));
        } else {
            let why = "PlexCache-D has no mapping for it";
            proposal.left.extend(open.iter().map(|location| (location.to_string(), why.to_owned())));
        }
        let mut fast = self.cache.as_deref().map(absolute).transpose()?;
        for (place, folder) in places {
            let wish = match (folder.and_then(|folder| folder.cache.as_deref()), &fast) {
                (Some(root), _) => CacheWish::Root(root),
                (None, Some(fast)) => CacheWish::Below(fast),
                (None, None) => CacheWish::Any,
            };
            let mut map = machine.map(&place, wish);
            if matches!(map, Err(NoMap::NoCache))
                && let Some(answer) = which_is_fast(setup, &place)?
            {
                map = machine.map(&place, CacheWish::Below(&answer));
                fast = Some(answer);
            }
            let mut map = match map {
                Ok(map) => map,
                Err(error) => {
                    proposal.left.push((place.plex, error.to_string()));
                    continue;
                }
            };
            if let Some(folder) = folder {
                map.cacheable = folder.cacheable;
                map.placement = match imported.placement {
                    // Without a union nothing would show the copy.
                    Some(Placement::Hide) if map.merged.is_none() => Placement::Symlink,
                    placement => placement.unwrap_or(map.placement),
                };
            }
            match proved(machine, &map, files) {
                Ok(proof) => {
                    setup.note(&described(&map, proof));
                    proposal.maps.push(map);
                }
                Err(why) => {
                    setup.note(&described(&map, None));
                    if setup.is_asking() && setup.confirm(&format!("{why}. Keep this map all the same?"), false)? {
                        proposal.maps.push(map);
                    } else {
                        proposal.left.push((map.plex, why));
                    }
                }
            }
        }
        if proposal.maps.is_empty() {
            let why: Vec<String> = proposal.left.iter().map(|(folder, why)| format!("{folder}: {why}")).collect();
            let why = if why.is_empty() { "Plex has no films and no shows".to_owned() } else { why.join("; ") };
            let hint = "say where a folder of Plex is with --map PLEX=DIR, and where the fast disk is with --cache DIR";
            return Err(Failure::new(Exit::Config, format!("no map could be made. {why}"), Some(hint)).into());
        }
        Ok(proposal)
    }
}

impl Setup<'_> {
    fn note(&mut self, text: &str) {
        self.reporter.message(&Message::Note(text));
    }

    fn warn(&mut self, text: &str, hint: Option<&str>) {
        self.reporter.message(&Message::Warning { text, hint });
    }

    /// Whether somebody is there to answer.
    fn is_asking(&self) -> bool {
        let RunOptions { no_input, yes, dry_run, .. } = self.options;
        !(no_input || yes || dry_run || self.quiet) && std::io::stdin().is_terminal()
    }

    /// The answer to a question; nothing typed is the default, and so it is where nobody is there.
    fn ask(&mut self, question: &str, default: &str) -> anyhow::Result<String> {
        if !self.is_asking() {
            return Ok(default.to_owned());
        }
        let shown = if default.is_empty() { String::new() } else { format!(" [{default}]") };
        self.note(&format!("{question}{shown}"));
        let mut answer = String::new();
        if std::io::stdin().read_line(&mut answer).context("reading the answer")? == 0 {
            return Err(Failure::new(Exit::Usage, "nobody answers; nothing was written", None).into());
        }
        let answer = answer.trim();
        Ok(if answer.is_empty() { default } else { answer }.to_owned())
    }

    /// Yes or no; the default where nobody is there, whose consent is having called this.
    fn confirm(&mut self, question: &str, default: bool) -> anyhow::Result<bool> {
        let answer = self.ask(question, if default { "Y/n" } else { "y/N" })?;
        Ok(match answer.to_lowercase().as_str() {
            "y" | "yes" => true,
            "n" | "no" => false,
            _ => default,
        })
    }
}

/// Asks where a folder of Plex is, until the answer can be one.
fn where_is(setup: &mut Setup<'_>, machine: &Machine<'_>, location: &PlexPath) -> anyhow::Result<Option<Utf8PathBuf>> {
    loop {
        let question = format!("Where is Plex's {location} on this machine? (nothing: leave it out)");
        let answer = setup.ask(&question, "")?;
        if answer.is_empty() {
            return Ok(None);
        }
        let here = absolute(Utf8Path::new(&answer))?;
        let place = Place { plex: location.to_string(), here: here.clone(), found: false };
        match machine.map(&place, CacheWish::Any) {
            Ok(_) | Err(NoMap::NoCache) => return Ok(Some(here)),
            Err(why) => setup.warn(&why.to_string(), None),
        }
    }
}

/// Asks for the fast disk of a folder, until the answer is there.
fn which_is_fast(setup: &mut Setup<'_>, place: &Place) -> anyhow::Result<Option<Utf8PathBuf>> {
    loop {
        let question = format!("The fast disk, or a folder on it, for {}? (nothing: leave it out)", place.here);
        let answer = setup.ask(&question, "")?;
        if answer.is_empty() {
            return Ok(None);
        }
        let answer = absolute(Utf8Path::new(&answer))?;
        if answer.is_dir() {
            return Ok(Some(answer));
        }
        setup.warn(&format!("{answer} is not there"), None);
    }
}

/// Asks plex.tv for a code, shows it, and waits until somebody has typed it.
fn link(setup: &mut Setup<'_>, client_id: Option<String>) -> anyhow::Result<Secret> {
    let url = setup.environment.get("PLEXCACHE_PLEX__ENDPOINTS__ACCOUNT").unwrap_or(ACCOUNT);
    let linking = Linking::new(url, client_id).map_err(plex_failure)?;
    let pin = linking.begin().map_err(plex_failure)?;
    let minutes = pin.life.as_secs().div_ceil(60);
    let text = format!("Go to https://plex.tv/link and enter {} within {minutes} minutes, as the owner.", pin.code);
    // Seen with --quiet, too: nothing else can happen.
    setup.warn(&text, None);
    let token = linking.wait(&pin, setup.environment.first_pause()).map_err(plex_failure)?;
    token.ok_or_else(|| {
        let message = format!("nobody entered {} at plex.tv/link in time", pin.code);
        Failure::new(Exit::Permission, message, Some("run it again for a new code")).into()
    })
}

/// The folders of all films and shows, and some of their files.
fn ask_plex(setup: &mut Setup<'_>, url: &str, token: &Token) -> anyhow::Result<Server> {
    let machine_id = Some(token.machine_id.clone()).filter(|id| !id.is_empty());
    let pause = setup.environment.first_pause().unwrap_or(Duration::from_secs(1));
    let options = ServerOptions { machine_id, backoff: pause, ..ServerOptions::new(url, token.secret.clone()) };
    let plex = PlexServer::new(options).map_err(plex_failure)?;
    let identity = plex.identity().map_err(plex_failure)?;
    // Only the owner may ask this; with another's token much would be missing later.
    plex.owner_name().map_err(plex_failure)?;
    let libraries = match plex.libraries(&token.secret) {
        Read::Complete(libraries) => libraries,
        Read::Incomplete { value, problems } => {
            for problem in problems {
                setup.warn(&problem, None);
            }
            value
        }
        Read::Failed(error) => return Err(plex_failure(error)),
    };
    let (mut locations, mut files, mut seen) = (BTreeSet::new(), Vec::new(), Vec::new());
    for library in libraries.iter().filter(|library| matches!(library.kind, LibraryKind::Movie | LibraryKind::Show)) {
        locations.extend(library.locations.iter().cloned());
        let folders: Vec<&str> = library.locations.iter().map(PlexPath::as_str).collect();
        seen.push(format!("\n  {}: {}", library.title, folders.join(", ")));
        let items = match plex.newest(library) {
            Read::Complete(items) | Read::Incomplete { value: items, .. } => items,
            Read::Failed(error) => {
                setup.warn(&format!("the files of {} are not known: {error}", library.title), None);
                continue;
            }
        };
        let parts = items.into_iter().flat_map(|item| item.versions).filter(|version| !version.deleted);
        let parts = parts.flat_map(|version| version.parts);
        files.extend(parts.filter_map(|part| Some(PlexFile { path: part.file?, size: part.size })));
    }
    setup.note(&format!("Plex {} at {url}{}", identity.version, seen.concat()));
    Ok(Server { machine_id: identity.machine_id, locations: locations.into_iter().collect(), files })
}

/// The file that proves the map; `None` when Plex has none below it.
fn proved<'f>(machine: &Machine<'_>, map: &Map, files: &'f [PlexFile]) -> Result<Option<&'f PlexFile>, String> {
    if files_below(&map.plex, files).next().is_none() {
        return Ok(None);
    }
    let no_proof = || "none of Plex's files is there with the size that Plex tells".to_owned();
    machine.proof_of(map, files).map(Some).ok_or_else(no_proof)
}

/// What a person has to see of a map.
fn described(map: &Map, proof: Option<&PlexFile>) -> String {
    let Map { plex, array, cache, merged, placement, .. } = map;
    let array: Vec<&str> = array.iter().map(|path| path.as_str()).collect();
    let merged = merged.as_ref().map_or_else(String::new, |merged| format!("\n  merged    {merged}"));
    let proof = proof.map_or_else(|| "no file of it".to_owned(), |file| file.path.to_string());
    format!(
        "{plex}\n  array     {}\n  cache     {cache}{merged}\n  placement {placement}\n  proof     {proof}",
        array.join("\n            ")
    )
}

fn write(
    setup: &mut Setup<'_>,
    draft: &Draft,
    target: &Utf8Path,
    token: Option<&Secret>,
    text: &str,
) -> anyhow::Result<()> {
    for map in &draft.maps {
        if let Err(error) = make_cache_root(map) {
            setup.warn(&format!("cannot make {}: {error}", map.cache), Some("make it, or mount the fast disk"));
        }
    }
    let cannot = |file: &Utf8Path, error: std::io::Error| {
        let denied = error.kind() == std::io::ErrorKind::PermissionDenied;
        let exit = if denied { Exit::Permission } else { Exit::Error };
        Failure::new(exit, format!("cannot write {file}: {error}"), Some("run it as root, or name another --config"))
    };
    if let Some(token) = token {
        let file = &draft.token_file;
        write_private(file, &format!("{}\n", token.expose())).map_err(|error| cannot(file, error))?;
    }
    write_private(target, text).map_err(|error| cannot(target, error))?;
    setup.note(&format!("Wrote {target}; the token is in {}.", draft.token_file));
    Ok(())
}

/// Opens the roots as every run will, so that nobody has to wait for the first one to hear what it says.
fn try_roots(setup: &mut Setup<'_>, config: &Config, state: &StateDir) -> Exit {
    let known = crate::history::load(state).map(|index| index.roots).unwrap_or_default();
    let leniency = Leniency { same_device: config.safety.allow_same_device, changed_roots: false };
    match Tiers::open(&config.maps, &known, leniency) {
        Ok(_) => Exit::Ok,
        Err(error) => {
            setup.warn(&format!("sync will refuse this: {error}"), Some(error.hint()));
            Exit::Partial
        }
    }
}

fn adopt(
    setup: &mut Setup<'_>,
    config: &Config,
    stop: StopFlag,
    state: StateDir,
    listed: BTreeSet<Utf8PathBuf>,
) -> anyhow::Result<Exit> {
    let mut session = Session {
        config,
        environment: setup.environment,
        state,
        reporter: setup.reporter,
        stop,
        options: setup.options.clone(),
    };
    Adopt { listed }.run(&mut session)
}

/// What the file says must not depend on where it was written.
fn absolute(path: &Utf8Path) -> anyhow::Result<Utf8PathBuf> {
    camino::absolute_utf8(path).with_context(|| format!("finding out where {path} is"))
}
