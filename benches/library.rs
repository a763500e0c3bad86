//! Runs that copy nothing: with a whole library behind them, with many cached units, with a long history.

use std::process::Command;

use super::Scale;
use super::measure::{self, Cost, Race, median};
use super::peers;
use super::records;
use super::table::{Comparison, Table, Target, Unit};
use super::util::env::{TestEnv, binary};
use super::world::{World, tool};

const USERS: [&str; 2] = ["anna", "ben"];

/// What PlexCache-D took for the same library, in seconds; its server was as near. Measured once, elsewhere.
const PLEXCACHE_D_NOOP: f64 = 43.0;

/// A `sync` with nothing to do: 200 shows of 30 episodes, 300 films, three users with 40 items on deck each.
pub fn noop(table: &mut Table, scale: &Scale) {
    let mut world = World::plain();
    let env = &mut world.env;
    env.configure("[users.tokens]\nanna = \"anna-token\"\nben = \"ben-token\"\n");
    for user in USERS {
        env.plex.edit(|library| library.add_user(user, &format!("{user}-token")));
    }
    let mut decks: Vec<String> = Vec::new();
    for show in 0..200 {
        for index in 1..=30 {
            let key = env.episode(&format!("Show {show:03}"), (index - 1) / 10 + 1, (index - 1) % 10 + 1, 1000);
            if index == 3 {
                decks.push(key);
            }
        }
    }
    let films: Vec<String> = (0..300).map(|film| env.movie(&format!("Film {film:03}"), 2000, 1000)).collect();
    for (user, name) in ["owner"].into_iter().chain(USERS).enumerate() {
        decks[user * 40..][..30].iter().chain(&films[user * 40..][..10]).for_each(|key| env.on_deck(name, key));
    }
    env.sync();
    let mut requests = 0;
    let sync = env.command(&["sync", "--quiet"]);
    let costs: Vec<Cost> = (0..=2 * scale.rounds)
        .map(|_| {
            env.plex.clear_requests();
            let cost = measure::run(&sync);
            requests = env.plex.requests().len();
            cost
        })
        .collect();
    let of = |pick: fn(&Cost) -> f64| median(costs.iter().map(pick));
    let recorded = ("PlexCache-D, as once measured", PLEXCACHE_D_NOOP);
    let limit = Target::AtMost(PLEXCACHE_D_NOOP / 100.0);
    table.beside("no-op sync, 6,300 files, 3 users", of(|cost| cost.wall), recorded, Unit::Seconds, limit);
    table.figure("its own CPU", of(|cost| cost.cpu), Unit::Seconds, Target::AtMost(0.060));
    table.figure("its requests", requests as f64, Unit::Count, Target::AtMost(30.0));
    table.figure("its peak memory", of(|cost| cost.peak), Unit::Mebibytes, Target::AtMost(40.0));
    if peers::is_there("find") {
        let mut find = Command::new("find");
        find.arg(env.path("disk1/media")).args(["-type", "f", "-size", "+1c"]);
        let cost = measure::run(&find);
        table.figure("a mere walk over those files (find, all in memory)", cost.wall, Unit::Seconds, Target::None);
    }
    match super::growth::instructions(&sync) {
        Some(count) => table.figure("its instructions, millions", count / 1e6, Unit::Count, Target::None),
        None => table.missing("its instructions", "valgrind is missing"),
    }
}

/// Runs with very many cached units, all of them still wanted, by a playlist.
pub fn many_units(table: &mut Table, scale: &Scale) {
    for units in scale.units {
        let mut world = World::plain();
        world.env.configure("[select]\nplaylists = [\"All\"]\n");
        let env = &world.env;
        let keys = records::history(env, 0, units);
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        env.plex.edit(|library| library.add_playlist("owner", "All", &keys));
        eprintln!("{units} cached units");
        env.sync();
        let mut measured = |args: &[&str], rounds: usize, limit: Target| {
            let command = env.command(&[args, &["--quiet"]].concat());
            let costs: Vec<Cost> = (0..rounds).map(|_| measure::run(&command)).collect();
            let of = |pick: fn(&Cost) -> f64| median(costs.iter().map(pick));
            let work = format!("{} with {units} cached units", args.join(" "));
            table.figure(&work, of(|cost| cost.wall), Unit::Seconds, Target::None);
            table.figure("its own CPU", of(|cost| cost.cpu), Unit::Seconds, limit);
            table.figure("its peak memory", of(|cost| cost.peak), Unit::Mebibytes, Target::AtMost(40.0));
        };
        let limit = if units == 10_000 { Target::AtMost(0.250) } else { Target::None };
        measured(&["sync"], scale.rounds, limit);
        measured(&["status"], scale.rounds, Target::None);
        measured(&["evict", "--all", "--dry-run"], scale.rounds, Target::None);
        match calls_below_the_array(env) {
            Some(calls) => {
                let work = format!("calls on files of the array, sync with {units} cached units");
                table.figure(&work, calls as f64, Unit::Count, Target::AtMost(0.0));
            }
            None => table.missing("calls on files of the array", "strace is missing"),
        }
        let mut measured = |args: &[&str]| {
            let cost = measure::run(&env.command(&[args, &["--quiet"]].concat()));
            let work = format!("{} of {units} units", args.join(" "));
            table.figure(&work, cost.wall, Unit::Seconds, Target::None);
            table.figure("its own CPU", cost.cpu, Unit::Seconds, Target::None);
            table.figure("its peak memory", cost.peak, Unit::Mebibytes, Target::AtMost(40.0));
        };
        measured(&["evict", "--all", "--yes"]);
        measured(&["sync"]);
    }
}

/// How often a `sync` asks about anything below the roots of the array, but for the roots and their markers.
fn calls_below_the_array(env: &TestEnv) -> Option<usize> {
    if !peers::is_there("strace") {
        return None;
    }
    let log = env.path("strace");
    let sync = env.command(&["sync", "--quiet"]);
    let mut strace = Command::new("strace");
    strace.args(["-f", "-yy", "-e", "trace=file,desc", "-o"]).arg(&log).arg(sync.get_program()).args(sync.get_args());
    strace.env_clear().envs(sync.get_envs().filter_map(|(name, value)| Some((name, value?))));
    assert!(strace.status().unwrap().success(), "strace");
    let is_below = |line: &&str| {
        let beyond = |mark: &str| {
            line.split(mark).skip(1).any(|rest| ![".plexcache-root", ".\""].iter().any(|own| rest.starts_with(own)))
        };
        ["disk1", "disk2"].iter().any(|disk| {
            beyond(&format!("/{disk}/media/"))
                || beyond(&format!("/{disk}/media>, \"")) && !line.contains("media>, \"\"")
        })
    };
    Some(std::fs::read_to_string(log).unwrap().lines().filter(is_below).count())
}

/// What only reads, with a short and a long history behind it.
pub fn long_history(table: &mut Table, scale: &Scale) {
    let worlds = [1000, scale.records].map(|records| {
        let world = World::plain();
        records::history(&world.env, records, 100);
        world.env.sync();
        world
    });
    let (short, long) = ("1,000 records", format!("{} records", scale.records));
    for (args, limit) in [
        (&["status"][..], Target::AtMost(1.2)),
        (&["history"], Target::None),
        (&["history", "1"], Target::None),
        (&["undo", "--dry-run"], Target::None),
    ] {
        let commands = worlds.each_ref().map(|world| world.env.command(args));
        let race = Race::run(&[short, &long], 2 * scale.rounds + 1, |index| measure::run(&commands[index]));
        let (ours, theirs) = (long.as_str(), short);
        for (what, pick, unit, target) in [
            ("", (|cost| cost.wall) as measure::Pick, Unit::Seconds, limit),
            (", CPU", |cost| cost.cpu, Unit::Seconds, Target::None),
            (", peak memory", |cost| cost.peak, Unit::Mebibytes, Target::None),
        ] {
            let work = format!("{}{what}, {long}", args.join(" "));
            table.compare(&race, &Comparison { work: &work, pick, unit, ours, theirs, target });
        }
    }
}

/// The program itself.
pub fn start(table: &mut Table, _: &Scale) {
    let mut version = Command::new(binary());
    version.arg("--version");
    let costs: Vec<Cost> = (0..51).map(|_| measure::run(&version)).collect();
    let wall = median(costs.iter().map(|cost| cost.wall));
    table.figure("plexcache --version", wall, Unit::Seconds, Target::AtMost(0.005));
    let here = binary();
    let target = here.parent().and_then(|release| release.parent()).unwrap();
    let fixed = target.join("x86_64-unknown-linux-musl/release/plexcache");
    let headers = |path| tool("sh", &["-c", "ldd \"$1\" 2>&1 || true", "sh", path]);
    let (name, path) = if fixed.exists() { ("static", fixed) } else { ("dynamic (make static was not run)", here) };
    let is_static = !headers(path.to_str().unwrap()).contains("=>");
    assert_eq!(name == "static", is_static, "{}", path.display());
    let size = std::fs::metadata(&path).unwrap().len() as f64 / f64::from(1 << 20);
    // 6 MB
    let limit = if is_static { Target::AtMost(5.72) } else { Target::None };
    table.figure(&format!("size of the program, {name}"), size, Unit::Mebibytes, limit);
}
