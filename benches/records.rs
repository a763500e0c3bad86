//! Histories that would take years to make: written in the real format, by the product's own types.

use std::fs::{self, DirBuilder, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use plexcache::config::Placement;
use plexcache::history::record::{
    Ended, Event, Outcome, Published, Record, RunFinished, RunOutcome, RunStarted, VERSION,
};
use plexcache::paths::MediaPath;
use plexcache::plan::{Action, EvictWhy, Kind};
use plexcache::select::{Reason, Source};
use plexcache::tier::Fingerprint;

use super::util::env::{PLEX_ROOT, TestEnv, file_at, movie_path, set_mtime};

/// Actions of a run of the years past.
const ACTIONS: usize = 100;

/// Writes a history from its beginning.
struct Writer {
    out: BufWriter<File>,
    run: u64,
    records: usize,
    at: Timestamp,
}

impl Writer {
    fn new(env: &TestEnv) -> Self {
        let folder = env.path("state");
        DirBuilder::new().mode(0o700).recursive(true).create(&folder).unwrap();
        let out = BufWriter::new(File::create(folder.join("history.jsonl")).unwrap());
        Self { out, run: 0, records: 0, at: Timestamp::now() - SignedDuration::from_hours(24 * 365) }
    }

    fn write(&mut self, event: Event) {
        self.records += 1;
        serde_json::to_writer(&mut self.out, &Record { v: VERSION, run: self.run, t: self.at, event }).unwrap();
        self.out.write_all(b"\n").unwrap();
    }

    /// A `sync` that did all of `actions`.
    fn run(&mut self, actions: impl Iterator<Item = Action>) {
        self.run += 1;
        self.at += SignedDuration::from_secs(60);
        self.write(Event::RunStarted(RunStarted {
            command: "sync".into(),
            options: vec!["--quiet".into()],
            trigger: "timer".into(),
            host: "nas".into(),
            version: "0.1.0".into(),
            undo_of: Vec::new(),
            hold_seconds: None,
        }));
        let mut finished = RunFinished { outcome: RunOutcome::Ok, ..RunFinished::default() };
        for (seq, mut action) in (1..).zip(actions) {
            let (array, copy, checksum, size) = (action.array, action.copy, action.checksum, action.size);
            let caches = action.kind == Kind::Cache;
            if caches {
                (action.copy, action.checksum) = (None, None);
            }
            self.write(Event::Intent { seq, temp: format!("{}-{seq}-1b2c3d4e", self.run), action });
            if caches {
                let published = Published { from: array.unwrap(), copy: copy.unwrap(), checksum: checksum.unwrap() };
                self.write(Event::Published { seq, published });
            }
            self.write(Event::Ended(Ended {
                seq,
                result: Outcome::Done,
                error: None,
                why: None,
                bytes: if caches { size } else { 0 },
                duration_ms: 5000,
                array,
                copy: copy.filter(|_| caches),
                checksum: checksum.filter(|_| caches),
                unmade: Vec::new(),
                settled_by: None,
            }));
            let count = if caches { &mut finished.cached } else { &mut finished.evicted };
            count.add(size);
        }
        self.write(Event::RunFinished(finished));
    }
}

/// An action on a film whose array file and copy are these.
fn action(env: &TestEnv, kind: Kind, title: &str, array: Fingerprint, copy: Fingerprint) -> Action {
    let path = MediaPath::parse(&movie_path(title, 2000)).unwrap();
    Action {
        kind,
        map: PLEX_ROOT.into(),
        unit: path.clone(),
        path,
        title: format!("{title} (2000)").into(),
        rating_key: Some("4711".into()),
        media_id: Some("4712".into()),
        updated_at: None,
        reasons: [Reason::of_user(Source::OnDeck, "owner")].into(),
        evict_why: (kind == Kind::Evict).then_some(EvictWhy::Watched),
        placement: Placement::Copy,
        array_root: env.path("disk1/media").to_str().unwrap().into(),
        cache_root: env.path("cache/media").to_str().unwrap().into(),
        size: array.size,
        array: Some(array),
        copy: Some(copy),
        checksum: Some("xxh3:99aa06d3014798d86001c324468d497f".parse().unwrap()),
        left_out: false,
    }
}

fn fingerprint(path: &Path) -> Fingerprint {
    let meta = fs::metadata(path).unwrap();
    Fingerprint { ino: meta.ino(), size: meta.size(), mtime_ns: meta.mtime() * 1_000_000_000 + meta.mtime_nsec() }
}

/// Gives the world a history of at least `records` records, the last run of which has cached `units` films that are
/// really there on both tiers. The films are in Plex, too; their keys.
pub fn history(env: &TestEnv, records: usize, units: usize) -> Vec<String> {
    let mut writer = Writer::new(env);
    while writer.records + 3 * units < records {
        let past = Fingerprint { ino: 7, size: 20_000_000_000, mtime_ns: 1_600_000_000_000_000_000 };
        // As a library does: a film comes and goes, then another one.
        let first = usize::try_from(writer.run).unwrap() / 2 * ACTIONS % 20_000;
        for kind in [Kind::Cache, Kind::Evict] {
            writer.run((first..first + ACTIONS).map(|film| action(env, kind, &format!("Past {film:05}"), past, past)));
        }
    }
    // Plex has learnt of these films before they were cached, so that there is no news of them.
    writer.at = Timestamp::now();
    let title = |unit| format!("Film {unit:06}");
    let keys = (0..units).map(|unit| env.movie(&title(unit), 2000, 100)).collect();
    writer.run((0..units).map(|unit| {
        let copy = file_at(env.cache(&movie_path(&title(unit), 2000)), 100);
        set_mtime(&copy, 1_600_000_000, 123_456_789);
        let array = fingerprint(&env.array(&movie_path(&title(unit), 2000)));
        action(env, Kind::Cache, &title(unit), array, fingerprint(&copy))
    }));
    writer.out.flush().unwrap();
    keys
}
