//! `check`: finds what is wrong, says what to mend, and changes nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;

use crate::util::env::{PLEX_ROOT, Run, TestEnv, episode_path, movie_path};
use crate::util::fake_plex::{Fault, Matcher};

/// A film and an episode with their files, and a Plex that sees the first array disk. Not in `/tmp`, which
/// may be in memory, where a state directory is a fault.
fn world(placement: &str) -> TestEnv {
    let dir = tempfile::Builder::new().prefix("plexcache-test-").tempdir_in("/var/tmp").unwrap();
    let env = TestEnv::at(dir, placement);
    env.movie("Dune", 2021, 3000);
    env.episode("Severance", 1, 1, 2000);
    env.plex.edit(|library| library.map_local(PLEX_ROOT, env.path("disk1/media")));
    env
}

/// `RESULT NAME` of every finding.
fn results(run: &Run) -> Vec<String> {
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    run.json().iter().map(|line| format!("{} {}", word(&line["result"]), word(&line["name"]))).collect()
}

/// The finding of that name which is worst, and is at least a warning.
#[track_caller]
fn trouble(run: &Run, result: &str, name: &str) -> (String, String) {
    let lines = run.json();
    let found = lines.iter().find(|line| line["result"] == result && line["name"] == name);
    let found = found.unwrap_or_else(|| panic!("no {result} {name} in {:#?}{}", results(run), run.stderr));
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    (text("detail"), text("advice"))
}

/// Runs `check` and holds it against the rules that hold whatever it finds.
#[track_caller]
fn check(env: &TestEnv, args: &[&str]) -> Run {
    let before = ["disk1", "disk2", "cache"].map(|below| env.snapshot(below));
    let state = env.path("state").exists();
    let run = env.run(&[&["check", "--json"], args].concat());
    assert_eq!(["disk1", "disk2", "cache"].map(|below| env.snapshot(below)), before, "{run:?}");
    assert_eq!(env.path("state").exists(), state, "a state directory was made");
    assert!(!format!("{run:?}").contains("owner-token"), "{run:?}");
    let failed = results(&run).iter().any(|result| result.starts_with("fail"));
    assert_eq!(run.status == 1, failed, "{run:?}");
    run
}

#[test]
fn what_is_right_passes() {
    for placement in ["copy", "hide", "move", "symlink"] {
        let env = world(placement);
        let run = check(&env, &[]).expect(0);
        for name in ["token", "server", "owner", "roots", "space", "item", "seen by Plex", "state directory", "clock"] {
            assert!(results(&run).contains(&format!("pass {name}")), "{placement}: no {name} in {:#?}", results(&run));
        }
        let detail = |library: &str| {
            let lines = run.json();
            let is_it = |line: &&Value| line["name"] == "item" && line["detail"].as_str().unwrap().starts_with(library);
            lines.iter().find(is_it).unwrap()["detail"].to_string()
        };
        assert!(detail("Movies").contains(&movie_path("Dune", 2021)), "{}", run.stdout);
        assert!(detail("TV Shows").contains(&episode_path("Severance", 1, 1)), "{}", run.stdout);
    }
}

#[test]
fn after_a_run_it_passes_as_before() {
    for placement in ["copy", "hide", "move", "symlink"] {
        let env = world(placement);
        let key = env.movie("Heat", 1995, 4000);
        env.on_deck("owner", &key);
        env.sync();
        let run = check(&env, &[]);
        fs::write(env.cache(&movie_path("Heat", 1995)), "edited").unwrap();
        let edited = results(&check(&env, &[]));
        assert!(edited.contains(&"pass item".to_owned()), "another item proves the map: {edited:#?}");
        // In a view of the first disk alone, Plex has lost what was renamed or moved.
        let is_expected = |result: &String| !result.starts_with("fail") || result == "fail seen by Plex";
        assert!(results(&run).iter().all(is_expected), "{placement}: {:#?}", results(&run));
        assert!(results(&run).contains(&"pass item".to_owned()), "{placement}: {:#?}", results(&run));
    }
}

#[test]
fn warnings_count_only_when_they_are_asked_to() {
    let env = world("copy");
    let run = check(&env, &[]).expect(0);
    assert!(trouble(&run, "warn", "merged view").1.contains("symlink"));
    check(&env, &["--strict"]).expect(3);
}

#[test]
fn every_line_of_json_is_a_check_with_the_same_fields() {
    let env = world("copy");
    let run = check(&env, &[]).expect(0);
    assert!(run.json().len() > 10);
    for line in run.json() {
        let fields: Vec<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, ["about", "advice", "detail", "name", "result", "schema", "type"]);
        assert_eq!((&line["schema"], &line["type"]), (&1.into(), &"check".into()));
        assert!(["pass", "warn", "fail", "skip"].contains(&line["result"].as_str().unwrap()), "{line}");
        assert!(line["advice"].is_string() || !["warn", "fail"].contains(&line["result"].as_str().unwrap()), "{line}");
    }
}

#[test]
fn for_people_it_ends_with_the_counts_and_quiet_says_only_what_is_wrong() {
    let mut env = world("copy");
    let run = env.run(&["check"]).expect(0);
    let last = run.stdout.lines().last().unwrap();
    assert!(last.contains(" passed · ") && last.contains("0 failed"), "{}", run.stdout);
    assert!(run.stdout.contains(&format!("[[map]] 1: {PLEX_ROOT}\n  pass  ")), "{}", run.stdout);
    env.settings.push_str("[users]\nexclude = [\"*\"]\n");
    let quiet = env.run(&["check", "--quiet"]).expect(1);
    assert!(quiet.stdout.contains("fail  user") && !quiet.stdout.contains("  pass  "), "{}", quiet.stdout);
}

#[test]
fn a_wrong_prefix_is_found_and_the_right_one_is_named() {
    let env = world("copy");
    for wrong in ["/media", "/data/media/video", "/data/Media"] {
        let config = env.config().replace("plex = \"/data/media\"", &format!("plex = \"{wrong}\""));
        let run = with_config(&env, &config, &["check", "--json"]).expect(1);
        let (detail, advice) = trouble(&run, "fail", "item");
        assert!(detail.contains(wrong), "{detail}");
        assert!(advice.contains("[[map]] 1: plex = \"/data/media\""), "{advice}");
        assert!(!results(&run).contains(&"warn library".to_owned()), "said twice: {:#?}", results(&run));
    }
}

#[test]
fn a_folder_too_high_or_too_deep_is_found_and_the_right_root_is_named() {
    let env = world("copy");
    let root = env.path("disk1").display().to_string();
    for (wrong, right) in [
        // Plex's folder is one too deep for the roots: the file is below another root.
        (("plex = \"/data/media\"", "plex = \"/data\""), "plex = \"/data/media\""),
        (("disk1/media\", \"", "disk1/empty\", \""), "disk1/media\" belongs into `array`"),
    ] {
        fs::create_dir_all(env.path("disk1/empty/x")).unwrap();
        let config = env.config().replace(wrong.0, wrong.1);
        let run = with_config(&env, &config, &["check", "--json"]).expect(1);
        let (detail, advice) = trouble(&run, "fail", "item");
        assert!(advice.contains(right), "{detail}: {advice}");
        assert!(advice.contains(&root), "{advice}");
    }
}

#[test]
fn exchanged_roots_are_found() {
    let env = world("copy");
    let root = env.path("").display().to_string();
    let config = env
        .config()
        .replace(&format!("array = [\"{root}disk1/media\", \"{root}disk2/media\"]"), "ARRAY")
        .replace(&format!("cache = \"{root}cache/media\""), &format!("cache = \"{root}disk1/media\""))
        .replace("ARRAY", &format!("array = [\"{root}cache/media\"]"));
    // The cache has something of its own, or it would be refused as empty already.
    fs::write(env.path("cache/media/other.txt"), "x").unwrap();
    let run = with_config(&env, &config, &["check", "--json"]).expect(1);
    let (detail, advice) = trouble(&run, "fail", "item");
    assert!(advice.contains("`array` and `cache` of [[map]] 1 exchanged"), "{detail}: {advice}");
}

#[test]
fn a_cache_that_is_not_mounted_is_found() {
    let mut env = world("copy");
    env.settings = env.settings.replace("allow_same_device = true", "allow_same_device = false");
    let run = check(&env, &[]).expect(1);
    let (detail, advice) = trouble(&run, "fail", "roots");
    assert!(detail.contains("the same file system") && detail.contains("cache/media"), "{detail}");
    assert!(advice.contains("is the cache mounted?"), "{advice}");
    assert!(results(&run).contains(&"pass item".to_owned()), "the rest is looked at: {:#?}", results(&run));
    fs::remove_dir_all(env.path("cache")).unwrap();
    let run = env.run(&["check", "--json"]).expect(1);
    assert!(trouble(&run, "fail", "roots").1.contains("mount the disk"));
}

#[test]
fn less_room_than_min_free_is_found() {
    let mut env = world("copy");
    env.settings = env.settings.replace("min_free = \"0\"", "min_free = \"100%\"");
    let run = check(&env, &[]).expect(1);
    let (detail, advice) = trouble(&run, "fail", "space");
    assert!(detail.contains("min_free") && advice.contains("free more than"), "{detail}: {advice}");
}

#[test]
fn a_token_that_cannot_be_read_or_is_for_everybody_is_found() {
    let env = world("copy");
    let token = env.path("token");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    let run = check(&env, &[]).expect(0);
    assert!(trouble(&run, "warn", "token").1.contains("chmod 600"));
    fs::set_permissions(&token, fs::Permissions::from_mode(0o000)).unwrap();
    // Root reads it all the same.
    if fs::read(&token).is_ok() {
        fs::remove_file(&token).unwrap();
    }
    let run = check(&env, &[]).expect(1);
    let (detail, advice) = trouble(&run, "fail", "token");
    assert!(detail.contains("cannot read the Plex token") && advice.contains("mode 0600"), "{detail}: {advice}");
    assert!(results(&run).contains(&"pass roots".to_owned()), "the rest is looked at: {:#?}", results(&run));
    assert!(results(&run).contains(&"skip item".to_owned()), "{:#?}", results(&run));
}

#[test]
fn a_token_that_plex_does_not_accept_or_that_is_not_the_owners_is_found() {
    let env = world("copy");
    fs::write(env.path("token"), "old-secret").unwrap();
    let run = check(&env, &[]).expect(1);
    let (detail, advice) = trouble(&run, "fail", "server");
    assert!(detail.contains("401") && advice.contains("PlexOnlineToken"), "{detail}: {advice}");
    assert!(!format!("{run:?}").contains("old-secret"));

    env.plex.edit(|library| library.add_user("ben", "bens-secret"));
    fs::write(env.path("token"), "bens-secret").unwrap();
    let run = check(&env, &[]).expect(1);
    assert!(trouble(&run, "fail", "owner").1.contains("owner"));
    assert!(!format!("{run:?}").contains("bens-secret"));
}

#[test]
fn users_are_told_with_how_they_are_read() {
    let mut env = world("copy");
    env.add_user("ben");
    env.configure("cara = \"cara-secret\"\n");
    let run = check(&env, &[]).expect(0);
    assert!(run.stdout.contains("ben: read with a token of users.tokens, sees 2 libraries"), "{}", run.stdout);
    assert!(run.stdout.contains("owner: read with the owner's token"), "{}", run.stdout);
    let (detail, advice) = trouble(&run, "warn", "user");
    assert!(detail.starts_with("cara: cannot be read") && advice.contains("users.exclude"), "{detail}: {advice}");
    assert!(!run.stdout.contains("-secret") && !run.stdout.contains("ben-token"), "{}", run.stdout);
}

#[test]
fn a_plex_that_is_down_is_found_and_the_rest_is_looked_at() {
    let env = world("copy");
    env.plex.faults(|faults| faults.add(Matcher::any(), Fault::Maintenance));
    let run = check(&env, &[]).expect(1);
    assert!(trouble(&run, "fail", "server").0.contains("busy"));
    assert!(results(&run).contains(&"pass roots".to_owned()), "{:#?}", results(&run));
}

#[test]
fn a_setting_that_costs_watch_states_is_warned_of_where_files_move() {
    for (placement, result) in [("copy", "pass trash"), ("move", "warn trash")] {
        let run = check(&world(placement), &[]);
        assert!(results(&run).contains(&result.to_owned()), "{placement}: {:#?}", results(&run));
    }
}

#[test]
fn a_file_that_plex_itself_cannot_read_is_found() {
    let env = world("copy");
    env.plex.edit(|library| library.hide_local(env.path("disk1/media/Movies")));
    let run = check(&env, &[]).expect(1);
    let (detail, advice) = trouble(&run, "fail", "seen by Plex");
    assert!(detail.contains("/data/media/Movies") && advice.contains("container"), "{detail}: {advice}");
}

#[test]
fn a_plex_that_cannot_follow_links_to_the_cache_is_found() {
    let env = world("symlink");
    let run = check(&env, &[]).expect(0);
    let (detail, advice) = trouble(&run, "warn", "links");
    assert!(detail.contains("cannot be proved") && advice.contains("verify_with_plex"), "{detail}: {advice}");

    let key = env.movie("Heat", 1995, 4000);
    env.on_deck("owner", &key);
    env.sync();
    let run = check(&env, &[]).expect(0);
    assert!(results(&run).contains(&"pass links".to_owned()), "{:#?}", results(&run));

    env.plex.edit(|library| library.hide_local(env.path("cache")));
    let run = check(&env, &[]).expect(1);
    let (detail, advice) = trouble(&run, "fail", "links");
    assert!(
        detail.contains("Heat") && advice.contains(&*env.path("cache/media").to_string_lossy()),
        "{detail}: {advice}"
    );
}

#[test]
fn a_state_directory_in_memory_is_found() {
    let kind = Command::new("stat").args(["-f", "-c", "%T", "/dev/shm"]).output().unwrap();
    if kind.stdout != b"tmpfs\n" {
        println!("skipped: /dev/shm is no tmpfs");
        return;
    }
    let env = world("copy");
    let run = check(&env, &["--state-dir", "/dev/shm/plexcache-check-test-not-made/state"]).expect(1);
    let (detail, advice) = trouble(&run, "fail", "state directory");
    assert!(detail.contains("tmpfs") && advice.contains("state.dir"), "{detail}: {advice}");
    assert!(!fs::exists("/dev/shm/plexcache-check-test-not-made").unwrap());
}

#[test]
fn a_damaged_history_is_found_and_the_rest_is_looked_at() {
    let env = world("copy");
    env.sync();
    fs::write(env.path("state/history.jsonl"), "{\"v\":1}\nnot json\n{}\n").unwrap();
    fs::remove_file(env.path("state/index.json")).unwrap();
    let run = check(&env, &[]).expect(1);
    assert!(!trouble(&run, "fail", "history").1.is_empty());
    assert!(results(&run).contains(&"pass item".to_owned()), "{:#?}", results(&run));
}

#[test]
fn a_library_without_a_map_is_told_with_the_map_that_it_needs() {
    let env = world("copy");
    let config = env.config().replace("plex = \"/data/media\"", "plex = \"/data/media/TV\"");
    let config = config.replace("/disk1/media\"", "/disk1/media/TV\"");
    let run = with_config(&env, &config, &["check", "--json"]).expect(0);
    let (detail, advice) = trouble(&run, "warn", "library");
    assert!(detail.contains("Movies: no [[map]] has /data/media/Movies"), "{detail}");
    let root = env.path("disk1/media/Movies").display().to_string();
    assert!(advice.contains(&format!("plex = \"/data/media/Movies\" and array = [\"{root}\"]")), "{advice}");
}

#[test]
fn a_name_that_cannot_be_is_no_sign_of_a_missing_map() {
    let env = world("copy");
    env.film_at("Movies/a\u{fffd}b.mkv", 10);
    let run = check(&env, &[]).expect(0);
    assert!(!results(&run).contains(&"warn library".to_owned()), "{:#?}", results(&run));
    assert!(results(&run).contains(&"pass item".to_owned()), "{:#?}", results(&run));
}

#[test]
fn a_file_of_another_size_is_told() {
    let env = world("copy");
    fs::write(env.array(&movie_path("Dune", 2021)), "short").unwrap();
    let run = check(&env, &[]).expect(0);
    assert!(trouble(&run, "warn", "item").0.contains("5 B"));
}

#[test]
fn a_merged_view_that_shows_another_folder_is_found_and_the_right_one_is_named() {
    let mut env = world("copy");
    // Folders in the place of a union, which shows the same file.
    let media = movie_path("Dune", 2021);
    for media in [&media, &episode_path("Severance", 1, 1)] {
        let shown = env.path("view/media").join(media);
        fs::create_dir_all(shown.parent().unwrap()).unwrap();
        fs::hard_link(env.array(media), shown).unwrap();
    }
    let right = env.path("view/media").display().to_string();
    env.map = format!("placement = \"copy\"\nmerged = \"{right}\"\n");
    let run = check(&env, &[]).expect(0);
    assert!(results(&run).contains(&"pass merged item".to_owned()), "{:#?}", results(&run));
    env.map = format!("placement = \"copy\"\nmerged = \"{}\"\n", env.path("view").display());
    let run = check(&env, &[]).expect(1);
    let (detail, advice) = trouble(&run, "fail", "merged item");
    assert!(advice.contains(&format!("[[map]] 1: merged = \"{right}\"")), "{detail}: {advice}");
    env.map = "placement = \"copy\"\nmerged = \"/nowhere/at/all\"\n".to_owned();
    let run = check(&env, &[]).expect(1);
    assert!(trouble(&run, "fail", "merged view").0.contains("/nowhere/at/all"));
}

#[test]
fn a_probe_makes_and_removes_its_files_and_leaves_no_trace() {
    let mut env = world("copy");
    // Two folders are no union: the view shows neither file.
    fs::create_dir_all(env.path("view")).unwrap();
    env.map = format!("placement = \"copy\"\nmerged = \"{}\"\n", env.path("view").display());
    let run = check(&env, &["--probe"]).expect(1);
    assert!(results(&run).contains(&"pass probe".to_owned()), "{:#?}", results(&run));
    assert!(trouble(&run, "fail", "served copy").0.contains("neither"));
    let run = check(&env, &["--probe", "--dry-run"]).expect(1);
    assert!(!results(&run).contains(&"pass probe".to_owned()), "a dry run probes nothing: {:#?}", results(&run));
    // What is not a probe's is left alone.
    fs::write(env.cache(".plexcache-probe"), "mine").unwrap();
    let run = check(&env, &["--probe"]);
    assert!(trouble(&run, "warn", "probe").0.contains("cache"));
    assert_eq!(fs::read_to_string(env.cache(".plexcache-probe")).unwrap(), "mine");
}

/// Runs the binary with another configuration than that of the world.
fn with_config(env: &TestEnv, config: &str, args: &[&str]) -> Run {
    let mut command = env.command(args);
    fs::write(env.path("config.toml"), config).unwrap();
    Run::of(&mut command)
}
