//! The configuration as the binary meets it: what is refused and how, overrides, and where the token is
//! looked for.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::util::env::{Run, TestEnv, binary, movie_path};

/// Two films on deck, the later one first.
fn world() -> TestEnv {
    let env = TestEnv::new();
    for (title, year) in [("Dune", 2021), ("Heat", 1995)] {
        let film = env.movie(title, year, 3000);
        env.on_deck("owner", &film);
    }
    env
}

/// Runs the binary with this configuration instead of the world's own.
fn run_with(env: &TestEnv, text: &str, args: &[&str]) -> Run {
    let mut command = env.command(args);
    fs::write(env.path("config.toml"), text).unwrap();
    Run::of(&mut command)
}

/// The line on which `text` stands in the configuration, from 1.
fn line_of(config: &str, text: &str) -> usize {
    1 + config.lines().position(|line| line.contains(text)).unwrap()
}

#[track_caller]
fn message(run: &Run) -> String {
    let line = run.json_of("error");
    format!("{} {}", line["message"].as_str().unwrap(), line["hint"].as_str().unwrap_or_default())
}

#[test]
fn what_is_wrong_is_named_by_file_line_key_and_what_was_expected() {
    let env = world();
    let good = env.config();
    let with = |from: &str, to: &str| good.replacen(from, to, 1);
    for (text, at, wanted) in [
        (with("min_file_age", "min_file_agee"), "agee", &["[safety] min_file_agee", "min_file_age"][..]),
        (with("[limits]", "[limit]"), "[limit]", &["limit", "limits"]),
        (with("min_file_age = \"0\"", "min_file_age = 5"), "_age = 5", &["[safety] min_file_age", "15m"]),
        (with("min_file_age = \"0\"", "min_file_age = \"soon\""), "soon", &["[safety] min_file_age", "soon"]),
        (
            with("allow_same_device = true", "allow_same_device = \"yes\""),
            "yes",
            &["allow_same_device", "true or false"],
        ),
        (with("placement = \"copy\"", "placement = \"copie\""), "copie", &["placement", "copy", "symlink"]),
        (with("url = \"http://", "url = \"htp://"), "htp://", &["[plex] url", "http"]),
        (with("min_free = \"0\"", "min_free = \"0\"\nmin_free = \"1\""), "= \"1\"", &["duplicate key"]),
        (with("[limits]", "[transfer]\njobs = 3\n[limits]"), "jobs = 3", &["[transfer] jobs", "3", "1 or 2"]),
        (with("version = 1", "version = 7"), "version", &["version", "7", "newer release"]),
    ] {
        let run = run_with(&env, &text, &["sync", "--json"]).expect(78);
        let said = message(&run);
        let place = format!("config.toml:{}:", line_of(&text, at));
        assert!(said.contains(&place), "no {place} in {said}");
        for part in wanted {
            assert!(said.contains(part), "no {part} in {said}");
        }
    }
    assert!(!env.path("state").exists() && env.plex.requests().is_empty());
}

#[test]
fn what_is_missing_is_named() {
    let env = world();
    let good = env.config();
    let url = format!("url = \"{}\"\n", env.plex.url());
    let said = message(&run_with(&env, &good.replacen(&url, "", 1), &["sync", "--json"]).expect(78));
    assert!(said.contains("config.toml") && said.contains("[plex] url: missing"), "{said}");
    let start = good.find("[[map]]").unwrap();
    let end = good.find("[safety]").unwrap();
    let said = message(&run_with(&env, &good.replacen(&good[start..end], "", 1), &["status", "--json"]).expect(78));
    assert!(said.contains("[[map]]"), "{said}");
    let said = message(&run_with(&env, "", &["history", "--json"]).expect(78));
    assert!(said.contains("[plex] url: missing"), "{said}");
}

#[test]
fn a_variable_overrides_its_key() {
    let env = world();
    // Room for one of them, as both count in blocks.
    let run = Run::of(env.command(&["sync", "--json"]).env("PLEXCACHE_LIMITS__MAX_SIZE", "5000"));
    let plan = run.expect(0).json_of("plan");
    assert_eq!(plan["actions"].as_array().unwrap().len(), 1, "{plan}");
    assert_eq!(plan["skipped"][0]["why"], "no_room", "{plan}");
    let tier = &Run::of(env.command(&["status", "--json"]).env("PLEXCACHE_LIMITS__MAX_SIZE", "5000"))
        .expect(0)
        .json_of("status")["tiers"][0];
    assert_eq!(tier["limit"], 5000, "{tier}");
    // Empty is not set.
    let run = Run::of(env.command(&["sync", "--json"]).env("PLEXCACHE_LIMITS__MAX_SIZE", ""));
    assert_eq!(run.expect(0).json_of("plan")["actions"].as_array().unwrap().len(), 1);
    assert_eq!(env.cached().len(), 2);
}

#[test]
fn a_wrong_variable_is_named_in_place_of_file_and_line() {
    let env = world();
    for (name, value, wanted) in [
        ("PLEXCACHE_LIMITS__MAX_SIZ", "5000", "max_siz"),
        ("PLEXCACHE_LIMITS__MAX_SIZE", "much", "much"),
        ("PLEXCACHE_SELECT__PREFETCH_MINUTES", "soon", "soon"),
    ] {
        let said = message(&Run::of(env.command(&["sync", "--json"]).env(name, value)).expect(78));
        assert!(said.starts_with(&format!("{name}: ")) && said.contains(wanted), "{said}");
    }
}

#[test]
fn the_file_is_found_by_the_environment() {
    let env = world();
    env.sync();
    let bare = |name: &str, value: &std::path::Path| {
        let mut command = std::process::Command::new(binary());
        Run::of(command.env_clear().env(name, value).args(["status", "--json"]))
    };
    let found = |run: Run| run.expect(0).json_of("status")["files"].as_array().unwrap().len();
    assert_eq!(found(bare("PLEXCACHE_CONFIG", &env.path("config.toml"))), 2);
    for (name, below) in [("XDG_CONFIG_HOME", "xdg/plexcache"), ("HOME", "home/.config/plexcache")] {
        fs::create_dir_all(env.path(below)).unwrap();
        fs::copy(env.path("config.toml"), env.path(below).join("config.toml")).unwrap();
        let folder = env.path(below.split('/').next().unwrap());
        assert_eq!(found(bare(name, &folder)), 2, "{name}");
    }
}

/// Only the token of the place that is to win is worth anything.
#[test]
fn each_place_of_the_token_is_beaten_by_those_before_it() {
    let places = ["PLEXCACHE_TOKEN_FILE", "CREDENTIALS_DIRECTORY", "plex.token_file", "plex.token", "PLEXCACHE_TOKEN"];
    for winner in 0..places.len() {
        let env = world();
        let token = |place: usize| if place == winner { "owner-token" } else { "worthless-token" };
        let mut config = env.config();
        let file_line = format!("token_file = \"{}\"\n", env.path("token").display());
        config = config.replacen(&file_line, "", 1);
        let mut lines = String::new();
        if winner <= 2 {
            fs::write(env.path("token"), token(2)).unwrap();
            lines.push_str(&file_line);
        }
        if winner <= 3 {
            writeln!(lines, "token = \"{}\"", token(3)).unwrap();
        }
        config = config.replacen("[plex]\n", &format!("[plex]\n{lines}"), 1);
        let mut command = env.command(&["sync"]);
        fs::write(env.path("config.toml"), config).unwrap();
        if winner == 0 {
            fs::write(env.path("first"), token(0)).unwrap();
            command.env(places[0], env.path("first"));
        }
        if winner <= 1 {
            fs::create_dir(env.path("credentials")).unwrap();
            fs::write(env.path("credentials/plex-token"), token(1)).unwrap();
            command.env(places[1], env.path("credentials"));
        }
        command.env(places[4], token(4));
        let run = Run::of(&mut command);
        assert_eq!(run.status, 0, "{}: {}", places[winner], run.stderr);
    }
}

#[test]
fn a_token_file_that_is_named_and_missing_is_78_and_no_other_token_is_tried() {
    let env = world();
    let mut command = env.command(&["sync", "--json"]);
    let run = Run::of(command.env("PLEXCACHE_TOKEN_FILE", env.path("absent"))).expect(78);
    assert!(message(&run).contains("PLEXCACHE_TOKEN_FILE"), "{}", run.stdout);
    assert!(env.plex.requests().is_empty());
}

#[test]
fn a_token_that_others_may_read_is_warned_about_and_not_shown() {
    let env = world();
    assert_eq!(env.sync().stderr.matches("warning").count(), 0);
    fs::set_permissions(env.path("token"), fs::Permissions::from_mode(0o644)).unwrap();
    let run = env.sync();
    assert!(run.stderr.contains("chmod 600") && run.stderr.contains("/token"), "{}", run.stderr);
    assert!(!run.stderr.contains("owner-token"));

    let mut command = env.command(&["status"]);
    let text = env.config().replacen("[plex]\n", "[plex]\ntoken = \"owner-token\"\n", 1);
    fs::write(env.path("config.toml"), text).unwrap();
    fs::set_permissions(env.path("config.toml"), fs::Permissions::from_mode(0o640)).unwrap();
    let run = Run::of(&mut command).expect(0);
    assert!(run.stderr.contains("config.toml holds a Plex token"), "{}", run.stderr);
}

#[test]
fn no_message_about_the_configuration_shows_a_token() {
    let env = world();
    let good = env.config();
    let secret = "S3CR3Tabcdefghijk";
    let in_plex = |line: &str| good.replacen("[plex]\n", &format!("[plex]\n{line}\n"), 1);
    for text in [
        in_plex(&format!("token = {secret}")),
        in_plex(&format!("token = \"{secret}")),
        in_plex(&format!("token = [\"{secret}\"]")),
        in_plex(&format!("tokn = \"{secret}\"")),
        in_plex(&format!("token = \"{secret}\"\ntoken = \"{secret}\"")),
        in_plex(&format!("token = \"{secret}\" \"{secret}\"")),
        format!("{good}[users.tokens]\nben = {secret}\n"),
        format!("{good}[users.tokens]\nben = [\"{secret}\"]\n"),
        format!("{good}[users.tokens.ben]\ntoken = \"{secret}\"\n"),
        format!("{good}[users]\ntokens = \"{secret}\"\n"),
    ] {
        let run = run_with(&env, &text, &["sync", "-vv"]).expect(78);
        assert!(!format!("{}{}", run.stdout, run.stderr).contains(secret), "{}", run.stderr);
        assert!(run.stderr.contains("config.toml:"), "{}", run.stderr);
    }
    for bad in [format!("{secret} {secret}"), format!("{secret}\u{e9}"), format!("\"{secret}\u{7}\"")] {
        fs::write(env.path("token"), &bad).unwrap();
        let run = env.run(&["sync", "-vv"]).expect(78);
        assert!(!format!("{}{}", run.stdout, run.stderr).contains(secret), "{}", run.stderr);
    }
}

#[test]
fn a_second_film_is_left_when_exclude_names_it() {
    let mut env = world();
    env.settings.push_str("[select]\nexclude = [\"**/Heat*\"]\n");
    env.sync();
    assert_eq!(env.cached(), [movie_path("Dune", 2021)]);
}
