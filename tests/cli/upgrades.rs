//! Sonarr, Radarr and Tdarr: a new file of the same name, one under a new name, a rewrite in place, an
//! item that is gone. The new content always wins, the stale copy goes, and nothing older is put over
//! anything newer.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::util::env::{Run, TestEnv, file_at, movie_path, set_mtime};
use crate::util::fake_plex::{Media, RatingKey};

const PLACEMENTS: [&str; 4] = ["copy", "hide", "move", "symlink"];
const SIZE: usize = 300_000;
const NEW: &str = "Movies/Dune (2021)/Dune (2021) [Remux-2160p].mkv";

/// A film on deck that is on the cache, for the owner; nothing has a grace.
struct World {
    env: TestEnv,
    film: RatingKey,
    media: String,
    placement: &'static str,
}

impl World {
    fn new(placement: &'static str) -> Self {
        let mut env = TestEnv::with_placement(placement);
        env.configure("[evict]\nwatched_after = \"0\"\nunwanted_after = \"0\"\n");
        let film = env.movie("Dune", 2021, SIZE);
        env.on_deck("owner", &film);
        // Known to Plex for long.
        env.plex.edit(|library| library.item_mut(&film).updated_at = library.now - 86_400);
        env.sync();
        let media = movie_path("Dune", 2021);
        assert_eq!(env.cached(), [media.as_str()], "{placement}");
        Self { env, film, media, placement }
    }

    /// Where a program that works in the union, cache first, finds the name; `symlink` has no union.
    fn in_union(&self, media: &str) -> Vec<PathBuf> {
        let tiers = if self.placement == "symlink" { &["disk1"][..] } else { &["cache", "disk1", "disk2"] };
        let names = tiers.iter().map(|tier| self.env.path(tier).join("media").join(media));
        names.filter(|name| name.symlink_metadata().is_ok()).collect()
    }

    /// Plex has scanned: the item has this file of that size, and Plex says that it learned something.
    fn scanned(&self, media: &str, size: usize) {
        self.env.plex.edit(|library| {
            library.now += 60;
            let part = Media::file(&format!("/data/media/{media}"), i64::try_from(size).unwrap());
            library.set_media(&self.film, &[part]);
            library.item_mut(&self.film).updated_at = library.now;
        });
    }

    /// Runs until a run has nothing to do, three times at most.
    #[track_caller]
    fn settle(&self) {
        for _ in 0..3 {
            let run = self.env.run(&["sync", "--json"]).expect(0);
            if run.planned().is_empty() {
                return;
            }
        }
        panic!("{}: it does not come to rest: {:?}", self.placement, self.env.run(&["sync", "--json"]));
    }

    /// All files of the film, but for temporary names and markers: what is below each tier.
    fn files(&self) -> Vec<String> {
        let tree = self.env.snapshot("");
        let media = |name: &&String| name.contains("/media/Movies/") && Path::new(name).extension().is_some();
        tree.entries
            .iter()
            .filter(|(_, entry)| entry.kind == "file")
            .map(|(name, _)| name)
            .filter(media)
            .cloned()
            .collect()
    }
}

/// Another file under the array's name, as an importer does it: written beside it, then renamed.
fn replace(path: &Path, size: usize) -> Vec<u8> {
    let new = file_at(path.with_extension("importing"), size);
    fs::rename(new, path).unwrap();
    fs::read(path).unwrap()
}

/// Evicts everything and expects that these bytes are what is left, on the array and alone.
#[track_caller]
fn only_new_is_left(env: &TestEnv, media: &str, bytes: &[u8], what: &str) {
    env.run(&["evict", "--all"]).expect(0);
    assert_eq!(env.cached(), Vec::<String>::new(), "{what}");
    assert!(fs::read(env.array(media)).unwrap() == bytes, "{what}");
    assert!(!env.array(&format!("{media}.plexcached")).exists(), "{what}");
    assert_eq!(env.leftovers(), Vec::<String>::new(), "{what}");
}

#[test]
fn a_new_file_of_the_same_name_on_the_array_is_cached_in_place_of_the_old_one() {
    for placement in ["copy", "hide", "symlink"] {
        // A rewrite may have the very size of the old one.
        for size in [200_000, SIZE] {
            let world = World::new(placement);
            let (env, media) = (&world.env, &world.media);
            let bytes = replace(&env.array(media), size);
            world.scanned(media, size);
            let run = env.run(&["sync", "--json"]).expect(0);
            assert_eq!(run.planned()[0], format!("evict {media}"), "{placement} {size}");
            assert_eq!(run.json_of("plan")["actions"][0]["evict_why"], "replaced", "{placement}");
            assert_eq!(env.shown(media).as_ref(), Some(&bytes), "{placement} {size}");
            world.settle();
            assert!(fs::read(env.cache(media)).unwrap() == bytes, "{placement} {size}");
            assert_eq!(env.shown(media).as_ref(), Some(&bytes), "{placement} {size}");
            only_new_is_left(env, media, &bytes, placement);
        }
    }
}

#[test]
fn in_move_a_new_file_of_the_same_name_and_the_cached_one_both_stay_and_are_reported() {
    let world = World::new("move");
    let (env, media) = (&world.env, &world.media);
    let old = fs::read(env.cache(media)).unwrap();
    let bytes = replace(&env.array(media), 200_000);
    world.scanned(media, 200_000);
    let run = env.run(&["sync", "--json"]).expect(3);
    assert_eq!(run.why_left()[media], "conflict");
    assert!(fs::read(env.array(media)).unwrap() == bytes && fs::read(env.cache(media)).unwrap() == old);
}

#[test]
fn a_rewrite_of_the_original_in_place_wins_over_the_copy() {
    for placement in ["copy", "hide", "symlink"] {
        let world = World::new(placement);
        let (env, media) = (&world.env, &world.media);
        // Of equal size, by a program that works on the array: where the placement has put the original.
        let original = env.array(media);
        let kept = env.array(&format!("{media}.plexcached"));
        let name = if kept.exists() { kept } else { original };
        let mut bytes = fs::read(&name).unwrap();
        bytes[1000] ^= 1;
        File::options().write(true).open(&name).unwrap().write_all(&bytes).unwrap();
        set_mtime(&name, 1_700_000_000, 7);
        world.scanned(media, SIZE);
        if placement == "copy" {
            world.settle();
            assert_eq!(env.shown(media).as_ref(), Some(&bytes), "{placement}");
            only_new_is_left(env, media, &bytes, placement);
        } else {
            // Nobody edits a kept original; should somebody, neither of the two is given up.
            let run = env.run(&["evict", "--all", "--json"]);
            assert!([0, 3].contains(&run.status), "{placement}: {}", run.stdout);
            assert!(fs::read(&name).unwrap() == bytes, "{placement}");
        }
    }
}

#[test]
fn a_rewrite_of_the_copy_in_place_reaches_the_array() {
    for placement in PLACEMENTS {
        let world = World::new(placement);
        let (env, media) = (&world.env, &world.media);
        let copy = env.cache(media);
        let mut bytes = fs::read(&copy).unwrap();
        bytes[1000] ^= 1;
        File::options().write(true).open(&copy).unwrap().write_all(&bytes).unwrap();
        set_mtime(&copy, 1_700_000_000, 7);
        world.scanned(media, SIZE);
        world.settle();
        assert_eq!(env.shown(media).as_ref(), Some(&bytes), "{placement}: it is not replaced by the older one");
        only_new_is_left(env, media, &bytes, placement);
    }
}

#[test]
fn the_same_item_at_a_new_path_takes_the_place_of_the_old_one() {
    for placement in PLACEMENTS {
        let world = World::new(placement);
        let (env, old) = (&world.env, &world.media);
        // The importer removes what it sees under the old name, everywhere, and brings the new file.
        for name in world.in_union(old) {
            fs::remove_file(name).unwrap();
        }
        let bytes = fs::read(env.file(NEW, 400_000)).unwrap();
        world.scanned(NEW, 400_000);
        world.settle();
        assert_eq!(env.shown(NEW).as_ref(), Some(&bytes), "{placement}");
        assert_eq!(env.cached(), [NEW], "{placement}: the stale copy is gone");
        env.run(&["evict", "--all"]).expect(0);
        assert!(fs::read(env.array(NEW)).unwrap() == bytes, "{placement}");
        // A kept original that the importer did not see gets its own name back, and nobody's else.
        let mut files = vec![format!("disk1/media/{NEW}")];
        if matches!(placement, "hide" | "symlink") {
            files.push(format!("disk1/media/{old}"));
        }
        assert_eq!(world.files(), files, "{placement}");
        assert_eq!(env.leftovers(), Vec::<String>::new(), "{placement}");
    }
}

#[test]
fn a_file_that_was_renamed_with_its_copy_is_cached_under_its_new_name() {
    for placement in PLACEMENTS {
        let world = World::new(placement);
        let (env, old) = (&world.env, &world.media);
        let bytes = env.shown(old).unwrap();
        // Renamed through the union, on every tier that shows it. A link still leads to the old copy.
        for name in world.in_union(old) {
            fs::rename(&name, name.with_file_name(Path::new(NEW).file_name().unwrap())).unwrap();
        }
        assert_eq!(env.shown(NEW).as_ref(), Some(&bytes), "{placement}");
        world.scanned(NEW, SIZE);
        for _ in 0..3 {
            let run = env.run(&["sync", "--json"]);
            assert!([0, 3].contains(&run.status), "{placement}: {run:?}");
            let names = [NEW, old];
            let shown: Vec<Vec<u8>> = names.iter().filter_map(|name| env.shown(name)).collect();
            assert!(shown.contains(&bytes), "{placement}: it is never gone: {run:?}");
        }
        env.run(&["evict", "--all"]);
        let left = world.files();
        let whole = left.iter().filter(|name| fs::read(env.path(name)).unwrap() == bytes).count();
        assert!(whole >= 1 && whole == left.len(), "{placement}: {left:?}");
        assert_eq!(env.leftovers(), Vec::<String>::new(), "{placement}");
    }
}

#[test]
fn a_new_file_on_another_disk_wins_over_the_copy() {
    for placement in ["copy", "hide", "symlink"] {
        let world = World::new(placement);
        let (env, media) = (&world.env, &world.media);
        for name in [media.clone(), format!("{media}.plexcached")] {
            let _absent = fs::remove_file(env.array(&name));
        }
        let other = file_at(env.path("disk2/media").join(media), 200_000);
        let bytes = fs::read(&other).unwrap();
        world.scanned(media, 200_000);
        world.settle();
        assert!(fs::read(env.cache(media)).unwrap() == bytes, "{placement}");
        env.run(&["evict", "--all"]).expect(0);
        assert!(fs::read(&other).unwrap() == bytes, "{placement}");
        assert_eq!(world.files(), [format!("disk2/media/{media}")], "{placement}");
    }
}

#[test]
fn an_item_that_vanished_from_plex_leaves_its_file_on_the_array() {
    for placement in PLACEMENTS {
        let world = World::new(placement);
        let (env, media) = (&world.env, &world.media);
        let bytes = env.shown(media).unwrap();
        env.plex.edit(|library| library.remove(&world.film));
        world.settle();
        only_new_is_left(env, media, &bytes, placement);
    }
}

#[test]
fn an_item_that_was_removed_and_added_again_keeps_its_copy() {
    for placement in PLACEMENTS {
        let world = World::new(placement);
        let (env, media) = (&world.env, &world.media);
        let key = env.plex.edit(|library| {
            library.remove(&world.film);
            let part = Media::file(&format!("/data/media/{media}"), i64::try_from(SIZE).unwrap());
            library.add_movie(env.movies, "Dune", 2021, &[part])
        });
        assert_ne!(key, world.film);
        env.on_deck("owner", &key);
        let run: Run = env.run(&["sync", "--json"]).expect(0);
        assert_eq!(run.planned(), Vec::<String>::new(), "{placement}");
        assert_eq!(env.cached(), [media.as_str()], "{placement}");
    }
}

#[test]
fn a_copy_of_something_older_is_not_pulled_away_while_it_plays() {
    let world = World::new("copy");
    let (env, media) = (&world.env, &world.media);
    let bytes = replace(&env.array(media), 200_000);
    world.scanned(media, 200_000);
    let session = env.plex.edit(|library| library.start_session("owner", &world.film, false));
    env.sync();
    assert_ne!(env.shown(media).as_ref(), Some(&bytes));
    env.plex.edit(|library| library.stop_session(&session));
    world.settle();
    assert_eq!(env.shown(media), Some(bytes));
}
