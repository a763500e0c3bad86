//! `safety.verify_with_plex`: after the first caching on a map Plex is asked whether it can read the file,
//! and when it says no, all is as it was before.

use std::fs;

use crate::util::env::{Run, TestEnv, file_at, movie_path};
use crate::util::fake_plex::{Fault, Faults, Matcher, Media};

const PLACEMENTS: [&str; 4] = ["copy", "hide", "move", "symlink"];

/// Three films on deck, the first with a subtitle.
fn three_films(placement: &str) -> TestEnv {
    let env = TestEnv::with_placement(placement);
    for title in ["Alien", "Dune", "Heat"] {
        let key = env.movie(title, 2000, 5000);
        env.on_deck("owner", &key);
    }
    env.file("Movies/Alien (2000)/Alien (2000).en.srt", 100);
    env
}

/// Plex runs where nothing of the cache can be seen.
fn hide_the_cache(env: &TestEnv) {
    let cache = env.path("cache").canonicalize().unwrap();
    env.plex.edit(|library| library.hide_local(cache));
}

/// The items that Plex was asked to look at the files of.
fn checks(env: &TestEnv) -> usize {
    env.plex.requests().iter().filter(|request| request.arg("checkFiles") == Some("1")).count()
}

fn warnings(run: &Run) -> Vec<String> {
    let lines = run.json().into_iter().filter(|line| line["type"] == "warning");
    lines.map(|line| format!("{} {}", line["message"].as_str().unwrap(), line["hint"].as_str().unwrap_or(""))).collect()
}

#[test]
fn plex_is_asked_once_in_a_run_that_cached_something_and_in_no_other() {
    for placement in PLACEMENTS {
        let mut env = three_films(placement);
        env.dry_sync();
        assert_eq!(checks(&env), 0, "{placement}: a dry run");
        env.sync();
        assert_eq!((checks(&env), env.cached().len()), (1, 4), "{placement}");
        env.sync();
        assert_eq!(checks(&env), 1, "{placement}: nothing was cached");
        env.run(&["evict", "--all"]).expect(0);
        assert_eq!(checks(&env), 1, "{placement}: an eviction");
        env.settings = env.settings.replace("[safety]", "[safety]\nverify_with_plex = false");
        env.sync();
        assert_eq!((checks(&env), env.cached().len()), (1, 4), "{placement}: it is switched off");
    }
}

#[test]
fn what_plex_cannot_read_is_taken_back_and_nothing_more_is_cached() {
    for placement in ["hide", "move", "symlink"] {
        let env = three_films(placement);
        hide_the_cache(&env);
        let before = env.snapshot("disk1/media");
        let run = env.run(&["sync", "--json"]).expect(4);
        assert_eq!(env.snapshot("disk1/media").without_markers(), before, "{placement}");
        assert_eq!(env.snapshot("cache/media").without_markers().entries.len(), 0, "{placement}");
        assert_eq!(checks(&env), 1, "{placement}");

        let ended = run.json().into_iter().filter(|line| line["type"] == "action");
        let ended: Vec<String> = ended
            .map(|line| {
                let field = |key: &str| line[key].as_str().unwrap_or("-").to_owned();
                let name = field("path").rsplit('/').next().unwrap().to_owned();
                format!("{} {name} {} {}", field("kind"), field("evict_why"), field("result"))
            })
            .collect();
        let expected = [
            "cache Alien (2000).en.srt - done",
            "cache Alien (2000).mkv - done",
            "evict Alien (2000).mkv unreadable done",
            "evict Alien (2000).en.srt unreadable done",
        ];
        assert_eq!(ended, expected, "{placement}");
        let [warning] = warnings(&run).try_into().unwrap();
        for words in [
            "Plex cannot read /data/media/Movies/Alien (2000)/Alien (2000).mkv since it was cached",
            "it was taken back, and nothing more is cached on /data/media",
            if placement == "symlink" { "mount that folder there" } else { "has to be a union" },
            env.path("cache/media").to_str().unwrap(),
        ] {
            assert!(warning.contains(words), "{placement}: {words}: {warning}");
        }
        assert_eq!(run.json_of("summary")["outcome"], "refused", "{placement}");

        // The history has it all, and there is nothing left to take back.
        let last = env.history().into_iter().rfind(|record| record["event"] == "run_finished").unwrap();
        assert!(last["error"].as_str().unwrap().contains("Plex cannot read"), "{last}");
        env.run(&["undo", "--yes"]).expect(0);
        assert_eq!(env.snapshot("disk1/media").without_markers(), before, "{placement}");
        assert_eq!(env.cached(), Vec::<String>::new(), "{placement}");
        let status = env.run(&["status"]).expect(0);
        assert!(status.stdout.contains("Plex cannot read") || status.stdout.contains("undo"), "{}", status.stdout);
    }
}

#[test]
fn a_copy_beside_an_original_that_plex_still_reads_stays() {
    let env = three_films("copy");
    hide_the_cache(&env);
    env.sync();
    assert_eq!((env.cached().len(), checks(&env)), (4, 1));
}

#[test]
fn once_plex_can_read_it_the_next_run_caches_it() {
    let mut env = three_films("symlink");
    hide_the_cache(&env);
    env.run(&["sync"]).expect(4);
    env.run(&["sync", "--quiet"]).expect(4);
    assert_eq!(env.cached(), Vec::<String>::new());
    // Another placement, which Plex can read.
    env.map = "placement = \"copy\"\n".to_owned();
    env.sync();
    assert_eq!(env.cached().len(), 4);
}

#[test]
fn a_map_that_plex_cannot_read_does_not_stop_the_others() {
    let mut env = three_films("symlink");
    let (array, cache) = (env.path("disk1/kids"), env.path("cache/kids"));
    for root in [&array, &cache] {
        fs::create_dir_all(root).unwrap();
    }
    file_at(array.join("Up.mkv"), 1000);
    env.configure(&format!(
        "[[map]]\nplex = \"/kids\"\narray = [\"{}\"]\ncache = \"{}\"\nplacement = \"copy\"\n",
        array.display(),
        cache.display()
    ));
    let key = env.plex.edit(|library| {
        library.map_local("/kids", &array);
        library.add_movie(env.movies, "Up", 2009, &[Media::file("/kids/Up.mkv", 1000)])
    });
    env.on_deck("owner", &key);
    hide_the_cache(&env);
    let run = env.run(&["sync", "--json"]).expect(3);
    assert_eq!(env.cached(), Vec::<String>::new());
    assert!(cache.join("Up.mkv").is_file());
    assert_eq!(checks(&env), 2, "each map is asked about once");
    assert_eq!(run.json_of("summary")["outcome"], "partial");
    assert_eq!(warnings(&run).len(), 1, "{}", run.stdout);
}

#[test]
fn nothing_is_taken_back_while_plex_does_not_say_that_it_cannot_read_it() {
    type Change = fn(&TestEnv);
    const ITEM: &str = "/library/metadata/101";
    for placement in ["hide", "symlink"] {
        let dune = movie_path("Dune", 2000);
        let changes: [(&str, Change); 4] = [
            ("it fails", |env| env.plex.faults(|faults| faults.add(Matcher::exact_path(ITEM), Fault::Status(500)))),
            ("the item is gone", |env| {
                env.plex.faults(|faults| faults.add(Matcher::exact_path(ITEM), Fault::Status(404)));
            }),
            ("it does not understand", |env| env.plex.edit(|library| library.checks_files = false)),
            ("it went away", |env| env.plex.faults(|faults| faults.add(Matcher::exact_path(ITEM), Fault::Reset))),
        ];
        for (name, change) in changes {
            let env = TestEnv::with_placement(placement);
            let key = env.movie("Dune", 2000, 5000);
            assert_eq!(key, "101");
            env.on_deck("owner", &key);
            hide_the_cache(&env);
            change(&env);
            let run = env.run(&["sync", "--json"]).expect(0);
            assert_eq!(env.cached(), [dune.as_str()], "{placement} {name}");
            assert_eq!(warnings(&run), Vec::<String>::new(), "{placement} {name}");
            assert!(checks(&env) >= 1, "{placement} {name}");
            env.plex.faults(Faults::clear);
        }
    }
}

#[test]
fn nothing_is_taken_back_when_the_item_has_another_file_by_now() {
    let env = TestEnv::with_placement("symlink");
    if env.clones() {
        println!("skipped: copies are clones on this file system");
        return;
    }
    let key = env.movie("Dune", 2000, (1 << 20) + 1);
    env.on_deck("owner", &key);
    hide_the_cache(&env);
    let run = env.mid_copy(&["sync", "--json"]);
    env.plex.edit(|library| library.set_media(&key, &[Media::file("/data/media/Movies/Dune 4k.mkv", 9000)]));
    Run::from(run.wait_with_output().unwrap()).expect(0);
    assert_eq!((env.cached(), checks(&env)), (vec![movie_path("Dune", 2000)], 1));
}
