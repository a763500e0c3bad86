//! What leaves the cache, when, and what never does; and that the library is then what it was.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::util::env::{Run, TestEnv, Tree, episode_path, movie_path};
use crate::util::fake_plex::{Fault, Faults, Matcher, RatingKey};

const PLACEMENTS: [&str; 4] = ["copy", "hide", "move", "symlink"];
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86400);

/// A film with a subtitle, and an episode with one that follows it: all on the cache.
struct World {
    env: TestEnv,
    film: RatingKey,
    episodes: [RatingKey; 2],
    /// The array before anything was done.
    library: Tree,
}

impl World {
    /// With more lines of configuration.
    fn new(placement: &str, settings: &str) -> Self {
        let mut env = TestEnv::with_placement(placement);
        env.configure(settings);
        let film = env.movie("Dune", 2021, 9000);
        env.file(SUBTITLE, 300);
        let episodes = [1, 2].map(|index| env.episode("Lost", 1, index, 5000));
        env.on_deck("owner", &film);
        env.on_deck("owner", &episodes[0]);
        let library = env.snapshot("disk1/media");
        env.sync();
        assert_eq!(env.cached().len(), 4, "{placement}");
        Self { env, film, episodes, library }
    }

    /// Nobody wants anything any more, and nothing was watched.
    fn forget_all(&self) {
        self.env.plex.edit(|library| library.clear_on_deck("owner"));
    }

    /// Expects that nothing is left on the cache and that the library is what it was.
    #[track_caller]
    fn is_as_it_was(&self, what: &str) {
        assert_eq!(self.env.snapshot("cache/media").without_markers().entries.len(), 0, "{what}");
        assert_eq!(self.env.snapshot("disk1/media").without_markers(), self.library, "{what}");
    }

    /// Expects that of the films and episodes these are left, and that all else is what it was.
    #[track_caller]
    fn left(&self, paths: &[&str], what: &str) {
        assert_eq!(self.env.cached(), paths, "{what}");
        let array = self.env.snapshot("disk1/media").entries;
        for (path, entry) in
            self.library.entries.iter().filter(|(path, entry)| entry.kind == "file" && !paths.contains(&path.as_str()))
        {
            assert_eq!(&array[path], entry, "{what}: {path}");
        }
    }
}

const FILM: &str = "Movies/Dune (2021)/Dune (2021).mkv";
const SUBTITLE: &str = "Movies/Dune (2021)/Dune (2021).en.srt";
const FIRST: &str = "TV/Lost/Season 01/Lost - S01E01.mkv";
const SECOND: &str = "TV/Lost/Season 01/Lost - S01E02.mkv";
const AT_ONCE: &str = "[evict]\nwatched_after = \"0\"\nunwanted_after = \"0\"\n";

fn evict(env: &TestEnv, args: &[&str]) -> Run {
    env.run(&[&["evict", "--json"], args].concat())
}

/// A process that has a file open until it is dropped.
struct Holder(Child);

impl Holder {
    fn of(env: &TestEnv, media: &str) -> Self {
        let file = File::open(env.cache(media)).unwrap();
        Self(Command::new("sleep").arg("600").stdin(file).stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn the_names_of_these_tests_are_those_of_the_library() {
    assert_eq!(
        [FILM, FIRST, SECOND],
        [movie_path("Dune", 2021).as_str(), episode_path("Lost", 1, 1).as_str(), episode_path("Lost", 1, 2).as_str()]
    );
}

#[test]
fn what_was_watched_leaves_so_long_after_it_was_last_viewed() {
    for placement in PLACEMENTS {
        let world = World::new(placement, "[evict]\nwatched_after = \"48h\"\nunwanted_after = \"0\"\n");
        let env = &world.env;
        env.watch("owner", &world.film, 47 * HOUR);
        env.sync();
        assert_eq!(env.cached().len(), 4, "{placement}: by a viewing of 47 hours ago it is in its grace");
        let seen = |ago: Duration| {
            let at = ago.as_secs().cast_signed();
            env.plex.edit(|library| library.set_seen("owner", &world.film, 1, Some(library.now - at), 0));
        };
        seen(49 * HOUR);
        let run = env.run(&["sync", "--json"]).expect(0);
        world.left(&[FIRST, SECOND], placement);
        assert_eq!(run.json_of("plan")["actions"][0]["evict_why"], "watched");
    }
}

#[test]
fn what_two_users_wanted_leaves_after_the_last_of_them_watched_it() {
    let mut env = TestEnv::new();
    env.add_user("ben");
    env.configure("[evict]\nwatched_after = \"48h\"\nunwanted_after = \"0\"\n");
    let film = env.movie("Dune", 2021, 1000);
    env.on_deck("owner", &film);
    env.on_deck("ben", &film);
    env.sync();
    env.watch("owner", &film, 9 * DAY);
    env.sync();
    assert_eq!(env.cached(), [FILM], "ben wants it still");
    env.watch("ben", &film, HOUR);
    env.sync();
    assert_eq!(env.cached(), [FILM], "ben's viewing counts");
    env.plex.edit(|library| library.set_seen("ben", &film, 1, Some(library.now - 3 * 86400), 0));
    env.sync();
    assert_eq!(env.cached(), Vec::<String>::new());
}

#[test]
fn what_nobody_wants_any_more_leaves_after_its_grace() {
    for placement in PLACEMENTS {
        let mut world = World::new(placement, "[evict]\nunwanted_after = \"12h\"\n");
        world.forget_all();
        for _ in 0..2 {
            world.env.sync();
            assert_eq!(world.env.cached().len(), 4, "{placement}: in its grace");
        }
        world.env.settings = world.env.settings.replace("12h", "0");
        world.env.sync();
        world.is_as_it_was(placement);
    }
}

#[test]
fn what_is_wanted_again_within_its_grace_stays() {
    let mut world = World::new("copy", "[evict]\nunwanted_after = \"12h\"\n");
    world.forget_all();
    world.env.sync();
    world.env.on_deck("owner", &world.film);
    world.env.settings = world.env.settings.replace("12h", "0");
    world.env.sync();
    world.left(&[SUBTITLE, FILM], "the film alone is wanted");
}

#[test]
fn a_library_that_could_not_be_read_takes_nothing_away() {
    for placement in PLACEMENTS {
        let world = World::new(placement, AT_ONCE);
        let path = format!("/library/sections/{}/onDeck", world.env.movies);
        world.forget_all();
        world.env.plex.faults(|faults| faults.add(Matcher::exact_path(&path), Fault::Status(404)));
        let run = world.env.run(&["sync", "--json"]).expect(3);
        assert_eq!(run.planned(), Vec::<String>::new(), "{placement}");
        world.env.plex.faults(Faults::clear);
        world.env.sync();
        world.is_as_it_was(placement);
    }
}

#[test]
fn what_was_wanted_for_longer_than_max_age_leaves_though_it_is_wanted() {
    let mut world = World::new("copy", "[evict]\nmax_age = \"1h\"\n");
    assert_eq!(world.env.dry_sync().planned(), Vec::<String>::new());
    world.env.settings = world.env.settings.replace("1h", "0");
    let run = world.env.run(&["sync", "--json"]).expect(0);
    world.is_as_it_was("max_age");
    assert_eq!(run.json_of("plan")["actions"][0]["evict_why"], "max_age");
    let again = world.env.run(&["sync", "--json"]).expect(0);
    assert_eq!(again.planned(), Vec::<String>::new(), "and it does not come back while it is wanted");
}

#[test]
fn what_an_undo_evicted_is_held_off_the_cache() {
    for placement in PLACEMENTS {
        let mut world = World::new(placement, "[evict]\nundo_hold = \"24h\"\n");
        world.env.run(&["undo", "--yes"]).expect(0);
        world.is_as_it_was(placement);
        let run = world.env.run(&["sync", "--json"]).expect(0);
        assert_eq!(run.planned(), Vec::<String>::new(), "{placement}");
        assert_eq!(run.left(), [FILM, FIRST, SECOND].map(|path| format!("held {path}")), "{placement}");
        // A hold is as long as it was when the undo was made.
        world.env.settings = world.env.settings.replace("24h", "0");
        assert_eq!(world.env.dry_sync().planned(), Vec::<String>::new(), "{placement}");
    }
    let world = World::new("copy", "[evict]\nundo_hold = \"0\"\n");
    world.env.run(&["undo", "--yes"]).expect(0);
    world.env.sync();
    assert_eq!(world.env.cached().len(), 4, "without a hold it is cached again");
}

#[test]
fn what_an_undo_cached_is_held_on_the_cache() {
    for placement in PLACEMENTS {
        let world = World::new(placement, AT_ONCE);
        world.forget_all();
        world.env.sync();
        world.is_as_it_was(placement);
        world.env.run(&["undo", "--yes"]).expect(0);
        assert_eq!(world.env.cached(), [SUBTITLE, FILM, FIRST, SECOND], "{placement}");
        let run = world.env.run(&["sync", "--json"]).expect(0);
        assert_eq!(run.planned(), Vec::<String>::new(), "{placement}");
        assert_eq!(run.left(), [FILM, FIRST, SECOND].map(|path| format!("held {path}")), "{placement}");
        world.env.run(&["evict", "--all"]).expect(0);
        world.is_as_it_was(placement);
    }
    let world = World::new("copy", &format!("{AT_ONCE}undo_hold = \"0\"\n"));
    world.forget_all();
    world.env.sync();
    world.env.run(&["undo", "--yes"]).expect(0);
    world.env.sync();
    world.is_as_it_was("without a hold it goes again");
}

#[test]
fn a_file_is_evicted_by_any_of_its_paths() {
    for placement in PLACEMENTS {
        let mut world = World::new(placement, "");
        let merged = world.env.path("merged/media");
        fs::create_dir_all(&merged).unwrap();
        let line = format!("merged = \"{}\"\n", merged.display());
        world.env.map.push_str(&line);
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        let on_tiers = [text(world.env.array(FILM)), text(world.env.cache(FILM))];
        let others = [format!("/data/media/{FILM}"), text(merged.join(FILM)), FILM.to_owned()];
        // Where the names on the tiers differ from placement to placement, the others do not.
        let forms = if placement == "copy" { [&on_tiers[..], &others].concat() } else { on_tiers.to_vec() };
        for path in forms {
            evict(&world.env, &[&path]).expect(0);
            world.left(&[FIRST, SECOND], &format!("{placement} {path}"));
            world.env.sync();
            assert_eq!(world.env.cached().len(), 4, "{placement} {path}");
        }
    }
}

#[test]
fn a_sidecar_that_is_named_takes_its_unit_along() {
    let world = World::new("copy", "");
    evict(&world.env, &[SUBTITLE]).expect(0);
    world.left(&[FIRST, SECOND], "by its subtitle");
}

#[test]
fn folders_and_several_paths_are_evicted_at_once() {
    for placement in PLACEMENTS {
        let world = World::new(placement, "");
        evict(&world.env, &["/data/media/TV/Lost/"]).expect(0);
        world.left(&[SUBTITLE, FILM], placement);
        let world = World::new(placement, "");
        evict(&world.env, &["Movies", SECOND]).expect(0);
        world.left(&[FIRST], placement);
        evict(&world.env, &[world.env.path("cache").to_str().unwrap()]).expect(0);
        world.is_as_it_was(placement);
    }
}

#[test]
fn a_path_that_stands_for_nothing_on_the_cache_is_named_and_changes_nothing() {
    let world = World::new("copy", "");
    // Nothing but `/` stands for everything, and an empty text, a variable that is not set, least of all.
    for path in ["", "TV/Los", "Lost", "/data/media2", "/data/medi", "../media", ".", "*", "/data/media/TV/Found"] {
        let run = evict(&world.env, &[path]).expect(0);
        assert_eq!(run.planned(), Vec::<String>::new(), "{path}");
        assert!(run.stdout.contains(&format!("{path} is not on the cache")), "{path}: {}", run.stdout);
        assert_eq!(world.env.cached().len(), 4, "{path}");
    }
    evict(&world.env, &["/"]).expect(0);
    world.is_as_it_was("all is below `/`");
}

#[test]
fn all_is_evicted_but_for_pins_unless_these_are_named_too() {
    for placement in PLACEMENTS {
        let world = World::new(placement, "[select]\npin = [\"**/Dune*\"]\n");
        let run = evict(&world.env, &["--all"]).expect(0);
        assert_eq!(run.left(), [format!("pinned {FILM}")], "{placement}");
        world.left(&[SUBTITLE, FILM], placement);
        evict(&world.env, &["--all", "--pinned"]).expect(0);
        world.is_as_it_was(placement);
    }
    let world = World::new("copy", "[select]\npin = [\"**/Dune*\"]\n");
    evict(&world.env, &[FILM]).expect(0);
    world.left(&[FIRST, SECOND], "what is named goes, pinned or not");
    evict(&world.env, &["--pinned"]).expect(2);
}

#[test]
fn what_was_cached_long_enough_ago_is_evicted() {
    for placement in PLACEMENTS {
        let world = World::new(placement, "");
        evict(&world.env, &["--older-than", "1d"]).expect(0);
        assert_eq!(world.env.cached().len(), 4, "{placement}");
        evict(&world.env, &["--older-than", "0"]).expect(0);
        world.is_as_it_was(placement);
    }
}

#[test]
fn so_much_is_freed_from_the_lowest_rank_up() {
    for placement in PLACEMENTS {
        let world = World::new(placement, "");
        evict(&world.env, &["--free", "0"]).expect(0);
        assert_eq!(world.env.cached().len(), 4, "{placement}");
        // The next episode ranks below what is on deck; two blocks of 4096 bytes are its.
        evict(&world.env, &["--free", "1"]).expect(0);
        world.left(&[SUBTITLE, FILM, FIRST], placement);
        world.env.plex.edit(|library| library.remove_from_deck("owner", &world.film));
        world.env.run(&["sync", "--max-transfer", "0"]).expect(0);
        evict(&world.env, &["--free", "8KiB"]).expect(0);
        world.left(&[FIRST], &format!("{placement}: what nobody wants goes before what is wanted"));
        evict(&world.env, &["--free", "1TB"]).expect(0);
        world.is_as_it_was(placement);
    }
}

#[test]
fn evict_alone_does_what_sync_would_evict_and_caches_nothing() {
    for placement in PLACEMENTS {
        let world = World::new(placement, AT_ONCE);
        let env = &world.env;
        env.plex.edit(|library| library.remove_from_deck("owner", &world.film));
        let new = env.movie("Alien", 1979, 1000);
        env.on_deck("owner", &new);
        let by_sync = env.dry_sync().planned();
        let expected = [format!("evict {SUBTITLE}"), format!("evict {FILM}")];
        assert_eq!(by_sync[..2], expected, "{placement}");
        assert_eq!(by_sync[2..], [format!("cache {}", movie_path("Alien", 1979))], "{placement}");
        assert_eq!(evict(env, &["--dry-run"]).expect(0).planned(), expected, "{placement}");
        assert_eq!(evict(env, &[]).expect(0).planned(), expected, "{placement}");
        world.left(&[FIRST, SECOND], placement);
    }
}

#[test]
fn sync_evicts_nothing_when_told_so() {
    let world = World::new("copy", AT_ONCE);
    world.forget_all();
    let new = world.env.movie("Alien", 1979, 1000);
    world.env.on_deck("owner", &new);
    world.env.run(&["sync", "--no-evict"]).expect(0);
    assert_eq!(world.env.cached(), [&movie_path("Alien", 1979), SUBTITLE, FILM, FIRST, SECOND]);
}

#[test]
fn what_plays_is_not_evicted() {
    for placement in PLACEMENTS {
        let world = World::new(placement, AT_ONCE);
        world.forget_all();
        let session = world.env.plex.edit(|library| library.start_session("owner", &world.film, false));
        for command in ["sync", "evict"] {
            let run = world.env.run(&[command, "--json"]).expect(0);
            assert_eq!(run.left(), [format!("playing {FILM}")], "{placement} {command}");
            world.left(&[SUBTITLE, FILM], placement);
        }
        world.env.plex.edit(|library| library.stop_session(&session));
        world.env.run(&["evict"]).expect(0);
        world.is_as_it_was(placement);
    }
}

#[test]
fn nothing_is_evicted_while_it_is_not_known_what_plays() {
    let world = World::new("copy", AT_ONCE);
    world.forget_all();
    let new = world.env.movie("Alien", 1979, 1000);
    world.env.on_deck("owner", &new);
    world.env.plex.faults(|faults| faults.add(Matcher::path("/status/sessions"), Fault::Status(404)));
    world.env.run(&["sync"]).expect(3);
    assert_eq!(world.env.cached().len(), 5, "caching goes on");
}

#[test]
fn what_a_process_has_open_is_never_evicted_whoever_asks() {
    for placement in PLACEMENTS {
        let world = World::new(placement, AT_ONCE);
        world.forget_all();
        let holder = Holder::of(&world.env, FILM);
        for args in
            [&["sync"][..], &["evict"], &["evict", "--all", "--pinned"], &["evict", FILM], &["undo", "1", "--yes"]]
        {
            let run = world.env.run(&[args, &["--json"]].concat());
            assert!([0, 3].contains(&run.status), "{placement} {args:?}: {}{}", run.stdout, run.stderr);
            assert!(run.left().contains(&format!("open {FILM}")), "{placement} {args:?}: {}", run.stdout);
            assert!(run.stdout.contains("(sleep)"), "it says who: {}", run.stdout);
            assert!(world.env.cached().contains(&FILM.to_owned()), "{placement} {args:?}");
        }
        drop(holder);
        world.env.run(&["evict", "--all"]).expect(0);
        world.is_as_it_was(placement);
    }
}

#[test]
fn a_sidecar_that_is_open_keeps_its_video() {
    let world = World::new("copy", "");
    let holder = Holder::of(&world.env, SUBTITLE);
    evict(&world.env, &["--all"]).expect(0);
    world.left(&[SUBTITLE, FILM], "by its subtitle");
    drop(holder);
    evict(&world.env, &["--all"]).expect(0);
    world.is_as_it_was("the subtitle is closed");
}

#[test]
fn an_explicit_eviction_does_not_ask_plex_and_says_so() {
    let world = World::new("copy", "");
    world.env.plex.clear_requests();
    let run = evict(&world.env, &["--all"]).expect(0);
    assert!(run.stdout.contains("Plex is not asked"), "{}", run.stdout);
    assert_eq!(world.env.plex.requests().len(), 0);
    world.is_as_it_was("without Plex");
    evict(&world.env, &[]).expect(0);
    assert_ne!(world.env.plex.requests().len(), 0, "what sync would evict, Plex alone knows");
}

#[test]
fn what_was_evicted_by_hand_is_cached_again_while_it_is_wanted() {
    let world = World::new("copy", "");
    evict(&world.env, &["--all"]).expect(0);
    world.env.sync();
    assert_eq!(world.env.cached(), [SUBTITLE, FILM, FIRST, SECOND]);
}

#[test]
fn an_episode_that_was_watched_gives_its_place_to_the_next_one() {
    for placement in PLACEMENTS {
        let world = World::new(placement, AT_ONCE);
        world.env.watch("owner", &world.episodes[0], HOUR);
        world.env.sync();
        world.left(&[SUBTITLE, FILM, SECOND], placement);
    }
}
