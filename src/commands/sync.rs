//! `sync`, and the part of `evict` that asks Plex: what is wanted, held against what is cached.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};

use super::survey::Survey;
use super::verify::Proof;
use super::{Begin, Changes, Command, Failure, Session, pool_lines};
use crate::config::Config;
use crate::exit::Exit;
use crate::household::{self, Ask, Household};
use crate::paths::PathMap;
use crate::plan::{Input, Kind, Plan, Skip, Why, plan_sync};
use crate::plex::{Identity, MediaServer, PlexError, PlexServer, ServerOptions};
use crate::report::{PlanContext, ServerLine};
use crate::secret::Secret;
use crate::select::{
    CachedUnit, Catalog, FileKey, Gathered, Memory, Pinned, Playing, Reasons, Request, SelectError, Source, gather,
};
use crate::state::StateDir;

/// Caches what is wanted and evicts what is not.
#[derive(Debug)]
pub struct Sync {
    /// `false` with `--no-evict`.
    pub evict: bool,
}

impl Command for Sync {
    fn name(&self) -> &'static str {
        "sync"
    }

    fn run(&self, session: &mut Session<'_>) -> anyhow::Result<Exit> {
        let Self { evict } = self;
        by_wants(session, self.name(), true, *evict)
    }
}

/// A run that follows the wants: `sync` caches and evicts, `evict` without arguments only evicts.
pub(super) fn by_wants(
    session: &mut Session<'_>,
    command: &'static str,
    cache: bool,
    evict: bool,
) -> anyhow::Result<Exit> {
    let mut changes = session.begin(&Begin { command, ..Begin::default() })?;
    match plan(session, &mut changes, command, cache, evict) {
        Ok((plan, context)) => changes.apply(session, plan, &context, None),
        Err(error) => Err(changes.fail(error)),
    }
}

fn plan(
    session: &mut Session<'_>,
    changes: &mut Changes,
    command: &'static str,
    cache: bool,
    evict: bool,
) -> anyhow::Result<(Plan, PlanContext)> {
    let now = Timestamp::now();
    let config = session.config;
    let server = Server::connect(session)?;
    let memory = memory_of(session, &server)?;
    let cached_units = cached_units(changes);
    let (maps, map_names) = path_map(config)?;
    let is_dry_run = changes.is_dry_run();
    let state = session.state.clone();
    let client_id = household::client_id(&state, !is_dry_run);
    let known = known_names(&memory, &cached_units);
    let ask = Ask { known: &known, may_ask: true, ..server.ask(config, &state, &client_id, now) };
    let ask = Ask { second: second(session), ..ask };
    let mut household = Household::find(&ask).map_err(plex_failure)?;
    server.plex.renew_with(household.renewal());
    let lists = household.lists(&ask, is_dry_run).map_err(plex_failure)?;
    let viewers = household.viewers();
    for trouble in household.troubles() {
        changes.trouble(trouble);
    }
    let gathered = gather(
        &Request {
            server: &server.plex,
            owner: &server.owner,
            viewers: &viewers,
            lists: &lists,
            catalog: &Catalog::load(&state, &server.machine_id),
            external_ids: &|guid| household.external_ids(&server.owner, guid),
            select: &config.select,
            evict: &config.evict,
            maps: &maps,
            map_names: &map_names,
            cached: &cached_units,
            now,
        },
        &memory,
    )
    .map_err(select_failure);
    // A token that was made is kept whatever became of the rest: plex.tv counts them.
    if !is_dry_run && let Err(error) = household.save(&state) {
        session.warn(&format!("cannot keep the users' tokens: {error}"));
    }
    let gathered = gathered?;
    for problem in &gathered.problems {
        changes.problem(problem.clone());
    }
    for warning in &gathered.warnings {
        session.warn(warning);
    }
    let memory = memory.after(&gathered, &cached_units, now);
    if !is_dry_run {
        if let Err(error) = memory.save(&state) {
            session.warn(&format!("cannot save what is wanted: {error}"));
        }
        if let Some(Err(error)) = gathered.catalog.as_ref().map(|catalog| catalog.save(&state)) {
            session.warn(&format!("cannot save what the libraries hold: {error}"));
        }
    }
    let open = session.open_files();
    let survey = Survey {
        tiers: &changes.tiers,
        index: changes.index(),
        open: &open,
        playing: &gathered.playing,
        sidecars: config.select.sidecars,
        min_file_age: SignedDuration::try_from(config.safety.min_file_age).unwrap_or(SignedDuration::MAX),
        now,
    };
    let wanted: BTreeSet<FileKey> = gathered.wants.iter().map(|want| want.unit().clone()).collect();
    let releases = memory.releases(&cached_units, &wanted, &config.evict, now);
    let pins = Pinned::new(&config.select, &memory);
    let mut cached = survey.cached(&releases, |key| pins.has(key));
    // Nothing of it is needed any more, and of many units it is as much as the plan.
    drop(pins);
    drop((wanted, releases, memory, cached_units));
    survey.mark_superseded(&gathered.wants, &mut cached);
    let candidates = survey.candidates(&gathered.wants, &cached);
    let pools = survey.pools(&config.limits).context("asking the cache for free space")?;
    let mut plan = plan_sync(&Input {
        now,
        candidates: &candidates,
        cached: &cached,
        pools: &pools,
        held_off: &survey.held_off(),
        sessions_unknown: matches!(gathered.playing, Playing::Unknown(_)),
        make_room: config.evict.make_room,
        evict,
        cache,
    });
    if cache {
        plan.skipped.extend(unmapped(&gathered));
    }
    let context = PlanContext {
        command,
        server: Some(server.line(&gathered, viewers.len())),
        pools: pool_lines(&pools, &cached, &plan),
        undo_of: Vec::new(),
    };
    if config.safety.verify_with_plex {
        changes.prove(Proof::new(server.plex, maps, map_names));
    }
    Ok((plan, context))
}

/// What was learnt of this server's answers. Another one may not have what is wanted, and would release it.
fn memory_of(session: &Session<'_>, server: &Server) -> anyhow::Result<Memory> {
    let mut memory = Memory::load(&session.state);
    if memory.belongs_to(&server.machine_id) {
        return Ok(memory);
    }
    if session.options.yes {
        return Ok(Memory::anew(&server.machine_id));
    }
    let message = format!("{} is another Plex server than the one of the last runs", session.config.plex.url);
    let hint = "mend plex.url; if the server was set up anew, run once with --yes";
    Err(Failure::new(Exit::Refused, message, Some(hint)).into())
}

/// The second by which plex.tv is paced.
fn second(session: &Session<'_>) -> Duration {
    session.environment.first_pause().unwrap_or(Duration::from_secs(1))
}

/// Everybody who wanted something before.
fn known_names(memory: &Memory, cached: &[CachedUnit]) -> BTreeSet<String> {
    let reasons = cached.iter().flat_map(|cached| &cached.reasons);
    // A friend whose list is read is nobody who is asked.
    let own = reasons.filter(|reason| reason.source != Source::FriendWatchlist);
    own.filter_map(|reason| reason.user.as_deref().map(str::to_owned)).chain(memory.viewers().iter().cloned()).collect()
}

/// The server, and whose it is.
pub(super) struct Server {
    pub(super) plex: PlexServer,
    pub(super) owner: Secret,
    owner_name: String,
    machine_id: String,
    version: String,
}

impl Server {
    /// Finds the token, asks which server answers, and whose it is.
    pub(super) fn connect(session: &mut Session<'_>) -> anyhow::Result<Self> {
        let config = session.config;
        let (token, warnings) = crate::config::token(config, session.environment).map_err(Failure::from)?;
        for warning in warnings {
            session.warn(&warning);
        }
        let plex = &config.plex;
        let options = ServerOptions {
            timeout: plex.timeout,
            ca_file: plex.ca_file.as_ref().map(|path| path.clone().into_std_path_buf()),
            insecure_tls: plex.insecure_tls,
            machine_id: plex.machine_id.clone(),
            ..ServerOptions::new(&plex.url, token.clone())
        };
        let options = match session.environment.first_pause() {
            Some(backoff) => ServerOptions { backoff, ..options },
            None => options,
        };
        let server = PlexServer::new(options).map_err(plex_failure)?;
        // Without a token, and before anything else: a stranger at this address must not learn it.
        let identity = server.identity().map_err(plex_failure)?;
        let owner_name = match server.owner_name() {
            Ok(name) if !name.is_empty() => name,
            Err(error @ PlexError::Unauthorized { .. }) => return Err(plex_failure(error)),
            // Only a name for the reports; whose it is matters to nobody else.
            Ok(_) => "owner".to_owned(),
            Err(error) => {
                tracing::info!("cannot read the owner's name: {error}");
                "owner".to_owned()
            }
        };
        let Identity { machine_id, version } = identity;
        Ok(Self { plex: server, owner: token, owner_name, machine_id, version })
    }

    /// What the household is made of, without asking anybody.
    fn ask<'a>(&'a self, config: &'a Config, state: &'a StateDir, client_id: &'a str, now: Timestamp) -> Ask<'a> {
        static NOBODY: BTreeSet<String> = BTreeSet::new();
        Ask {
            config,
            state,
            machine_id: &self.machine_id,
            owner_name: &self.owner_name,
            owner: &self.owner,
            client_id,
            known: &NOBODY,
            may_ask: false,
            second: Duration::from_secs(1),
            now,
        }
    }

    /// Everybody for whom files are cached, and how each would be asked. Asks plex.tv where `may_ask` says
    /// so, and keeps nothing of what it says.
    ///
    /// # Errors
    /// An address of plex.tv that is configured cannot be used.
    pub(super) fn household(&self, session: &Session<'_>, may_ask: bool) -> anyhow::Result<Household> {
        let state = session.state.clone();
        let client_id = household::client_id(&state, false);
        let ask = self.ask(session.config, &state, &client_id, Timestamp::now());
        let ask = Ask { may_ask, second: second(session), ..ask };
        Household::find(&ask).map_err(plex_failure)
    }

    /// How many users are known without asking plex.tv.
    pub(super) fn users(&self, session: &Session<'_>) -> usize {
        self.household(session, false).map_or(1, |household| household.users().len())
    }

    pub(super) fn version(&self) -> &str {
        &self.version
    }

    fn line(&self, gathered: &Gathered, users: usize) -> ServerLine {
        let playing = match &gathered.playing {
            Playing::Known { rating_keys, .. } => Some(rating_keys.len()),
            Playing::Unknown(_) => None,
        };
        ServerLine { version: self.version.clone(), users, playing }
    }
}

/// The units that the history says are cached.
pub(super) fn cached_units(changes: &Changes) -> Vec<CachedUnit> {
    units_of(changes.index())
}

/// The same, of an index alone.
pub(super) fn units_of(index: &crate::history::Index) -> Vec<CachedUnit> {
    let mut units: BTreeMap<FileKey, CachedUnit> = BTreeMap::new();
    for cached in index.cached.values() {
        let action = &cached.action;
        let unit = action.unit_key();
        let entry = units.entry(unit.clone()).or_insert_with(|| CachedUnit {
            unit,
            rating_key: action.rating_key.clone(),
            reasons: Reasons::default(),
        });
        entry.reasons.extend(action.reasons.iter().cloned());
    }
    units.into_values().collect()
}

/// The maps' folders on the server, and their names in the same order.
fn path_map(config: &Config) -> anyhow::Result<(PathMap, Vec<String>)> {
    let names: Vec<String> = config.maps.iter().map(|map| map.plex.clone()).collect();
    let maps = PathMap::new(names.iter().map(String::as_str)).map_err(|index| {
        Failure::new(Exit::Config, format!("the plex folder of map {} is not an absolute path", index + 1), None)
    })?;
    Ok((maps, names))
}

/// What Plex wants and no map has, and what it wants and has no file of.
fn unmapped(gathered: &Gathered) -> Vec<Skip> {
    let skip = |path: &str, title: &str, why, detail: String| Skip {
        kind: Kind::Cache,
        map: "".into(),
        path: path.trim_start_matches('/').to_owned(),
        unit: path.trim_start_matches('/').to_owned(),
        title: title.into(),
        array_path: None,
        cache_path: None,
        size: 0,
        why,
        detail,
        reasons: Reasons::default(),
    };
    let unmapped =
        gathered.unmapped.iter().map(|file| skip(&file.path, &file.title, Why::Unmapped, file.why.to_string()));
    let unusable = gathered.unusable.iter().map(|(title, why)| skip("", title, Why::Missing, (*why).to_owned()));
    unmapped.chain(unusable).collect()
}

#[expect(clippy::needless_pass_by_value, reason = "it is the end of the error")]
pub(super) fn plex_failure(error: PlexError) -> anyhow::Error {
    let exit = match &error {
        PlexError::Unreachable { .. } | PlexError::Busy { .. } | PlexError::RateLimited { .. } => Exit::Unreachable,
        PlexError::Unauthorized { .. } | PlexError::Forbidden { .. } => Exit::Permission,
        PlexError::WrongServer { .. } => Exit::Refused,
        PlexError::Config { .. } => Exit::Config,
        PlexError::Status { status, .. } if *status >= 500 => Exit::Unreachable,
        _ => Exit::Error,
    };
    Failure::new(exit, error.to_string(), error.hint()).into()
}

fn select_failure(error: SelectError) -> anyhow::Error {
    match error {
        SelectError::Plex(error) => plex_failure(error),
        error @ (SelectError::NoLibraries | SelectError::NoneIncluded { .. }) => {
            let hint = "nothing was changed; check select.libraries, and the token's access in Plex";
            Failure::new(Exit::Refused, error.to_string(), Some(hint)).into()
        }
        error @ SelectError::NoToken => Failure::new(Exit::Permission, error.to_string(), None).into(),
    }
}
