//! `sync`: what is wanted is on the cache, what is not leaves it.

use std::time::Duration;

use crate::util::env::{TestEnv, episode_path, movie_path};

const PLACEMENTS: [&str; 4] = ["copy", "hide", "move", "symlink"];

/// A show of three episodes with the first on deck, and a film on deck.
fn world(placement: &str) -> (TestEnv, Vec<String>, String) {
    let env = TestEnv::with_placement(placement);
    let episodes: Vec<String> = (1..=3).map(|index| env.episode("Severance", 1, index, 100_000)).collect();
    let film = env.movie("Dune", 2021, 300_000);
    env.on_deck("owner", &episodes[0]);
    env.on_deck("owner", &film);
    (env, episodes, film)
}

#[test]
fn what_is_on_deck_and_the_next_episodes_are_cached() {
    for placement in PLACEMENTS {
        let (env, ..) = world(placement);
        let before = env.snapshot("disk1/media");
        let run = env.sync();
        let mut wanted = vec![movie_path("Dune", 2021)];
        wanted.extend((1..=3).map(|index| episode_path("Severance", 1, index)));
        assert_eq!(env.cached(), wanted, "{placement}\n{}{}", run.stdout, run.stderr);
        for media in &wanted {
            let copy = &env.snapshot("cache/media").entries[media];
            assert_eq!(copy.contents, before.entries[media].contents, "{placement} {media}");
            assert_eq!(copy.mtime, before.entries[media].mtime, "{placement} {media}");
        }
        let second = env.sync();
        assert!(second.stdout.contains("Nothing to do"), "{placement}: {}", second.stdout);
    }
}

#[test]
fn everything_comes_back_as_it_was_when_all_is_evicted() {
    for placement in PLACEMENTS {
        let (env, ..) = world(placement);
        let before = env.snapshot("disk1/media");
        env.sync();
        env.run(&["evict", "--all"]).expect(0);
        assert_eq!(env.cached(), Vec::<String>::new(), "{placement}");
        let after = env.snapshot("disk1/media").without_markers();
        assert_eq!(after, before, "{placement}");
        assert_eq!(env.snapshot("cache/media").without_markers().entries.len(), 0, "{placement}");
    }
}

#[test]
fn what_everybody_has_watched_leaves_after_its_grace() {
    for placement in PLACEMENTS {
        let (env, episodes, _) = world(placement);
        env.sync();
        env.watch("owner", &episodes[0], Duration::from_secs(3600));
        env.sync();
        assert!(env.cached().contains(&episode_path("Severance", 1, 1)), "{placement}: still in its grace");
        env.plex.edit(|library| library.set_seen("owner", &episodes[0], 1, Some(library.now - 3 * 86400), 0));
        let run = env.sync();
        assert!(!env.cached().contains(&episode_path("Severance", 1, 1)), "{placement}: {}{}", run.stdout, run.stderr);
        assert!(env.cached().contains(&episode_path("Severance", 1, 2)), "{placement}");
    }
}
