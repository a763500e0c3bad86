//! What the stand-in server has: users, sections, items with their media, playlists and collections.
//!
//! Owns the one model from which every answer is made. Items form trees (show, season, episode) whose
//! two directions always agree; seasons come and go with their episodes. Rating keys, media ids and
//! part ids are drawn from separate ranges, so that a client that mixes them up finds nothing. What a
//! user has seen and is playing is in `watching`. A rating key, section or name that does not exist is
//! a mistake of the test and panics.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::SystemTime;

use super::outside::Outside;
use super::watching::{Play, Session, User};

/// Plex's opaque id of an item; also of a playlist and a collection.
pub type RatingKey = String;

/// Id of a section, the `key` of `/library/sections`.
pub type SectionId = i64;

/// The type of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SectionKind {
    Movie,
    Show,
    /// Music; always empty here, it is there to be passed over.
    Artist,
}

impl SectionKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Movie => "movie",
            Self::Show => "show",
            Self::Artist => "artist",
        }
    }
}

/// The type of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Movie,
    Show,
    Season,
    Episode,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Movie => "movie",
            Self::Show => "show",
            Self::Season => "season",
            Self::Episode => "episode",
        }
    }

    /// Whether it has media of its own.
    pub(super) fn is_leaf(self) -> bool {
        matches!(self, Self::Movie | Self::Episode)
    }

    /// Plex's `type=` argument.
    pub(super) fn number(self) -> &'static str {
        match self {
            Self::Movie => "1",
            Self::Show => "2",
            Self::Season => "3",
            Self::Episode => "4",
        }
    }
}

/// One file of a version.
#[derive(Debug, Clone)]
pub struct Part {
    pub id: i64,
    /// Path as the server sees it; `None` for live TV and the cloud.
    pub file: Option<String>,
    /// Bytes; `None` while a recording is in progress.
    pub size: Option<i64>,
}

/// One version of an item. Ids are given when it is added.
#[derive(Debug, Clone)]
pub struct Media {
    pub id: i64,
    pub resolution: String,
    /// 42 marks a copy that the server optimised.
    pub proxy_type: i64,
    /// When the file was found missing, in epoch seconds: the version is in the trash.
    pub deleted_at: Option<i64>,
    pub parts: Vec<Part>,
}

impl Media {
    /// A version in one file, in 1080p.
    pub fn file(file: &str, size: i64) -> Self {
        Self::stacked(&[(file, size)])
    }

    /// A version in several files that play one after the other.
    pub fn stacked(parts: &[(&str, i64)]) -> Self {
        let part = |&(file, size): &(&str, i64)| Part { id: 0, file: Some(file.to_owned()), size: Some(size) };
        Self {
            id: 0,
            resolution: "1080".to_owned(),
            proxy_type: 0,
            deleted_at: None,
            parts: parts.iter().map(part).collect(),
        }
    }

    /// A version whose part has neither file nor size: live TV, a recording in progress, the cloud.
    pub fn without_file() -> Self {
        let part = Part { id: 0, file: None, size: None };
        Self { parts: vec![part], ..Self::stacked(&[]) }
    }

    /// As Plex writes it: `4k`, `1080`, `720`, `sd`.
    #[must_use]
    pub fn resolution(self, resolution: &str) -> Self {
        Self { resolution: resolution.to_owned(), ..self }
    }

    /// Marks the version as one that the server made.
    #[must_use]
    pub fn optimized(self) -> Self {
        Self { proxy_type: 42, ..self }
    }
}

/// An item of a section. Fields that are public may be changed at will.
#[derive(Debug, Clone)]
pub struct Item {
    pub(super) key: u64,
    pub(super) section: SectionId,
    pub(super) kind: Kind,
    pub(super) parent: Option<u64>,
    pub(super) children: Vec<u64>,
    pub title: String,
    pub year: Option<i64>,
    /// Number of the season or of the episode in it; `None` for one that was never matched.
    pub index: Option<i64>,
    pub guid: String,
    /// `imdb://tt…`, `tmdb://…`, `tvdb://…`.
    pub external_guids: Vec<String>,
    /// Epoch seconds.
    pub added_at: i64,
    /// Epoch seconds.
    pub updated_at: i64,
    /// Milliseconds.
    pub duration: i64,
    /// `YYYY-MM-DD`.
    pub released: Option<String>,
    pub media: Vec<Media>,
    /// Epoch seconds: the item is in the trash.
    pub deleted_at: Option<i64>,
    /// Of a show: seasons are not shown, so episodes come without a parent.
    pub hide_seasons: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Section {
    pub(super) id: SectionId,
    pub(super) kind: SectionKind,
    pub(super) title: String,
    pub(super) locations: Vec<String>,
    pub(super) hidden: i64,
    pub(super) refreshing: bool,
}

/// A playlist or a collection.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) key: u64,
    pub(super) title: String,
    pub(super) of: GroupOf,
    pub(super) items: Vec<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GroupOf {
    /// A playlist of the user at this index.
    User(usize),
    /// A collection.
    Section(SectionId),
}

/// A scan that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refresh {
    pub section: SectionId,
    /// The folder, decoded; `None` for the whole section.
    pub path: Option<String>,
    /// Whether Plex would scan anything: the path is one of the section's locations or below one.
    pub takes_effect: bool,
}

/// What becomes of the PIN that plex.tv gives out.
#[derive(Debug, Clone, Default)]
pub(super) enum Pin {
    /// Nobody types it.
    #[default]
    Waiting,
    /// Somebody types it after so many looks, and this token comes.
    Linked { looks: u32, token: String },
    /// plex.tv knows it no more.
    Expired,
}

/// Everything that the stand-in server knows.
#[derive(Debug)]
pub struct Library {
    pub machine_id: String,
    pub friendly_name: String,
    pub version: String,
    /// `Linux`, `Windows`, `MacOSX`, `FreeBSD`; tells how the server writes paths.
    pub platform: String,
    /// The server's clock, epoch seconds. Starts as the system's; it stands still.
    pub now: i64,
    /// `OnDeckWindow`: what was played longer ago is not on deck. Weeks.
    pub on_deck_weeks: i64,
    /// `OnDeckLimit`: the most rows on deck.
    pub on_deck_limit: usize,
    /// Whether `checkFiles=1` is understood.
    pub checks_files: bool,
    pub(super) users: Vec<User>,
    pub(super) sections: Vec<Section>,
    pub(super) items: BTreeMap<u64, Item>,
    pub(super) groups: Vec<Group>,
    pub(super) sessions: Vec<Session>,
    pub(super) history: Vec<Play>,
    pub(super) refreshes: Vec<Refresh>,
    pub(super) outside: Outside,
    /// How often an item was added, changed or removed: sections show that they changed.
    pub(super) revision: i64,
    pub(super) pin: Pin,
    local: Vec<(String, PathBuf)>,
    unseen: Vec<PathBuf>,
    /// The last rating key, media id and part id that were given out.
    keys: u64,
    media_ids: i64,
    part_ids: i64,
}

impl Default for Library {
    fn default() -> Self {
        Self::new()
    }
}

impl Library {
    /// A server without sections. Its owner is the user `owner`, id 1, with the token `owner-token`.
    pub fn new() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut library = Self {
            machine_id: "5ca1ab1e00000000000000000000000000000001".to_owned(),
            friendly_name: "Stand-in".to_owned(),
            version: "1.43.3.10861-cd85035e7".to_owned(),
            platform: "Linux".to_owned(),
            now: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            on_deck_weeks: 16,
            on_deck_limit: 40,
            checks_files: true,
            users: Vec::new(),
            sections: Vec::new(),
            items: BTreeMap::new(),
            groups: Vec::new(),
            sessions: Vec::new(),
            history: Vec::new(),
            refreshes: Vec::new(),
            outside: Outside::default(),
            revision: 0,
            pin: Pin::default(),
            local: Vec::new(),
            unseen: Vec::new(),
            keys: 100,
            media_ids: 50_000,
            part_ids: 70_000,
        };
        library.users.push(User::new(1, "owner", "owner-token"));
        library
    }

    /// Adds a user who sees every section and owns nothing. Returns the account's id.
    pub fn add_user(&mut self, name: &str, token: &str) -> i64 {
        let id = 1000 + i64::try_from(self.users.len()).unwrap_or(i64::MAX);
        self.users.push(User::new(id, name, token));
        id
    }

    /// Lets the user see these sections and no others.
    pub fn share_only(&mut self, user: &str, sections: &[SectionId]) {
        let user = self.user_index(user);
        self.users[user].sections = Some(sections.iter().copied().collect::<BTreeSet<_>>());
    }

    /// Gives the user another token; the old one is worth nothing from now on.
    pub fn set_token(&mut self, user: &str, token: &str) {
        let user = self.user_index(user);
        token.clone_into(&mut self.users[user].token);
    }

    /// Somebody types the PIN of plex.tv after it was looked at so many times, and gets this token.
    pub fn link_pin(&mut self, looks: u32, token: &str) {
        self.pin = Pin::Linked { looks, token: token.to_owned() };
    }

    /// The PIN of plex.tv lives no longer.
    pub fn expire_pin(&mut self) {
        self.pin = Pin::Expired;
    }

    /// Adds a section whose folders are `locations`, as the server sees them.
    pub fn add_section(&mut self, title: &str, kind: SectionKind, locations: &[&str]) -> SectionId {
        let id = self.sections.last().map_or(1, |section| section.id + 1);
        self.sections.push(Section {
            id,
            kind,
            title: title.to_owned(),
            locations: locations.iter().map(|&location| location.to_owned()).collect(),
            hidden: 0,
            refreshing: false,
        });
        id
    }

    /// Visibility of a section: 0 shown, 1 kept off the home screen, 2 kept out of the search too.
    pub fn set_hidden(&mut self, section: SectionId, hidden: i64) {
        self.section_mut(section).hidden = hidden;
    }

    /// Whether the section is being scanned.
    pub fn set_refreshing(&mut self, section: SectionId, refreshing: bool) {
        self.section_mut(section).refreshing = refreshing;
    }

    /// The scans that were asked for, oldest first.
    pub fn refreshes(&self) -> &[Refresh] {
        &self.refreshes
    }

    /// Says where a folder of the server really is, for `checkFiles=1`. Several folders of one prefix
    /// are a union, the first shown above the later ones. Other paths are taken as they are.
    pub fn map_local(&mut self, prefix: &str, folder: impl Into<PathBuf>) {
        self.local.push((prefix.trim_end_matches(['/', '\\']).to_owned(), folder.into()));
    }

    /// Says that nothing below this folder can be seen from where the server runs, such as a container:
    /// it is in no union, and a link that leads there leads nowhere.
    pub fn hide_local(&mut self, folder: impl Into<PathBuf>) {
        self.unseen.push(folder.into());
    }

    /// Whether the server finds the file, and whether anybody may read it.
    pub(super) fn finds(&self, file: &str) -> (bool, bool) {
        // The file systems of Windows do not tell the case of letters apart.
        let windows = !file.starts_with('/');
        let below = |prefix: &String| {
            let (start, rest) = file.split_at_checked(prefix.len())?;
            let same = if windows { start.eq_ignore_ascii_case(prefix) } else { start == prefix };
            let rest = rest.strip_prefix(if windows { '\\' } else { '/' }).filter(|_| same)?;
            Some(if windows { rest.replace('\\', "/") } else { rest.to_owned() })
        };
        let longest =
            self.local.iter().filter(|(prefix, _)| below(prefix).is_some()).map(|(prefix, _)| prefix.len()).max();
        let mapped = self.local.iter().filter(|(prefix, _)| Some(prefix.len()) == longest);
        let mut names: Vec<PathBuf> = mapped.filter_map(|(prefix, folder)| Some(folder.join(below(prefix)?))).collect();
        if names.is_empty() {
            names.push(PathBuf::from(file));
        }
        let is_seen = |path: &PathBuf| !self.unseen.iter().any(|folder| path.starts_with(folder));
        let shown = names.into_iter().filter(is_seen).find(|name| name.symlink_metadata().is_ok());
        // A link has to lead to where the server can see too.
        let target = shown.and_then(|name| name.canonicalize().ok()).filter(is_seen);
        // Not opened: what the test process has open for a moment, its children have open too.
        let mode = target.as_ref().and_then(|path| path.metadata().ok()).map_or(0, |meta| meta.permissions().mode());
        (target.is_some(), mode & 0o444 != 0)
    }

    /// Adds a movie with its versions.
    pub fn add_movie(&mut self, section: SectionId, title: &str, year: i64, media: &[Media]) -> RatingKey {
        let key = self.add_item(section, Kind::Movie, title, None);
        self.items.entry(key).and_modify(|item| item.year = Some(year));
        self.set_media(&key.to_string(), media);
        key.to_string()
    }

    /// Adds a show without episodes.
    pub fn add_show(&mut self, section: SectionId, title: &str) -> RatingKey {
        self.add_item(section, Kind::Show, title, None).to_string()
    }

    /// Adds an episode of one version in one file, and its season where it is the first. Season 0 holds specials.
    pub fn add_episode(
        &mut self,
        show: &str,
        season: i64,
        index: i64,
        title: &str,
        file: &str,
        size: i64,
    ) -> RatingKey {
        self.add_episode_media(show, season, index, title, &[Media::file(file, size)])
    }

    /// Adds an episode with its versions.
    pub fn add_episode_media(
        &mut self,
        show: &str,
        season: i64,
        index: i64,
        title: &str,
        media: &[Media],
    ) -> RatingKey {
        let show = self.key_of(show);
        let section = self.items[&show].section;
        let known = self.items[&show].children.iter().copied().find(|key| self.items[key].index == Some(season));
        let season = known.unwrap_or_else(|| {
            let name = if season == 0 { "Specials".to_owned() } else { format!("Season {season}") };
            let key = self.add_item(section, Kind::Season, &name, Some(show));
            self.items.entry(key).and_modify(|item| item.index = Some(season));
            key
        });
        let key = self.add_item(section, Kind::Episode, title, Some(season));
        self.items.entry(key).and_modify(|item| item.index = Some(index));
        self.set_media(&key.to_string(), media);
        key.to_string()
    }

    /// An item, to be changed.
    pub fn item_mut(&mut self, rating_key: &str) -> &mut Item {
        self.revision += 1;
        let key = self.key_of(rating_key);
        self.items.get_mut(&key).expect("key_of gives keys of items")
    }

    /// Replaces all versions of an item; they get new ids.
    pub fn set_media(&mut self, rating_key: &str, media: &[Media]) {
        let mut media = media.to_vec();
        for version in &mut media {
            self.media_ids += 1;
            version.id = self.media_ids;
            for part in &mut version.parts {
                self.part_ids += 1;
                part.id = self.part_ids;
            }
        }
        self.item_mut(rating_key).media = media;
    }

    /// Every part with this file now has another one, as after a scan that found it renamed.
    pub fn rename_file(&mut self, file: &str, to: &str) {
        let renamed = self.change_parts(file, |part| part.file = Some(to.to_owned()));
        assert!(renamed > 0, "no item has the file {file}");
    }

    /// Every part with this file now has another size, as after a scan that found it replaced.
    pub fn resize_file(&mut self, file: &str, size: i64) {
        let resized = self.change_parts(file, |part| part.size = Some(size));
        assert!(resized > 0, "no item has the file {file}");
    }

    fn change_parts(&mut self, file: &str, change: impl Fn(&mut Part)) -> usize {
        self.revision += 1;
        let media = self.items.values_mut().flat_map(|item| &mut item.media);
        let parts = media.flat_map(|media| &mut media.parts).filter(|part| part.file.as_deref() == Some(file));
        parts.map(change).count()
    }

    /// Removes an item and all below it; a season and a show go with their last episode. What plays it
    /// stops, and history no longer knows its key.
    pub fn remove(&mut self, rating_key: &str) {
        self.revision += 1;
        let mut doomed = vec![self.key_of(rating_key)];
        while let Some(key) = doomed.pop() {
            let Some(item) = self.items.remove(&key) else { continue };
            doomed.extend(item.children);
            self.forget(key);
            if let Some(parent) = item.parent.and_then(|parent| self.items.get_mut(&parent)) {
                parent.children.retain(|child| *child != key);
                if parent.children.is_empty() {
                    doomed.push(parent.key);
                }
            }
        }
    }

    /// Adds a playlist of the user.
    pub fn add_playlist(&mut self, user: &str, title: &str, items: &[&str]) -> RatingKey {
        let of = GroupOf::User(self.user_index(user));
        self.add_group(title, of, items)
    }

    /// Adds a collection to a section.
    pub fn add_collection(&mut self, section: SectionId, title: &str, items: &[&str]) -> RatingKey {
        self.add_group(title, GroupOf::Section(section), items)
    }

    fn add_group(&mut self, title: &str, of: GroupOf, items: &[&str]) -> RatingKey {
        let items = items.iter().map(|key| self.key_of(key)).collect();
        let key = self.next_key();
        self.groups.push(Group { key, title: title.to_owned(), of, items });
        key.to_string()
    }

    fn next_key(&mut self) -> u64 {
        self.keys += 1;
        self.keys
    }

    fn add_item(&mut self, section: SectionId, kind: Kind, title: &str, parent: Option<u64>) -> u64 {
        self.section_mut(section);
        self.revision += 1;
        let key = self.next_key();
        if let Some(parent) = parent.and_then(|parent| self.items.get_mut(&parent)) {
            parent.children.push(key);
        }
        let item = Item {
            key,
            section,
            kind,
            parent,
            children: Vec::new(),
            title: title.to_owned(),
            year: None,
            index: None,
            guid: format!("plex://{}/{key:024x}", kind.name()),
            external_guids: Vec::new(),
            added_at: self.now,
            updated_at: self.now,
            duration: 2_700_000,
            released: None,
            media: Vec::new(),
            deleted_at: None,
            hide_seasons: false,
        };
        self.items.insert(key, item);
        key
    }

    pub(super) fn key_of(&self, rating_key: &str) -> u64 {
        self.find_item(rating_key).unwrap_or_else(|| panic!("no item has the rating key {rating_key}")).key
    }

    pub(super) fn find_item(&self, rating_key: &str) -> Option<&Item> {
        self.items.get(&rating_key.parse().ok()?)
    }

    pub(super) fn section(&self, id: SectionId) -> Option<&Section> {
        self.sections.iter().find(|section| section.id == id)
    }

    fn section_mut(&mut self, id: SectionId) -> &mut Section {
        let section = self.sections.iter_mut().find(|section| section.id == id);
        section.unwrap_or_else(|| panic!("there is no section {id}"))
    }

    /// The item and what it is in: episode, season, show.
    pub(super) fn lineage(&self, item: u64) -> impl Iterator<Item = &Item> {
        std::iter::successors(self.items.get(&item), |item| self.items.get(&item.parent?))
    }

    /// The item of that kind at or above this one.
    pub(super) fn ancestor(&self, item: u64, kind: Kind) -> Option<&Item> {
        self.lineage(item).find(|item| item.kind == kind)
    }

    /// The children in order of their number; those without one come last.
    pub(super) fn children(&self, item: u64) -> Vec<&Item> {
        let mut children: Vec<&Item> =
            self.items.get(&item).into_iter().flat_map(|item| &item.children).map(|key| &self.items[key]).collect();
        children.sort_by_key(|child| (child.index.is_none(), child.index, child.key));
        children
    }

    /// All movies or episodes at or below an item, in season and episode order, specials first.
    pub(super) fn leaves(&self, item: u64) -> Vec<&Item> {
        match self.items.get(&item) {
            Some(item) if item.kind.is_leaf() => vec![item],
            _ => self.children(item).into_iter().flat_map(|child| self.leaves(child.key)).collect(),
        }
    }
}
