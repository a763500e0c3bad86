//! What Plex says: whether it answers, to whom, and with which settings; and real items to prove maps on.

use std::collections::BTreeSet;

use super::{fail, pass, skip, warn};
use crate::commands::sync::Server;
use crate::commands::{Failure, RunOptions, Session};
use crate::config::{self, Config, Placement};
use crate::household::{TokenState, Trouble, User};
use crate::paths::PlexPath;
use crate::plex::{Library, LibraryKind, MediaServer, PlexError, PlexServer, RatingKey, Read};
use crate::report::{Finding, Message, Reporter};
use crate::select::Viewer;
use crate::setup::proof::PlexFile;

/// So many files of each folder of a library are looked for; one that is found proves the map.
const SAMPLES: usize = 3;

const SECONDS_OF_A_WEEK: u64 = 7 * 24 * 3600;

/// What Plex said.
pub(super) struct Asked {
    pub(super) plex: PlexServer,
    /// Those with films and shows that `select.libraries` names.
    pub(super) libraries: Vec<Library>,
    pub(super) samples: Vec<Sample>,
}

/// A file of a library.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) library: String,
    /// What people call the item.
    pub(super) label: String,
    pub(super) key: RatingKey,
    pub(super) file: PlexFile,
}

/// The checks that need Plex; `None` when it does not answer.
pub(super) fn ask(session: &Session<'_>) -> (Vec<Finding>, Option<Asked>) {
    let mut findings = Vec::new();
    let config = session.config;
    match config::token(config, session.environment) {
        Err(error) => {
            let advice = error.hint().unwrap_or("put the token of the server's owner into plex.token_file");
            findings.push(fail("token", error.to_string(), advice));
            findings.push(skip("server", "cannot be asked without a token"));
            return (findings, None);
        }
        Ok((_, warnings)) => {
            findings.extend(warnings.iter().map(|warning| {
                let place = warning.rfind(": chmod").unwrap_or(warning.len());
                warn("token", &warning[..place], warning[place..].trim_start_matches(": "))
            }));
            if warnings.is_empty() {
                findings.push(pass("token", "can be read"));
            }
        }
    }
    let server = match connect(session) {
        Ok(server) => server,
        Err(error) => {
            let hint = error.downcast_ref::<Failure>().and_then(|failure| failure.hint.clone());
            findings.push(fail("server", format!("{error:#}"), hint.unwrap_or_default()));
            return (findings, None);
        }
    };
    findings.push(pass("server", format!("Plex {} answers and accepts the token", server.version())));
    findings.extend(settings(config, &server.plex));
    findings.extend(users(session, &server));
    let (libraries, found) = libraries(config, &server);
    findings.extend(found);
    let mut samples = Vec::new();
    for library in &libraries {
        match samples_of(&server.plex, library) {
            Ok(found) => samples.extend(found),
            Err(error) => findings.push(warn(
                "library",
                format!("the items of {} cannot be read: {error}", library.title),
                error.hint().unwrap_or_default(),
            )),
        }
    }
    let Server { plex, .. } = server;
    (findings, Some(Asked { plex, libraries, samples }))
}

/// The connection of a run, which says on the way what is said here as findings.
fn connect(session: &Session<'_>) -> anyhow::Result<Server> {
    struct Silent;
    impl Reporter for Silent {
        fn message(&mut self, _: &Message<'_>) {}
    }
    let mut quiet = Session {
        config: session.config,
        environment: session.environment,
        state: session.state.clone(),
        reporter: &mut Silent,
        stop: session.stop.clone(),
        // Whoever only looks writes nothing down.
        options: RunOptions { dry_run: true, ..session.options.clone() },
    };
    Server::connect(&mut quiet)
}

fn settings(config: &Config, plex: &PlexServer) -> Vec<Finding> {
    let settings = match plex.settings() {
        Ok(settings) => settings,
        Err(error @ PlexError::Forbidden { .. }) => {
            let advice = "use the token of the server's owner: the PlexOnlineToken of its Preferences.xml";
            return vec![fail("owner", format!("the token is not the owner's: {error}"), advice)];
        }
        Err(error) => {
            return vec![warn("settings", format!("cannot be read: {error}"), error.hint().unwrap_or_default())];
        }
    };
    let mut findings = vec![pass("owner", "the token is the owner's")];
    let moved = config.maps.iter().find(|map| map.cacheable && map.placement != Placement::Copy);
    findings.extend(settings.empties_trash.map(|empties| match (empties, moved) {
        (true, Some(map)) => warn(
            "trash",
            format!(
                "Plex removes from its library at once what a scan does not find (map {}: {})",
                map.plex, map.placement
            ),
            "switch off \"Empty trash automatically after every scan\" in Plex's Settings, Library: a disk that is \
             missing during a scan must not cost watch states",
        ),
        (true, None) => pass("trash", "is emptied after every scan; originals stay in place, so that is no danger"),
        (false, _) => pass("trash", "is not emptied by itself"),
    }));
    if let Some(weeks) = settings.on_deck_weeks.and_then(|weeks| u64::try_from(weeks).ok()) {
        let wanted = config.select.on_deck_max_age.as_secs();
        let more = if config.select.on_deck && wanted > weeks.saturating_mul(SECONDS_OF_A_WEEK) {
            "; select.on_deck_max_age is longer and has no further effect"
        } else {
            ""
        };
        findings.push(pass("on deck", format!("Plex keeps it for {weeks} weeks after it was played{more}")));
    }
    findings
}

/// In whose names Plex is asked, and whether it answers them.
fn users(session: &Session<'_>, server: &Server) -> Vec<Finding> {
    let users = &session.config.users;
    let household = match server.household(session, true) {
        Ok(household) => household,
        Err(error) => return vec![fail("user", format!("{error:#}"), "mend [plex.endpoints]")],
    };
    let mut findings: Vec<Finding> = household
        .users()
        .iter()
        .zip(household.viewers())
        .map(|(user, viewer)| read_as(server, user, &viewer))
        .collect();
    if findings.is_empty() {
        let advice = "mend users.include and users.exclude";
        findings.push(fail("user", "[users] leaves nobody whose lists are read", advice));
    }
    findings.extend(
        household.troubles().into_iter().map(|Trouble { text, hint }| warn("plex.tv", text, hint.unwrap_or_default())),
    );
    let left_out: Vec<&str> = users.tokens.keys().map(String::as_str).filter(|name| !users.includes(name)).collect();
    if !left_out.is_empty() {
        findings.push(pass("user", format!("left out by [users]: {}", left_out.join(", "))));
    }
    findings
}

/// Whether Plex answers one of them.
fn read_as(server: &Server, user: &User, viewer: &Viewer) -> Finding {
    let name = &user.name;
    let how = match &user.token {
        TokenState::Owner => "the owner's token",
        TokenState::Pasted => "a token of users.tokens",
        TokenState::Stored => "a token kept from an earlier run",
        TokenState::Given => "a token of plex.tv",
        TokenState::Missing(why) => {
            let advice = format!("paste a token into users.tokens, or add {name} to users.exclude");
            return warn("user", format!("{name}: cannot be read: {why}"), advice);
        }
    };
    match server.plex.libraries(&viewer.token) {
        Read::Complete(libraries) | Read::Incomplete { value: libraries, .. } => {
            let number = libraries.len();
            let plural = if number == 1 { "y" } else { "ies" };
            pass("user", format!("{name}: read with {how}, sees {number} librar{plural}"))
        }
        // The next run asks plex.tv for another one.
        Read::Failed(PlexError::Unauthorized { .. }) if user.token == TokenState::Stored => {
            pass("user", format!("{name}: {how} is no longer accepted; the next run asks plex.tv for another one"))
        }
        Read::Failed(error) => {
            let advice = format!("replace the token of {name} in [users.tokens], or add {name} to users.exclude");
            warn("user", format!("{name}: cannot be read with {how}: {error}"), advice)
        }
    }
}

fn libraries(config: &Config, server: &Server) -> (Vec<Library>, Vec<Finding>) {
    let mut findings = Vec::new();
    let all = match server.plex.libraries(&server.owner) {
        Read::Complete(all) => all,
        Read::Incomplete { value, problems } => {
            findings.push(warn("libraries", problems.join("; "), ""));
            value
        }
        Read::Failed(error) => {
            findings.push(fail("libraries", error.to_string(), error.hint().unwrap_or_default()));
            return (Vec::new(), findings);
        }
    };
    let titles: Vec<&str> = all.iter().map(|library| library.title.as_str()).collect();
    let titles = titles.join(", ");
    let select = &config.select;
    for entry in select.libraries.iter().filter(|entry| *entry != "*") {
        if !all.iter().any(|library| *entry == library.title || *entry == library.id) {
            let advice = format!("correct select.libraries; Plex has: {titles}");
            findings.push(warn("libraries", format!("Plex has no library {entry}"), advice));
        }
    }
    let has_video = |library: &Library| matches!(library.kind, LibraryKind::Movie | LibraryKind::Show);
    let mut used = all;
    used.retain(|library| has_video(library) && select.includes_library(&library.title, &library.id));
    let names: Vec<&str> = used.iter().map(|library| library.title.as_str()).collect();
    findings.push(if used.is_empty() {
        let advice = "check select.libraries, and the token's access in Plex";
        fail("libraries", format!("none with films or shows is left of: {titles}"), advice)
    } else {
        pass("libraries", names.join(", "))
    });
    if let Some(scanned) = used.iter().find(|library| library.refreshing) {
        findings.push(pass("scan", format!("{} is being scanned now; sizes may be old", scanned.title)));
    }
    (used, findings)
}

/// A few files of every folder of the library, the newest first.
fn samples_of(plex: &PlexServer, library: &Library) -> Result<Vec<Sample>, PlexError> {
    let items = match plex.newest(library) {
        Read::Complete(items) | Read::Incomplete { value: items, .. } => items,
        Read::Failed(error) => return Err(error),
    };
    let mut taken: Vec<(Option<&PlexPath>, usize)> = Vec::new();
    let mut samples = Vec::new();
    let mut seen = BTreeSet::new();
    for item in items.iter().filter(|item| !item.deleted) {
        let versions = item.versions.iter().filter(|version| !version.deleted && !version.optimized);
        let Some(part) = versions.flat_map(|version| &version.parts).next() else { continue };
        let Some(path) = part.file.clone() else { continue };
        let folder = library.locations.iter().find(|at| is_below(&path, at));
        let place = taken.iter().position(|(known, _)| *known == folder).unwrap_or_else(|| {
            taken.push((folder, 0));
            taken.len() - 1
        });
        if taken[place].1 < SAMPLES && seen.insert(path.clone()) {
            taken[place].1 += 1;
            samples.push(Sample {
                library: library.title.clone(),
                label: item.label(),
                key: item.rating_key.clone(),
                file: PlexFile { path, size: part.size },
            });
        }
    }
    Ok(samples)
}

/// Whether a path of Plex's lies in this folder of Plex's.
pub(super) fn is_below(path: &PlexPath, folder: &PlexPath) -> bool {
    crate::paths::PathMap::new([folder.as_str()]).is_ok_and(|map| map.resolve(path).is_ok())
}
