//! What is kept of the household from run to run: `STATE/tokens.json`, `STATE/feeds.json` and
//! `STATE/client-id`.
//!
//! Owns the only place where tokens are written: a file for its owner alone (0600 from its first byte),
//! replaced in one step. All three are caches: without them plex.tv is asked again. What was kept for
//! another server is not used. A dry run reads and never writes.

use std::collections::BTreeMap;
use std::io;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::plex::Listed;
use crate::secret::Secret;
use crate::state::{PRIVATE, StateDir, read_small, replace_file};

const TOKENS: &str = "tokens.json";
const FEEDS: &str = "feeds.json";
const CLIENT_ID: &str = "client-id";
/// Files of another format are not read.
const FORMAT: u32 = 1;

/// What plex.tv told of the household when it was last asked.
#[derive(Debug, Clone, Default)]
pub(super) struct Tokens {
    pub(super) machine_id: String,
    pub(super) listed_at: Option<Timestamp>,
    /// The owner's uuid.
    pub(super) owner_uuid: Option<String>,
    /// By plex.tv's id.
    pub(super) users: BTreeMap<String, Stored>,
    /// There is something that the file does not have.
    pub(super) changed: bool,
}

/// One user of the household besides the owner.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Stored {
    pub(super) name: String,
    pub(super) uuid: Option<String>,
    /// A member of the owner's home.
    pub(super) home: bool,
    pub(super) protected: bool,
    /// The server is not shared with them.
    pub(super) outsider: bool,
    /// Reads the server for them.
    pub(super) server: Option<Secret>,
    /// Opens their account: a home user's alone.
    pub(super) account: Option<Secret>,
}

/// The file. A [`Secret`] cannot be written by mistake, so its text is taken out here.
#[derive(Serialize, Deserialize)]
struct Saved {
    format: u32,
    machine_id: String,
    listed_at: Option<Timestamp>,
    owner_uuid: Option<String>,
    users: BTreeMap<String, SavedUser>,
}

#[derive(Serialize, Deserialize)]
struct SavedUser {
    name: String,
    uuid: Option<String>,
    home: bool,
    protected: bool,
    outsider: bool,
    server: Option<String>,
    account: Option<String>,
}

impl Tokens {
    pub(super) fn load(state: &StateDir, machine_id: &str) -> Self {
        let saved = state.read::<Saved>(TOKENS);
        let Some(saved) = saved.filter(|saved| saved.format == FORMAT && saved.machine_id == machine_id) else {
            return Self { machine_id: machine_id.to_owned(), ..Self::default() };
        };
        let secret = |text: Option<String>| text.map(|text| Secret::new(&text)).filter(|secret| !secret.is_empty());
        let user = |user: SavedUser| Stored {
            name: user.name,
            uuid: user.uuid,
            home: user.home,
            protected: user.protected,
            outsider: user.outsider,
            server: secret(user.server),
            account: secret(user.account),
        };
        Self {
            machine_id: saved.machine_id,
            listed_at: saved.listed_at,
            owner_uuid: saved.owner_uuid,
            users: saved.users.into_iter().map(|(id, saved)| (id, user(saved))).collect(),
            changed: false,
        }
    }

    pub(super) fn save(&self, state: &StateDir) -> io::Result<()> {
        let text = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.expose().to_owned());
        let user = |user: &Stored| SavedUser {
            name: user.name.clone(),
            uuid: user.uuid.clone(),
            home: user.home,
            protected: user.protected,
            outsider: user.outsider,
            server: text(&user.server),
            account: text(&user.account),
        };
        let saved = Saved {
            format: FORMAT,
            machine_id: self.machine_id.clone(),
            listed_at: self.listed_at,
            owner_uuid: self.owner_uuid.clone(),
            users: self.users.iter().map(|(id, stored)| (id.clone(), user(stored))).collect(),
        };
        state.write(TOKENS, &saved)
    }
}

/// What the feeds have shown: their newest entries, and older ones that still count. By a checksum of
/// the address, which is as good as a password.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Feeds {
    format: u32,
    pub(super) feeds: BTreeMap<String, Vec<Seen>>,
}

/// An entry of a feed, and when it was last there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) listed: Listed,
    pub(super) author: Option<String>,
    pub(super) at: Timestamp,
}

impl Feeds {
    pub(super) fn load(state: &StateDir) -> Self {
        let feeds = state.read::<Self>(FEEDS).filter(|feeds| feeds.format == FORMAT);
        feeds.unwrap_or(Self { format: FORMAT, feeds: BTreeMap::new() })
    }

    pub(super) fn save(&self, state: &StateDir) -> io::Result<()> {
        state.write(FEEDS, self)
    }

    pub(super) fn key(address: &str) -> String {
        format!("{:016x}", xxhash_rust::xxh3::xxh3_64(address.as_bytes()))
    }
}

/// What plex.tv knows this installation by, where it has a name already.
pub fn kept_client_id(state: &StateDir) -> Option<String> {
    let is_id = |text: &&str| (1..=100).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    let text = read_small(&state.file(CLIENT_ID), 128).ok()?;
    Some(text.trim()).filter(is_id).map(str::to_owned)
}

/// What plex.tv knows this installation by: made once and kept. Where it may not be written, the same
/// for all.
pub fn client_id(state: &StateDir, may_write: bool) -> String {
    const ANY: &str = "plexcache";
    if let Some(id) = kept_client_id(state) {
        return id;
    }
    let path = state.file(CLIENT_ID);
    let mut bytes = [0_u8; 16];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    if !may_write || filled != Ok(bytes.len()) {
        return ANY.to_owned();
    }
    let id = format!("{:032x}", u128::from_ne_bytes(bytes));
    match replace_file(&path, PRIVATE, id.as_bytes()) {
        Ok(()) => id,
        Err(error) => {
            tracing::info!("cannot write {path}: {error}");
            ANY.to_owned()
        }
    }
}
