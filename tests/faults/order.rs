//! The order in which effects, syncs and records may follow each other: what a power cut is survived by.
//!
//! [`check`] is a pure function over a list of events. It keeps what stands under every name, and what of it
//! the disk could still forget: contents since the last sync of the file, names since the last sync of
//! their folder, records since the last sync of the history. It refuses the first event that relies on
//! something that could be forgotten. The rules, by the words of the refusal:
//!
//! | rule | words |
//! |---|---|
//! | intent before action | "no intent on disk", "no record on disk that it makes folders" |
//! | a copy before the original goes | "no other durable copy", "not published on disk" |
//! | effect before outcome | "is recorded before" |
//! | a copy is finished before it gets its name | "gets its name unsynced" |
//! | nothing is replaced | "could replace", "could open what is there", "did not make" |
//! | a good end is durable | "at the end" |

use std::collections::{BTreeMap, BTreeSet};

/// Run and sequence of an action.
pub type Id = (u64, u64);

/// Something that happened, with paths below the world.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Was there, and durable, before.
    Had(What, String),
    /// These five are lines of the history, and promised with its next sync.
    Intent(Id, Action),
    MakesFolders(Id),
    Published(Id),
    Ended {
        id: Id,
        is_done: bool,
    },
    OtherRecord,
    HistorySync,
    Create {
        path: String,
        is_careful: bool,
    },
    Folder(String),
    Symlink(String),
    Write(String),
    /// Owner, mode, attributes.
    Describe(String),
    /// Those of a file are part of its description; those of a folder are no data.
    Times(String),
    Sync(String),
    /// Nothing can make durable any more what was to be synced.
    SyncFails(String),
    /// Contents without owner, mode and times.
    DataSync(String),
    Rename {
        from: String,
        to: String,
        is_careful: bool,
    },
    Exchange(String, String),
    HardLink(String, String),
    Remove(String),
    /// The program ended and said that all is well.
    GoodEnd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    File,
    Folder,
    Link,
}

/// What an intent says.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    pub caches: bool,
    /// Where the file is, or will be.
    pub array: String,
    pub cache: String,
    /// What its temporary names contain.
    pub temp: String,
}

/// Replays the events.
///
/// # Errors
/// The first that breaks a rule, and which.
pub fn check(events: &[Event]) -> Result<(), String> {
    let mut disk = Disk::default();
    for (number, event) in events.iter().enumerate() {
        disk.take(event).map_err(|why| format!("event {number}, {event:?}: {why}"))?;
    }
    Ok(())
}

struct Node {
    what: What,
    /// The action that made it.
    maker: Option<Id>,
    unsynced_data: bool,
    unsynced_description: bool,
}

struct Known {
    action: Action,
    is_promised: bool,
    makes_folders: bool,
    is_published: bool,
    /// Every name that it changed.
    names: BTreeSet<String>,
}

#[derive(Default)]
struct Disk {
    nodes: Vec<Node>,
    names: BTreeMap<String, usize>,
    /// Names that were changed since their folder was synced.
    unsynced_names: BTreeSet<String>,
    actions: BTreeMap<Id, Known>,
    unsynced_records: Vec<Event>,
    failed_syncs: BTreeSet<String>,
}

impl Disk {
    fn take(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::Had(what, path) => self.bind(path, *what, None),
            Event::Intent(id, action) => {
                let known = Known {
                    action: action.clone(),
                    is_promised: false,
                    makes_folders: false,
                    is_published: false,
                    names: BTreeSet::new(),
                };
                self.actions.insert(*id, known);
                self.unsynced_records.push(event.clone());
            }
            Event::MakesFolders(_) | Event::OtherRecord => self.unsynced_records.push(event.clone()),
            Event::Published(id) => {
                self.effects_are_durable(*id, true)?;
                self.unsynced_records.push(event.clone());
            }
            Event::Ended { id, is_done } => {
                self.effects_are_durable(*id, *is_done)?;
                self.actions.remove(id);
                self.unsynced_records.push(event.clone());
            }
            Event::HistorySync => self.promise(),
            Event::Create { path, is_careful } => {
                ensure(*is_careful, "it could open what is there")?;
                let maker = self.change(path)?;
                self.bind(path, What::File, maker);
            }
            Event::Folder(path) => {
                let maker = self.change(path)?;
                if let Some(id) = maker {
                    ensure(self.known(id)?.makes_folders, "no record on disk that it makes folders")?;
                }
                self.bind(path, What::Folder, maker);
            }
            Event::Symlink(path) => {
                let maker = self.change(path)?;
                self.bind(path, What::Link, maker);
            }
            Event::Write(path) => {
                let node = self.node(path)?;
                ensure(node.maker.is_some() || is_marker(path), "it writes to a file that it did not make")?;
                node.unsynced_data = true;
            }
            Event::Describe(path) => self.node(path)?.unsynced_description = true,
            Event::Times(path) => {
                if let Some(&node) = self.names.get(path) {
                    let node = &mut self.nodes[node];
                    node.unsynced_description |= node.what != What::Folder;
                }
            }
            Event::Sync(path) => self.sync(path),
            Event::SyncFails(path) => _ = self.failed_syncs.insert(path.clone()),
            Event::DataSync(path) => self.node(path)?.unsynced_data = false,
            Event::Rename { from, to, is_careful } => self.rename(from, to, *is_careful)?,
            Event::Exchange(one, other) => {
                for (from, to) in [(one, other), (other, one)] {
                    let id = self.change(from)?;
                    self.may_be_called(from, to)?;
                    self.may_lose_its_name(id, from, to, other)?;
                }
                let (node, other_node) = (self.bound(one)?, self.bound(other)?);
                self.names.extend([(one.clone(), other_node), (other.clone(), node)]);
            }
            Event::HardLink(from, to) => {
                self.change(to)?;
                self.may_be_called(from, to)?;
                let node = self.bound(from)?;
                self.names.insert(to.clone(), node);
            }
            // Neither what is not there nor a folder that is not empty is removed.
            Event::Remove(path) if !self.names.contains_key(path) || self.holds_names(path) => {}
            Event::Remove(path) => {
                let id = self.change(path)?;
                self.may_lose_its_name(id, path, "", "")?;
                self.names.remove(path);
            }
            Event::GoodEnd => {
                ensure(self.unsynced_names.is_empty(), "names are not synced at the end")?;
                ensure(self.unsynced_records.is_empty(), "records are not synced at the end")?;
            }
        }
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str, is_careful: bool) -> Result<(), String> {
        let node = self.bound(from)?;
        // Over a file nothing but an empty folder is ever renamed, and over one nothing but a folder.
        ensure(is_careful || self.nodes[node].what == What::Folder, "it could replace what is there")?;
        ensure(!self.names.contains_key(to), "it would replace what is there")?;
        let id = self.change(from)?;
        self.change(to)?;
        self.may_be_called(from, to)?;
        self.may_lose_its_name(id, from, to, "")?;
        self.names.remove(from);
        self.names.insert(to.to_owned(), node);
        Ok(())
    }

    /// The history reached the disk: what was written to it counts from here on.
    fn promise(&mut self) {
        for record in std::mem::take(&mut self.unsynced_records) {
            match record {
                Event::Intent(id, _) => self.promised(id, |known| known.is_promised = true),
                Event::MakesFolders(id) => self.promised(id, |known| known.makes_folders = true),
                Event::Published(id) => self.promised(id, |known| known.is_published = true),
                _ => {}
            }
        }
    }

    /// An action whose end was written meanwhile needs no promise any more.
    fn promised(&mut self, id: Id, what: impl FnOnce(&mut Known)) {
        if let Some(known) = self.actions.get_mut(&id) {
            what(known);
        }
    }

    fn sync(&mut self, path: &str) {
        if let Some(&node) = self.names.get(path) {
            self.nodes[node].unsynced_data = false;
            self.nodes[node].unsynced_description = false;
        }
        self.unsynced_names.retain(|name| parent(name) != path);
    }

    /// The name is about to change. Returns the action that it is part of; markers are part of none.
    fn change(&mut self, path: &str) -> Result<Option<Id>, String> {
        self.unsynced_names.insert(path.to_owned());
        if is_marker(path) {
            return Ok(None);
        }
        // A folder may be part of several that are under way together, and has to be durable for each.
        let its = self.actions.iter_mut().filter(|(_, known)| known.is_promised && known.action.may_name(path));
        let mut first = None;
        for (id, known) in its {
            known.names.insert(path.to_owned());
            first.get_or_insert(*id);
        }
        first.map(Some).ok_or_else(|| format!("there is no intent on disk that names {path}"))
    }

    /// Contents and description of a copy are durable before it has a name that anybody looks at.
    fn may_be_called(&self, from: &str, to: &str) -> Result<(), String> {
        let node = &self.nodes[self.bound(from)?];
        let is_finished = !node.unsynced_data && !node.unsynced_description;
        ensure(is_temporary(to) || is_finished, "it gets its name unsynced")
    }

    /// A file may lose a name when another whole and durable one is there; the unfinished copy of an action
    /// always may, and so may what gets its own name back. `for_it` takes its place in the same step.
    fn may_lose_its_name(&self, id: Option<Id>, name: &str, to: &str, for_it: &str) -> Result<(), String> {
        let (Some(id), Some(&node)) = (id, self.names.get(name)) else { return Ok(()) };
        let known = &self.actions[&id];
        let Action { array, cache, caches, .. } = &known.action;
        let is_own = |node: &Node| node.maker == Some(id);
        let is_unfinished = is_own(&self.nodes[node]) && !known.is_published;
        let is_whole = self.nodes[node].what == What::File && !is_unfinished;
        if !is_whole || to == array || to == cache {
            return Ok(());
        }
        let is_good = |other: &&String| {
            let file = self.names.get(*other).map(|&other| &self.nodes[other]);
            *other != name
                && *other != for_it
                && file.is_some_and(|file| file.what == What::File && !file.unsynced_data && !file.unsynced_description)
                && self.is_durable(other)
        };
        ensure([array, cache].iter().any(is_good), "there is no other durable copy")?;
        let is_second_name = self.names.iter().any(|(other, &same)| same == node && other != name);
        let has_copied =
            self.names.values().any(|&node| self.nodes[node].what == What::File && is_own(&self.nodes[node]));
        let has_to_publish = *caches || (has_copied && for_it.is_empty());
        ensure(known.is_published || is_second_name || !has_to_publish, "the copy is not published on disk")
    }

    /// Whether the name, and all folders above it, would be there after a power cut.
    fn is_durable(&self, path: &str) -> bool {
        let mut names = path.match_indices('/').map(|(end, _)| &path[..end]).chain([path]);
        !names.any(|name| self.unsynced_names.contains(name))
    }

    /// What is about to be recorded of an action has reached the disk. When a sync failed only a good outcome
    /// would be a lie.
    fn effects_are_durable(&mut self, id: Id, is_good: bool) -> Result<(), String> {
        let names = self.known(id)?.names.clone();
        let counts = |name: &&String| is_good || !self.failed_syncs.contains(parent(name));
        if let Some(name) = names.intersection(&self.unsynced_names).find(counts) {
            return Err(format!("it is recorded before the folder of {name} is synced"));
        }
        let is_unsynced = |node: &Node| node.maker == Some(id) && (node.unsynced_data || node.unsynced_description);
        match self.names.iter().find(|(_, node)| is_unsynced(&self.nodes[**node])) {
            Some((name, _)) => Err(format!("it is recorded before {name} is synced")),
            None => Ok(()),
        }
    }

    fn holds_names(&self, path: &str) -> bool {
        self.names.keys().any(|name| name.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')))
    }

    fn bind(&mut self, path: &str, what: What, maker: Option<Id>) {
        self.names.insert(path.to_owned(), self.nodes.len());
        self.nodes.push(Node { what, maker, unsynced_data: false, unsynced_description: false });
    }

    fn bound(&self, path: &str) -> Result<usize, String> {
        self.names.get(path).copied().ok_or_else(|| format!("nobody has made {path}"))
    }

    fn node(&mut self, path: &str) -> Result<&mut Node, String> {
        let node = self.bound(path)?;
        Ok(&mut self.nodes[node])
    }

    fn known(&mut self, id: Id) -> Result<&mut Known, String> {
        self.actions.get_mut(&id).ok_or_else(|| format!("there is no intent of {id:?}"))
    }
}

impl Action {
    /// Whether a change of this name can be part of the action.
    fn may_name(&self, path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        [&self.array, &self.cache].into_iter().any(|file| {
            let is_folder_above = file.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
            let is_temporary =
                name.contains(&self.temp) && format!("{file}/").starts_with(&format!("{}/", parent(path)));
            is_folder_above || is_temporary || path == file || path.strip_suffix(".plexcached") == Some(file)
        })
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn is_marker(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|name| name.starts_with(".plexcache-root"))
}

fn is_temporary(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|name| name.starts_with(".plexcache-"))
}

fn ensure(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

#[path = "order_tests.rs"]
mod tests;
