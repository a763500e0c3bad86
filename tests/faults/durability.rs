//! The calls of the real binary, held against the rules of [`crate::order`].
//!
//! Not only of runs that go well: what a killed run left and the next one repaired is one trace, because
//! what the first did not sync is not synced by its end; and a call that failed had no effect.

use std::path::Path;

use serde_json::Value;

use crate::order::{Action, Event, What, check};
use crate::stepper::{Call, Fate, Trace};
use crate::world::{JOBS, Job, PLACEMENTS, World, stride};

const HISTORY: &str = "state/history.jsonl";

/// What happened in a world since it was laid out.
pub struct Recording {
    pub world: World,
    pub events: Vec<Event>,
}

impl Recording {
    fn new(placement: &'static str, job: Job) -> Self {
        Self::of(World::new(placement, job))
    }

    pub fn of(world: World) -> Self {
        let had = |(path, entry): (String, crate::util::env::Entry)| {
            let what = match entry.kind {
                "folder" => What::Folder,
                "link" => What::Link,
                _ => What::File,
            };
            Event::Had(what, path)
        };
        let events = world.names().into_iter().map(had).collect();
        Self { world, events }
    }

    /// Runs the job, or the `sync` that follows it, and takes down what had an effect.
    pub fn run(&mut self, is_repair: bool, mut fate: impl FnMut(usize, &Call) -> Fate) -> Trace {
        let mut fates = Vec::new();
        let fate = |number: usize, call: &Call| {
            fates.push(fate(number, call));
            fates[number]
        };
        let trace = if is_repair { self.world.run_sync(fate) } else { self.world.run(fate) };
        let root = self.world.root();
        for (call, fate) in trace.calls.iter().zip(fates) {
            match fate {
                Fate::Happens | Fate::Short | Fate::Asked => self.events.extend(events(&root, call)),
                Fate::Fails(_) if matches!(call.name, "fsync" | "fdatasync") => {
                    self.events.push(Event::SyncFails(call.paths[0].clone()));
                }
                Fate::Fails(_) | Fate::Killed => {}
            }
        }
        if trace.status == Some(0) {
            self.events.push(Event::GoodEnd);
        }
        trace
    }

    #[track_caller]
    pub fn keeps_the_order(&self) {
        if let Err(why) = check(&self.events) {
            let lines: Vec<String> =
                self.events.iter().enumerate().map(|(number, event)| format!("{number} {event:?}")).collect();
            panic!("{}\n{}: {why}", lines.join("\n"), self.world.story());
        }
    }
}

/// What a call means to the rules; nothing where it is about a derived file of the state.
fn events(root: &Path, call: &Call) -> Vec<Event> {
    let path = call.paths[0].clone();
    if path == HISTORY {
        return match call.name {
            "write" => call.text.lines().map(|line| record(root, line)).collect(),
            "fsync" | "fdatasync" => vec![Event::HistorySync],
            _ => Vec::new(),
        };
    }
    if !call.is_on_media() {
        return Vec::new();
    }
    let to = || call.paths[1].clone();
    let is_set = |flag: i32| call.flags & u64::from(flag.cast_unsigned()) != 0;
    let event = match call.name {
        "write" | "writev" | "pwrite" | "copy_file_range" | "sendfile" | "ftruncate" | "truncate" => Event::Write(path),
        // Room that is reserved, and writing that is begun, promise nothing.
        "fallocate" | "sync_file_range" => return Vec::new(),
        "fsync" => Event::Sync(path),
        "fdatasync" => Event::DataSync(path),
        "utimensat" => Event::Times(path),
        "fchmod" | "fchown" | "fsetxattr" | "fremovexattr" | "chmod" | "fchmodat" => Event::Describe(path),
        "open" | "openat" | "creat" => {
            Event::Create { path, is_careful: is_set(libc::O_EXCL) && is_set(libc::O_NOFOLLOW) }
        }
        "renameat2" if call.flags == u64::from(libc::RENAME_EXCHANGE) => Event::Exchange(path, to()),
        "rename" | "renameat" | "renameat2" => {
            Event::Rename { from: path, to: to(), is_careful: call.flags == u64::from(libc::RENAME_NOREPLACE) }
        }
        "unlink" | "unlinkat" | "rmdir" => Event::Remove(path),
        "link" | "linkat" => Event::HardLink(path, to()),
        "symlink" | "symlinkat" => Event::Symlink(path),
        "mkdir" | "mkdirat" => Event::Folder(path),
        other => panic!("what does {other} mean?"),
    };
    vec![event]
}

/// What a line of the history means to the rules.
fn record(root: &Path, line: &str) -> Event {
    let record: Value = serde_json::from_str(line).unwrap();
    let id = || (record["run"].as_u64().unwrap(), record["seq"].as_u64().unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let action = &record["action"];
    let below = |tier: &str| {
        let path = Path::new(action[tier].as_str().unwrap()).join(action["path"].as_str().unwrap());
        path.strip_prefix(root).unwrap().to_str().unwrap().to_owned()
    };
    match record["event"].as_str().unwrap() {
        "intent" => {
            let (array, cache) = (below("array_root"), below("cache_root"));
            let (caches, temp) = (action["kind"] == "cache", text(&record["temp"]));
            Event::Intent(id(), Action { caches, array, cache, temp })
        }
        "made" => Event::MakesFolders(id()),
        "published" => Event::Published(id()),
        "ended" => Event::Ended { id: id(), is_done: record["result"] == "done" },
        _ => Event::OtherRecord,
    }
}

/// Where renaming takes a link and an unlink.
fn without_noreplace(call: &Call) -> Fate {
    let is_refused = call.name == "renameat2" && call.flags == u64::from(libc::RENAME_NOREPLACE);
    if is_refused { Fate::Fails(libc::EINVAL) } else { Fate::Happens }
}

fn in_every_world(mut test: impl FnMut(&'static str, Job)) {
    for placement in PLACEMENTS {
        for job in JOBS {
            test(placement, job);
        }
    }
}

#[test]
fn every_step_relies_on_what_is_durable_only() {
    in_every_world(|placement, job| {
        let mut recording = Recording::new(placement, job);
        assert_eq!(recording.run(false, |_, _| Fate::Happens).status, Some(0));
        let count = |wanted: fn(&Event) -> bool| recording.events.iter().filter(|event| wanted(event)).count();
        // A trace of nothing would keep every rule.
        assert_eq!(count(|event| matches!(event, Event::Intent(..))), 3, "{placement} {job:?}");
        assert_eq!(count(|event| matches!(event, Event::Ended { .. })), 3, "{placement} {job:?}");
        let is_copy = |path: &str| path.rsplit('.').next() == Some("part");
        let copies = recording.events.iter();
        let copies = copies.filter(|event| matches!(event, Event::Create { path, .. } if is_copy(path))).count();
        let expected = match (job, placement) {
            (Job::Sync, _) | (_, "move") => 3,
            (Job::EvictEdited, _) => 1,
            _ => 0,
        };
        assert_eq!(copies, expected, "{placement} {job:?}");
        recording.keeps_the_order();
    });
}

/// What the two subtitles share is done once: the rules are kept for each, and cost no more than those of one.
#[test]
fn small_files_share_the_syncs_of_the_history_and_of_folders() {
    for placement in PLACEMENTS {
        let mut recording = Recording::new(placement, Job::Sync);
        recording.run(false, |_, _| Fate::Happens);
        let events = &recording.events;
        let intents: Vec<usize> = (0..events.len()).filter(|at| matches!(events[*at], Event::Intent(..))).collect();
        let [first, second, third] = intents[..] else { panic!("{intents:?}") };
        assert_eq!(second, first + 1, "{placement}: both are announced before either is touched");
        let count =
            |wanted: &dyn Fn(&Event) -> bool| events[second..third].iter().filter(|event| wanted(event)).count();
        let season = |disk: &'static str| move |event: &Event| matches!(event, Event::Sync(path) if path.starts_with(disk) && path.ends_with("Season 01"));
        // The folder is synced when it is made, too.
        let of_original =
            [("copy", 0), ("hide", 1), ("move", 2), ("symlink", 3)].iter().find(|(of, _)| *of == placement);
        assert_eq!(Some(count(&season("disk1"))), of_original.map(|(_, syncs)| *syncs), "{placement}");
        assert_eq!(count(&season("cache")), 1, "{placement}");
        // What is intended, which folders are made, what is published, what came of it.
        assert_eq!(count(&|event| *event == Event::HistorySync), 4, "{placement}");
    }
}

#[test]
fn the_order_holds_where_renaming_takes_a_link_and_an_unlink() {
    in_every_world(|placement, job| {
        let mut recording = Recording::new(placement, job);
        assert_eq!(recording.run(false, |_, call| without_noreplace(call)).status, Some(0));
        recording.keeps_the_order();
    });
}

#[test]
fn the_order_holds_through_a_kill_and_the_repair() {
    let stride = stride(43);
    in_every_world(|placement, job| {
        for victim in (0..).step_by(stride) {
            let mut recording = Recording::new(placement, job);
            let killed = recording.run(false, |number, _| if number == victim { Fate::Killed } else { Fate::Happens });
            if killed.status.is_some() {
                break;
            }
            recording.run(true, |_, _| Fate::Happens);
            recording.keeps_the_order();
        }
    });
}

#[test]
fn the_order_holds_after_an_error_at_any_step() {
    let stride = stride(43);
    in_every_world(|placement, job| {
        for victim in (0..).step_by(stride) {
            let mut recording = Recording::new(placement, job);
            let fails = |number, _: &Call| if number == victim { Fate::Fails(libc::EIO) } else { Fate::Happens };
            let is_beyond_its_end = recording.run(false, fails).calls.len() <= victim;
            recording.keeps_the_order();
            if is_beyond_its_end {
                break;
            }
        }
    });
}
