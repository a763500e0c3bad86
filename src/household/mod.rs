//! The household: everybody for whom files are cached, the tokens by which they are asked, and their
//! lists at plex.tv.
//!
//! Owns the order in which a token is looked for (the owner's, pasted ones, those that were kept, those
//! that plex.tv gives), what is kept (`tokens`), and what it means when plex.tv is silent: what was
//! known before counts, nobody is taken to have left, and one line says so. Asks plex.tv only when the
//! configuration names somebody whose token only plex.tv has; tokens are made anew on a 401 alone.
//! Nobody is left out without a word: whoever has no usable token is named, with the way out.

mod lists;
mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use camino::Utf8PathBuf;
use jiff::{SignedDuration, Timestamp};

pub use self::tokens::{client_id, kept_client_id};

use self::tokens::{Stored, Tokens};
use crate::config::{Config, Endpoints};
use crate::plex::{Account, PlexError, Service, ServiceOptions};
use crate::secret::Secret;
use crate::select::{Tastes, Viewer};
use crate::state::{StateDir, read_small};

/// For how long the list of users is believed. Somebody new is known after that, or when named.
const LIST_FOR: SignedDuration = SignedDuration::from_hours(24);
/// The longest file of a PIN, in bytes. A PIN has four digits.
const LONGEST_PIN: u64 = 64;

/// Somebody for whom files are cached, and how they are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// As Plex shows it.
    pub name: String,
    pub kind: UserKind,
    pub token: TokenState,
}

/// What somebody is to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserKind {
    Owner,
    /// A member of the owner's Plex Home.
    Home,
    /// Somebody with whom the server is shared.
    Shared,
    /// Known by the token in the configuration.
    Pasted,
}

/// Where somebody's token is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenState {
    /// It is the owner's.
    Owner,
    /// From `users.tokens`.
    Pasted,
    /// Kept since an earlier run.
    Stored,
    /// plex.tv gave it now.
    Given,
    /// There is none, for this reason.
    Missing(String),
}

/// Something that the reader has to know, and the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    pub text: String,
    pub hint: Option<String>,
}

/// What the household is made of.
pub struct Ask<'a> {
    pub config: &'a Config,
    pub state: &'a StateDir,
    pub machine_id: &'a str,
    pub owner_name: &'a str,
    pub owner: &'a Secret,
    pub client_id: &'a str,
    /// Names that were somebody's before: should plex.tv be silent, they have not left.
    pub known: &'a BTreeSet<String>,
    /// Whether plex.tv may be asked; otherwise what was kept has to do.
    pub may_ask: bool,
    /// A second; shorter in tests.
    pub second: Duration,
    pub now: Timestamp,
}

/// Everybody, the owner first.
pub struct Household {
    members: Vec<Member>,
    outages: Outages,
    owner_uuid: Option<String>,
    services: Services,
    keys: Arc<Keys>,
}

struct Member {
    user: User,
    /// plex.tv's, where it is known.
    id: Option<String>,
    uuid: Option<String>,
    /// Reads the server; empty when there is none.
    token: Secret,
    tastes: Tastes,
}

/// Where the services are, and how they are asked.
struct Services {
    endpoints: Endpoints,
    options: ServiceOptions,
}

impl Services {
    fn of(&self, service: Service) -> ServiceOptions {
        let Endpoints { account, discover, metadata, community, rss } = &self.endpoints;
        let configured = match service {
            Service::Account => account,
            Service::Discover => discover,
            Service::Metadata => metadata,
            Service::Community => community,
            Service::Rss => rss,
        };
        let url = configured.clone().unwrap_or_else(|| service.url().to_owned());
        ServiceOptions { url, ..self.options.clone() }
    }
}

/// Makes tokens and keeps them.
struct Keys {
    account: Account,
    owner: Secret,
    pin_files: BTreeMap<String, Utf8PathBuf>,
    tokens: Mutex<Tokens>,
    /// Whether the server's shares were read in this run: then they say nothing new.
    relisted: Mutex<bool>,
}

/// Why there is no token.
#[derive(Debug)]
enum NoToken {
    /// What is missing, and the way out.
    Pin(String, String),
    /// Not one of the server's users.
    Outsider,
    Plex(PlexError),
}

impl Household {
    /// Finds out who belongs to it. Asks plex.tv for what is not known.
    ///
    /// # Errors
    /// [`PlexError::Config`]: an address of a service cannot be used.
    pub fn find(ask: &Ask<'_>) -> Result<Self, PlexError> {
        let config = ask.config;
        let options = ServiceOptions {
            url: String::new(),
            client_id: ask.client_id.to_owned(),
            timeout: config.plex.timeout,
            second: ask.second,
        };
        let services = Services { endpoints: config.plex.endpoints.clone(), options };
        let keys = Arc::new(Keys {
            account: Account::new(&services.of(Service::Account))?,
            owner: ask.owner.clone(),
            pin_files: config.users.pin_files.clone(),
            tokens: Mutex::new(Tokens::load(ask.state, ask.machine_id)),
            relisted: Mutex::new(false),
        });
        let mut household = Self { members: Vec::new(), outages: Outages::default(), owner_uuid: None, services, keys };
        household.add_owner_and_pasted(ask);
        let is_other = |name: &str| !household.members.iter().any(|member| member.user.name == name);
        let names = config.users.include.iter().filter(|name| !config.users.exclude.contains(name));
        let others: Vec<String> =
            names.filter(|name| *name == "*" || *name != ask.owner_name && is_other(name)).cloned().collect();
        if !others.is_empty() && !config.users.exclude.iter().any(|name| name == "*") {
            household.add_others(ask, &others);
        }
        household.owner_uuid.clone_from(&household.keys.tokens().owner_uuid);
        Ok(household)
    }

    /// Who belongs to it, and how each is asked.
    pub fn users(&self) -> Vec<User> {
        self.members.iter().map(|member| member.user.clone()).collect()
    }

    /// The same for the selection.
    pub fn viewers(&self) -> Vec<Viewer> {
        let viewer = |member: &Member| Viewer {
            name: member.user.name.clone(),
            token: member.token.clone(),
            tastes: member.tastes,
        };
        self.members.iter().map(viewer).collect()
    }

    /// Gives another token for one that the server no longer accepts.
    pub fn renewal(&self) -> impl Fn(&Secret) -> Option<Secret> + Send + Sync + 'static {
        let keys = Arc::clone(&self.keys);
        move |rejected| keys.renew_server(rejected)
    }

    /// Keeps the tokens for the next run, where there are new ones.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, state: &StateDir) -> std::io::Result<()> {
        let mut tokens = self.keys.tokens();
        if tokens.changed {
            tokens.save(state)?;
            tokens.changed = false;
        }
        Ok(())
    }

    /// What the reader has to know of plex.tv and of users without a token.
    pub fn troubles(&self) -> Vec<Trouble> {
        self.outages.told()
    }

    fn add_owner_and_pasted(&mut self, ask: &Ask<'_>) {
        let users = &ask.config.users;
        if users.includes(ask.owner_name) {
            self.add(ask, ask.owner_name, UserKind::Owner, TokenState::Owner, ask.owner.clone());
        }
        for (name, token) in users.tokens.iter().filter(|(name, _)| *name != ask.owner_name && users.includes(name)) {
            self.add(ask, name, UserKind::Pasted, TokenState::Pasted, token.clone());
        }
    }

    fn add(&mut self, ask: &Ask<'_>, name: &str, kind: UserKind, state: TokenState, token: Secret) -> &mut Member {
        let tastes = Tastes::of(&ask.config.select, ask.config.users.overrides.get(name));
        let user = User { name: name.to_owned(), kind, token: state };
        self.members.push(Member { user, id: None, uuid: None, token, tastes });
        self.members.last_mut().expect("one was added just now")
    }

    /// Those whom only plex.tv knows; `named` are the names in `users.include`.
    fn add_others(&mut self, ask: &Ask<'_>, named: &[String]) {
        let is_whole = self.list(ask, named);
        let stored: Vec<(String, Stored)> = self.keys.tokens().users.clone().into_iter().collect();
        let mut stored: Vec<(String, Stored)> = stored
            .into_iter()
            .filter(|(_, user)| !user.name.is_empty() && ask.config.users.includes(&user.name))
            .filter(|(_, user)| !user.outsider || ask.known.contains(&user.name))
            .collect();
        stored.sort_by(|(_, a), (_, b)| a.name.cmp(&b.name));
        let mut seen: BTreeSet<String> = self.members.iter().map(|member| member.user.name.clone()).collect();
        seen.insert(ask.owner_name.to_owned());
        let pasted = seen.clone();
        for (id, user) in stored {
            if seen.insert(user.name.clone()) {
                self.add_stored(ask, &id, &user, is_whole);
            } else if !pasted.contains(&user.name) {
                let text = format!("{}: two users have this name, and only one of them is asked", user.name);
                self.outages.tell(text, "rename one of them in Plex");
            }
        }
        for name in named.iter().filter(|name| *name != "*") {
            if seen.insert(name.clone()) {
                let why =
                    if is_whole { "Plex knows no such user of this server" } else { "plex.tv could not be asked" };
                self.add(ask, name, UserKind::Shared, TokenState::Missing(why.to_owned()), Secret::new(""));
                if is_whole {
                    let hint = "check the spelling in users.include, or paste a token into users.tokens";
                    self.outages.tell(format!("{name}: {why}; what was wanted before stays wanted"), hint);
                }
            }
        }
        // Who is not known because nobody could be asked has not left.
        for name in ask.known.iter().filter(|name| !is_whole && ask.config.users.includes(name)) {
            if seen.insert(name.clone()) {
                let why = "plex.tv could not be asked".to_owned();
                self.add(ask, name, UserKind::Shared, TokenState::Missing(why), Secret::new(""));
            }
        }
    }

    fn add_stored(&mut self, ask: &Ask<'_>, id: &str, user: &Stored, is_whole: bool) {
        let kind = if user.home { UserKind::Home } else { UserKind::Shared };
        let fresh = *self.keys.relisted();
        let (state, token) = match &user.server {
            Some(token) if fresh => (TokenState::Given, token.clone()),
            Some(token) => (TokenState::Stored, token.clone()),
            None if !is_whole => (TokenState::Missing("plex.tv could not be asked".to_owned()), Secret::new("")),
            None if user.home && ask.may_ask => match self.keys.make_server_token(id) {
                Ok(token) => (TokenState::Given, token),
                Err(NoToken::Outsider) if !ask.known.contains(&user.name) => return,
                Err(why @ NoToken::Outsider) => {
                    let hint = format!("share it again, or add \"{}\" to users.exclude", user.name);
                    let text = self.no_token(&user.name, "the server", why);
                    self.outages
                        .tell(format!("{}: {text} any more; what was wanted before stays wanted", user.name), hint);
                    (TokenState::Missing(text), Secret::new(""))
                }
                Err(why) => (TokenState::Missing(self.no_token(&user.name, "the server", why)), Secret::new("")),
            },
            None => {
                let why = "plex.tv gives no token for this user";
                let hint = format!("paste one into users.tokens, or add \"{}\" to users.exclude", user.name);
                self.outages.tell(format!("{}: {why}; what was wanted before stays wanted", user.name), hint);
                (TokenState::Missing(why.to_owned()), Secret::new(""))
            }
        };
        let member = self.add(ask, &user.name, kind, state, token);
        member.id = Some(id.to_owned());
        member.uuid.clone_from(&user.uuid);
    }

    /// Says why there is no token of `name` for `what`; the same in a few words.
    fn no_token(&mut self, name: &str, what: &str, why: NoToken) -> String {
        match why {
            NoToken::Pin(text, hint) => {
                self.outages
                    .tell(format!("{name}: no token for {what}: {text}; what was wanted before stays wanted"), hint);
                text
            }
            NoToken::Outsider => "not a user of this server".to_owned(),
            NoToken::Plex(error) => {
                let text = error.to_string();
                self.outages.add(format!("{what} for {name}"), error);
                text
            }
        }
    }

    /// Asks who belongs to it, unless that is known well enough. Says whether it is known.
    fn list(&mut self, ask: &Ask<'_>, named: &[String]) -> bool {
        let is_known = {
            let tokens = self.keys.tokens();
            let age = tokens.listed_at.map(|at| ask.now.duration_since(at));
            let is_there = |name: &String| name == "*" || tokens.users.values().any(|user| user.name == *name);
            age.is_some_and(|age| !age.is_negative() && age < LIST_FOR) && named.iter().all(is_there)
        };
        if is_known {
            return true;
        }
        if !ask.may_ask {
            return false;
        }
        match self.keys.list(ask) {
            Ok(()) => true,
            Err(error) => {
                self.outages.add("who belongs to the household".to_owned(), error);
                false
            }
        }
    }
}

impl Keys {
    fn tokens(&self) -> MutexGuard<'_, Tokens> {
        self.tokens.lock().expect("nothing panics while it holds the tokens")
    }

    fn relisted(&self) -> MutexGuard<'_, bool> {
        self.relisted.lock().expect("nothing panics while it holds this")
    }

    /// Reads the home and the server's shares. Tokens that plex.tv does not give again are kept.
    fn list(&self, ask: &Ask<'_>) -> Result<(), PlexError> {
        let shared = self.account.shared(&self.owner, ask.machine_id)?;
        let had_home = self.tokens().users.values().any(|user| user.home);
        let home = match self.account.home(&self.owner) {
            // Somebody else's home, or none; but one that there was has not gone without a word.
            Err(PlexError::Forbidden { .. } | PlexError::NotFound { .. }) if !had_home => Vec::new(),
            home => home?,
        };
        let is_named = |user: &crate::plex::HomeUser| {
            user.name == ask.owner_name || user.username.as_deref() == Some(ask.owner_name)
        };
        let any_named = home.iter().any(is_named);
        let is_owner = |user: &crate::plex::HomeUser| if any_named { is_named(user) } else { user.admin };
        let mut tokens = self.tokens();
        let before = std::mem::take(&mut tokens.users);
        tokens.owner_uuid = home.iter().find(|user| is_owner(user)).and_then(|user| user.uuid.clone());
        for user in home.into_iter().filter(|user| !is_owner(user)) {
            let stored =
                Stored { name: user.name, uuid: user.uuid, home: true, protected: user.protected, ..Stored::default() };
            tokens.users.insert(user.id, stored);
        }
        for user in shared {
            let stored = tokens.users.entry(user.id).or_default();
            stored.server = user.token;
            if stored.name.is_empty() {
                stored.name = user.name;
            }
        }
        for (id, stored) in &mut tokens.users {
            if let Some(before) = before.get(id) {
                stored.server = stored.server.take().or_else(|| before.server.clone());
                stored.account.clone_from(&before.account);
            }
        }
        tokens.listed_at = Some(ask.now);
        tokens.changed = true;
        *self.relisted() = true;
        Ok(())
    }

    /// The account token of a home user: the kept one, or a new one in place of `rejected`.
    fn account_token(&self, id: &str, rejected: Option<&Secret>) -> Result<Secret, NoToken> {
        let (user, machine_id) = {
            let tokens = self.tokens();
            (tokens.users.get(id).cloned().unwrap_or_default(), tokens.machine_id.clone())
        };
        if let Some(kept) = user.account.as_ref().filter(|kept| Some(*kept) != rejected) {
            return Ok(kept.clone());
        }
        tracing::debug!(machine_id, "a new account token");
        let pin = self.pin(&user)?;
        let token = match self.account.switch(&self.owner, user.uuid.as_deref().unwrap_or(id), pin.as_ref()) {
            Ok(token) => token,
            Err(PlexError::Forbidden { .. } | PlexError::Unauthorized { .. }) if user.protected => {
                let hint = format!("check the file that users.pin_files names for \"{}\"", user.name);
                return Err(NoToken::Pin("plex.tv does not accept the PIN".to_owned(), hint));
            }
            Err(error) => return Err(NoToken::Plex(error)),
        };
        let mut tokens = self.tokens();
        tokens.changed = true;
        if let Some(stored) = tokens.users.get_mut(id) {
            stored.account = Some(token.clone());
        }
        Ok(token)
    }

    fn pin(&self, user: &Stored) -> Result<Option<Secret>, NoToken> {
        if !user.protected {
            return Ok(None);
        }
        let name = &user.name;
        let Some(file) = self.pin_files.get(name) else {
            let hint = format!("name a file that holds it in [users.pin_files], or add \"{name}\" to users.exclude");
            return Err(NoToken::Pin("a PIN protects the profile".to_owned(), hint));
        };
        match read_small(file, LONGEST_PIN).map(|text| Secret::new(&text)) {
            Ok(pin) if !pin.is_empty() => Ok(Some(pin)),
            Ok(_) => Err(NoToken::Pin(format!("{file} holds no PIN"), "the digits alone, on one line".to_owned())),
            Err(error) => {
                let hint = "users.pin_files has to name a file that plexcache may read".to_owned();
                Err(NoToken::Pin(format!("cannot read {file}: {error}"), hint))
            }
        }
    }

    /// A home user's token of the server, through the account.
    fn make_server_token(&self, id: &str) -> Result<Secret, NoToken> {
        let machine_id = self.tokens().machine_id.clone();
        let account = self.account_token(id, None)?;
        let token = match self.account.server_token(&account, &machine_id) {
            Err(PlexError::Unauthorized { .. }) => {
                let account = self.account_token(id, Some(&account))?;
                self.account.server_token(&account, &machine_id)
            }
            token => token,
        };
        let token = token.map_err(NoToken::Plex)?;
        let mut tokens = self.tokens();
        tokens.changed = true;
        if let Some(stored) = tokens.users.get_mut(id) {
            stored.server.clone_from(&token);
            stored.outsider = token.is_none();
        }
        token.ok_or(NoToken::Outsider)
    }

    /// Another token than the one that the server rejects, where plex.tv gives one.
    fn renew_server(&self, rejected: &Secret) -> Option<Secret> {
        let (id, machine_id, is_home) = {
            let tokens = self.tokens();
            let (id, user) = tokens.users.iter().find(|(_, user)| user.server.as_ref() == Some(rejected))?;
            (id.clone(), tokens.machine_id.clone(), user.home)
        };
        let mut relisted = self.relisted();
        if !*relisted {
            match self.account.shared(&self.owner, &machine_id) {
                Ok(shared) => {
                    *relisted = true;
                    let mut tokens = self.tokens();
                    tokens.changed = true;
                    for user in shared {
                        if let (Some(stored), Some(token)) = (tokens.users.get_mut(&user.id), user.token) {
                            stored.server = Some(token);
                        }
                    }
                }
                Err(error) => tracing::info!("cannot read the server's shares: {error}"),
            }
        }
        drop(relisted);
        let listed = self.tokens().users.get(&id).and_then(|user| user.server.clone());
        if let Some(new) = listed.filter(|new| new != rejected) {
            return Some(new);
        }
        if !is_home {
            return None;
        }
        self.make_server_token(&id).ok().filter(|new| new != rejected)
    }
}

/// What plex.tv did not answer, told in as few lines as it has causes.
#[derive(Debug, Default)]
struct Outages {
    told: Vec<Trouble>,
    missing: Vec<(String, PlexError)>,
}

impl Outages {
    /// Something with a way out of its own.
    fn tell(&mut self, text: String, hint: impl Into<String>) {
        let trouble = Trouble { text, hint: Some(hint.into()) };
        if !self.told.contains(&trouble) {
            self.told.push(trouble);
        }
    }

    /// `what` was not answered.
    fn add(&mut self, what: String, error: PlexError) {
        self.missing.push((what, error));
    }

    fn told(&self) -> Vec<Trouble> {
        let mut told = Vec::new();
        let mut rest: Vec<&(String, PlexError)> = self.missing.iter().collect();
        while let Some((_, error)) = rest.first() {
            let cause = std::mem::discriminant(error);
            let (same, other): (Vec<_>, Vec<_>) =
                rest.iter().copied().partition(|(_, error)| std::mem::discriminant(error) == cause);
            let what: Vec<&str> = same.iter().map(|(what, _)| what.as_str()).collect();
            let text = format!("plex.tv: {error}; what was known before counts for {}", what.join(", "));
            told.push(Trouble { text, hint: hint(error).map(str::to_owned) });
            rest = other;
        }
        told.extend(self.told.iter().cloned());
        told
    }
}

/// What to do about an error of plex.tv; the error's own hint speaks of the server.
fn hint(error: &PlexError) -> Option<&'static str> {
    match error {
        PlexError::Unauthorized { .. } => Some(
            "plex.tv knows the token of an account alone, such as PlexOnlineToken; to do without plex.tv set \
             select.watchlist = false and name the users in users.include",
        ),
        PlexError::Unreachable { .. }
        | PlexError::Tls { .. }
        | PlexError::Redirected { .. }
        | PlexError::NotPlex { .. } => {
            Some("to do without plex.tv set select.watchlist = false and name the users in users.include")
        }
        _ => None,
    }
}
