//! A small world for the planner's tests: wants, a cache and limits, said in a line each.

use std::fmt;

use jiff::SignedDuration;

use super::*;
use crate::select::{Class, Rank, Reason, Source};

pub(super) const GIB: u64 = 1 << 30;
pub(super) const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

pub(super) fn hours(hours: i64) -> Timestamp {
    NOW + SignedDuration::from_hours(hours)
}

pub(super) fn key(path: &str) -> FileKey {
    FileKey { map: "/media".into(), path: MediaPath::parse(path).unwrap() }
}

pub(super) fn print(size: u64) -> Fingerprint {
    Fingerprint { ino: 7, size, mtime_ns: 1 }
}

/// One pool of 1000 GiB, all free but for what is cached; a want's rank is its turn.
#[expect(clippy::struct_excessive_bools, reason = "as the input that it makes")]
pub(super) struct World {
    pub(super) candidates: Vec<Candidate>,
    pub(super) cached: BTreeMap<FileKey, CachedFile>,
    pub(super) pools: Vec<Pool>,
    pub(super) held_off: BTreeMap<FileKey, Timestamp>,
    pub(super) sessions_unknown: bool,
    pub(super) make_room: bool,
    pub(super) evict: bool,
    pub(super) cache: bool,
}

impl World {
    /// May own so many GiB.
    pub(super) fn with_room_for(gib: u64) -> Self {
        let cache_roots = BTreeSet::from([Utf8PathBuf::from("/cache")]);
        let pool = Pool { cache_roots, total: 1000 * GIB, free: 900 * GIB, max_size: gib * GIB, min_free: 0 };
        Self {
            candidates: Vec::new(),
            cached: BTreeMap::new(),
            pools: vec![pool],
            held_off: BTreeMap::new(),
            sessions_unknown: false,
            make_room: true,
            evict: true,
            cache: true,
        }
    }

    /// Wants the file `name`; `Show S01E02` is an episode of `Show`.
    pub(super) fn want(&mut self, name: &str, gib: u64) -> &mut Candidate {
        let step = u32::try_from(self.candidates.len()).unwrap();
        let show = name.rsplit_once(" S").filter(|(_, rest)| rest.contains('E')).map(|(show, _)| show.into());
        let want = Want {
            parts: vec![key(name)],
            title: name.into(),
            rating_key: None,
            media_id: None,
            updated_at: None,
            show,
            rank: Rank { class: Class::OnDeck, step, recency: std::cmp::Reverse(0) },
            reasons: Reasons::from([Reason::of(Source::OnDeck)]),
        };
        self.candidates.push(Candidate { want: Arc::new(want), files: vec![on_array(name, gib * GIB)], blocked: None });
        self.candidates.last_mut().unwrap()
    }

    /// Has the file `name` on the cache, its own unit, due since an hour should nobody want it.
    pub(super) fn cached(&mut self, name: &str, gib: u64) -> &mut CachedFile {
        let action = Action {
            kind: Kind::Cache,
            map: "/media".into(),
            path: key(name).path,
            unit: key(name).path,
            title: name.into(),
            rating_key: None,
            media_id: None,
            updated_at: None,
            reasons: Reasons::default(),
            evict_why: None,
            placement: Placement::Copy,
            array_root: "/array".into(),
            cache_root: "/cache".into(),
            size: gib * GIB,
            array: Some(print(gib * GIB)),
            copy: Some(print(gib * GIB)),
            checksum: None,
            left_out: false,
        };
        let file = CachedFile {
            cached: Arc::new(Cached { action, run: 1, at: hours(-48) }),
            state: CopyState::Unchanged,
            open: None,
            playing: false,
            release: Some(Release { at: hours(-1), why: EvictWhy::Watched }),
            held_until: None,
            pinned: false,
            superseded: false,
        };
        self.cached.insert(key(name), file);
        self.cached.get_mut(&key(name)).unwrap()
    }

    /// As [`World::cached`], in its grace for so many hours.
    pub(super) fn in_grace(&mut self, name: &str, gib: u64, left: i64) -> &mut CachedFile {
        let file = self.cached(name, gib);
        file.release = Some(Release { at: hours(left), why: EvictWhy::Unwanted });
        file
    }

    /// As [`World::want`], and it is cached.
    pub(super) fn wanted_and_cached(&mut self, name: &str, gib: u64) -> &mut CachedFile {
        self.want(name, gib).files[0].state = FileState::Cached;
        self.cached(name, gib)
    }

    pub(super) fn input(&self) -> Input<'_> {
        Input {
            now: NOW,
            candidates: &self.candidates,
            cached: &self.cached,
            pools: &self.pools,
            held_off: &self.held_off,
            sessions_unknown: self.sessions_unknown,
            make_room: self.make_room,
            evict: self.evict,
            cache: self.cache,
        }
    }

    pub(super) fn plan(&self) -> Vec<String> {
        lines(&plan_sync(&self.input()))
    }
}

pub(super) fn on_array(name: &str, size: u64) -> CandidateFile {
    CandidateFile {
        key: key(name),
        size,
        placement: Placement::Copy,
        array_root: "/array".into(),
        cache_root: "/cache".into(),
        state: FileState::OnArray { array: print(size), adopt: None },
    }
}

/// Short enough to find the trouble in a failing case.
impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { make_room, evict, cache, sessions_unknown, held_off, .. } = self;
        writeln!(
            f,
            "make_room={make_room} evict={evict} cache={cache} sessions_unknown={sessions_unknown} {held_off:?}"
        )?;
        for Pool { cache_roots, total, free, max_size, min_free } in &self.pools {
            writeln!(f, "{cache_roots:?}: total={total} free={free} max_size={max_size} min_free={min_free}")?;
        }
        for candidate in &self.candidates {
            let files = candidate.files.iter().map(|file| (file.key.path.as_str(), file.size, &file.cache_root));
            writeln!(f, "wants {}: {:?} {:?}", candidate.want.title, candidate.blocked, files.collect::<Vec<_>>())?;
        }
        for (key, CachedFile { cached, state, open, playing, release, held_until, pinned, superseded }) in &self.cached
        {
            let (unit, size, root) = (cached.action.unit.as_str(), cached.action.size, &cached.action.cache_root);
            write!(f, "has {key} of {unit}, {size} on {root}: {state:?} {open:?} playing={playing} ")?;
            writeln!(f, "{release:?} {held_until:?} pinned={pinned} superseded={superseded}")?;
        }
        Ok(())
    }
}

/// `cache PATH`, `evict PATH: why` and `skip PATH: why, detail`, in the plan's order.
pub(super) fn lines(plan: &Plan) -> Vec<String> {
    let action = |action: &Action| match action.evict_why {
        Some(why) => format!("evict {}: {why:?}", action.path.as_str()),
        None => format!("cache {}", action.path.as_str()),
    };
    let skip = |skip: &Skip| {
        let kind = if skip.kind == Kind::Cache { "cache" } else { "evict" };
        format!("no {kind} {}: {:?}, {}", skip.path, skip.why, skip.detail)
    };
    plan.actions.iter().map(action).chain(plan.skipped.iter().map(skip)).collect()
}
