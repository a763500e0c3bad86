//! `init` on machines of three kinds, and taking over from PlexCache-D.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::util::env::{PLEX_ROOT, Run, TestEnv, Tree, binary, episode_path, file_at, movie_path, set_mtime};
use crate::util::fake_plex::{Library, Media, Request, SectionKind};

/// A token that must never be seen, the owner's in these worlds.
const SECRET: &str = "s3cret-0wner";

/// A machine with Plex on it and nothing of plexcache: its root is the world's folder.
struct Machine {
    env: TestEnv,
    film: String,
    episode: String,
}

impl Machine {
    /// Disks `disk1`, `disk2` and `cache`, with a film and an episode on the first.
    fn plain() -> Self {
        let env = TestEnv::new();
        env.plex.edit(|library| library.set_token("owner", SECRET));
        let (film, episode) = (movie_path("Dune", 2021), episode_path("Andor", 1, 1));
        let key = env.movie("Dune", 2021, 4000);
        env.on_deck("owner", &key);
        env.episode("Andor", 1, 1, 3000);
        fs::create_dir_all(env.path("proc/self")).unwrap();
        let machine = Self { env, film, episode };
        machine.mounts(&[("disk1", "xfs"), ("disk2", "xfs"), ("cache", "btrfs")]);
        machine
    }

    /// The same as Unraid has it: below `/mnt`, with user shares over it.
    fn unraid() -> Self {
        let machine = Self::plain();
        let path = |name: &str| machine.env.path(name);
        fs::create_dir_all(path("etc")).unwrap();
        fs::write(path("etc/unraid-version"), "version=\"7.1.4\"\n").unwrap();
        fs::create_dir_all(path("mnt/user/media")).unwrap();
        for disk in ["disk1", "disk2", "cache"] {
            symlink(path(disk), path("mnt").join(disk)).unwrap();
        }
        for folder in ["Movies", "TV"] {
            symlink(machine.env.array(folder), path("mnt/user/media").join(folder)).unwrap();
        }
        let on = |point| (point, "xfs");
        machine.mounts(&[on("mnt/disk1"), on("mnt/disk2"), ("mnt/cache", "btrfs"), ("mnt/user", "fuse.shfs")]);
        machine
    }

    fn mounts(&self, mounts: &[(&str, &str)]) {
        let line = |(point, kind): &(&str, &str)| {
            format!("40 1 8:1 / {} rw - {kind} /dev/{point} rw\n", self.env.path(point).display())
        };
        let table: String = mounts.iter().map(line).collect();
        fs::write(self.env.path("proc/self/mountinfo"), format!("22 0 254:0 / / rw - ext4 /dev/vda rw\n{table}"))
            .unwrap();
    }

    fn preferences(&self, folder: &str, machine_id: &str) -> PathBuf {
        let file = self.env.path(folder).join("Plex Media Server/Preferences.xml");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<Preferences FriendlyName=\"A &amp; B\" \
             ProcessedMachineIdentifier=\"{machine_id}\" PlexOnlineToken=\"{SECRET}\"/>\n"
        );
        fs::write(&file, text).unwrap();
        file
    }

    fn machine_id(&self) -> String {
        self.env.plex.edit(|library| library.machine_id.clone())
    }

    /// The binary on this machine, ready to run.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.env_clear().env("PATH", "/usr/bin:/bin").env("TZ", "UTC").env("LC_ALL", "C.UTF-8");
        command.env("PLEXCACHE_TEST_PAUSE_MS", "1").env("PLEXCACHE_TEST_SYSTEM", self.env.path(""));
        command.env("PLEXCACHE_SAFETY__ALLOW_SAME_DEVICE", "true").env("PLEXCACHE_SAFETY__MIN_FILE_AGE", "0");
        command.env("PLEXCACHE_LIMITS__MIN_FREE", "0").env("PLEXCACHE_STATE_DIR", self.env.path("state"));
        command.envs(self.env.endpoint_variables()).args(args).stdin(Stdio::null());
        command
    }

    /// Runs it, and sees to it that it tells no secret.
    #[track_caller]
    fn run(&self, args: &[&str]) -> Run {
        let run = Run::of(&mut self.command(args));
        assert!(!format!("{run:?}").contains("s3cret"), "{run:?}");
        run
    }

    /// `init` with the address of the stand-in.
    #[track_caller]
    fn init(&self, args: &[&str]) -> Run {
        self.run(&[&["init", "--no-input", "--url", &self.env.plex.url()], args].concat())
    }

    /// The configuration, parsed.
    fn config(&self, file: &str) -> toml::Table {
        fs::read_to_string(self.env.path(file)).unwrap().parse().unwrap()
    }

    /// What the only map says.
    fn map(&self, file: &str) -> (String, Vec<String>, String, Option<String>, String) {
        let config = self.config(file);
        let [map] = config["map"].as_array().unwrap().as_slice() else { panic!("{config:?}") };
        let root = self.env.path("").display().to_string();
        let text = |key: &str| map.get(key).map(|value| value.as_str().unwrap().replacen(&root, "", 1));
        let array = map["array"].as_array().unwrap();
        let array = array.iter().map(|path| path.as_str().unwrap().replacen(&root, "", 1)).collect();
        (text("plex").unwrap(), array, text("cache").unwrap(), text("merged"), text("placement").unwrap())
    }

    /// Everything on the disks, as far as it is anybody's.
    fn disks(&self) -> [Tree; 3] {
        ["disk1/media", "disk2/media", "cache/media"].map(|below| self.env.snapshot(below).without_markers())
    }
}

fn mode(path: PathBuf) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn on_plain_disks_init_writes_what_sync_works_with() {
    let machine = Machine::plain();
    let file = machine.preferences("var/lib/plexmediaserver/Library/Application Support", &machine.machine_id());
    let cache = machine.env.path("cache").display().to_string();
    machine
        .init(&["--preferences", file.to_str().unwrap(), "--cache", &cache, "--config", &at(&machine, "c/x.toml")])
        .expect(0);
    let (plex, array, cache, merged, placement) = machine.map("c/x.toml");
    assert_eq!(
        (plex.as_str(), cache.as_str(), merged, placement.as_str()),
        (PLEX_ROOT, "cache/media", None, "symlink")
    );
    assert_eq!(array, ["disk1/media"]);
    assert_eq!((mode(machine.env.path("c/x.toml")), mode(machine.env.path("c/token"))), (0o600, 0o600));
    assert_eq!(fs::read_to_string(machine.env.path("c/token")).unwrap().trim(), SECRET);
    assert!(!fs::read_to_string(machine.env.path("c/x.toml")).unwrap().contains(SECRET));
    machine.run(&["--config", &at(&machine, "c/x.toml"), "check"]).expect(0);
    let plan = machine.run(&["--config", &at(&machine, "c/x.toml"), "sync", "--dry-run", "--json"]).expect(0);
    assert_eq!(plan.planned(), [format!("cache {}", machine.film)]);
    machine.run(&["--config", &at(&machine, "c/x.toml"), "sync"]).expect(0);
    assert_eq!(machine.env.cached(), [machine.film.as_str()]);
    let link = fs::read_link(machine.env.array(&machine.film)).unwrap();
    assert_eq!(link, machine.env.cache(&machine.film));
}

#[test]
fn on_unraid_init_finds_token_shares_disks_and_pool_by_itself() {
    let machine = Machine::unraid();
    machine.preferences("mnt/user/appdata/binhex-plexpass", &machine.machine_id());
    machine.init(&[]).expect(0);
    let file = "boot/config/plugins/plexcache/config.toml";
    let (plex, array, cache, merged, placement) = machine.map(file);
    assert_eq!((plex.as_str(), cache.as_str(), placement.as_str()), (PLEX_ROOT, "mnt/cache/media", "copy"));
    assert_eq!(
        (array, merged.as_deref()),
        (vec!["mnt/disk1/media".into(), "mnt/disk2/media".into()], Some("mnt/user/media"))
    );
    assert_eq!(
        (mode(machine.env.path(file)), mode(machine.env.path("boot/config/plugins/plexcache/token"))),
        (0o600, 0o600)
    );
    // What outlives a reboot is on the pool.
    let state = machine.config(file)["state"]["dir"].as_str().unwrap().to_owned();
    assert_eq!(state, machine.env.path("mnt/cache/appdata/plexcache").to_str().unwrap());
    machine.run(&["check"]).expect(0);
    machine.run(&["sync"]).expect(0);
    assert_eq!(machine.env.cached(), [machine.film.as_str()]);
}

#[test]
fn the_pool_of_the_share_is_the_fast_disk_and_its_missing_folder_is_made_as_on_the_array() {
    let machine = Machine::unraid();
    fs::create_dir_all(machine.env.path("nvme")).unwrap();
    symlink(machine.env.path("nvme"), machine.env.path("mnt/nvme")).unwrap();
    machine.mounts(&[("mnt/disk1", "xfs"), ("mnt/cache", "xfs"), ("mnt/nvme", "zfs"), ("mnt/user", "fuse.shfs")]);
    fs::create_dir_all(machine.env.path("boot/config/shares")).unwrap();
    fs::write(machine.env.path("boot/config/shares/media.cfg"), "shareUseCache=\"yes\"\r\nshareCachePool=\"nvme\"\r\n")
        .unwrap();
    fs::set_permissions(machine.env.path("disk1/media"), fs::Permissions::from_mode(0o2775)).unwrap();
    machine.preferences("mnt/user/appdata/plex/Library/Application Support", &machine.machine_id());
    machine.init(&[]).expect(0);
    assert_eq!(machine.map("boot/config/plugins/plexcache/config.toml").2, "mnt/nvme/media");
    assert_eq!(fs::metadata(machine.env.path("nvme/media")).unwrap().permissions().mode() & 0o7777, 0o2775);
}

#[test]
fn a_configuration_that_is_there_is_replaced_only_when_told_so() {
    let machine = Machine::unraid();
    machine.preferences("mnt/user/appdata/plex/Library/Application Support", &machine.machine_id());
    let file = machine.env.path("boot/config/plugins/plexcache/config.toml");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "# mine\n").unwrap();
    let run = machine.init(&[]).expect(4);
    assert!(run.stderr.contains("--force"), "{}", run.stderr);
    assert_eq!(fs::read_to_string(&file).unwrap(), "# mine\n");
    assert_eq!(machine.env.plex.requests().len(), 0);
    // A token that is there is somebody's, too.
    fs::write(file.with_file_name("token"), "another\n").unwrap();
    fs::remove_file(&file).unwrap();
    let own = machine.preferences("elsewhere", &machine.machine_id());
    machine.init(&["--preferences", own.to_str().unwrap()]).expect(4);
    assert_eq!(fs::read_to_string(file.with_file_name("token")).unwrap(), "another\n");
    machine.init(&["--preferences", own.to_str().unwrap(), "--force"]).expect(0);
    assert_eq!(fs::read_to_string(file.with_file_name("token")).unwrap().trim(), SECRET);
}

#[test]
fn a_dry_run_shows_the_file_and_writes_nothing() {
    let machine = Machine::unraid();
    machine.preferences("mnt/user/appdata/plex/Library/Application Support", &machine.machine_id());
    let before = Tree::of(&machine.env.path(""));
    let run = machine.init(&["--dry-run"]).expect(0);
    assert!(run.stdout.contains("[[map]]") && run.stdout.contains("mnt/user/media"), "{}", run.stdout);
    assert_eq!(
        machine.init(&["-n", "--json"]).expect(0).json_of("configuration")["text"].as_str().unwrap().trim(),
        run.stdout.trim()
    );
    assert_eq!(Tree::of(&machine.env.path("")), before);
}

#[test]
fn the_token_is_not_sent_to_another_server_than_its_own() {
    let machine = Machine::unraid();
    machine
        .preferences("mnt/user/appdata/plex/Library/Application Support", "5ca1ab1e0000000000000000000000000000ffff");
    let run = machine.init(&[]).expect(4);
    assert!(run.stderr.contains("this is the Plex server"), "{}", run.stderr);
    assert!(machine.env.plex.requests().iter().all(|request| request.header("X-Plex-Token").is_none()));
}

#[test]
fn a_code_that_somebody_types_gives_the_token_and_one_that_nobody_types_nothing() {
    let machine = Machine::unraid();
    let config = at(&machine, "c/config.toml");
    let init = |machine: &Machine| {
        let (url, state) = (machine.env.plex.url(), at(machine, "state"));
        let mut command = machine.command(&["init", "--url", &url, "--link", "--no-input", "--config", &config]);
        Run::of(command.args(["--state-dir", &state]).envs(machine.env.endpoint_variables()))
    };
    machine.env.plex.edit(Library::expire_pin);
    let run = init(&machine).expect(77);
    assert!(run.stderr.contains("AB3D") && !machine.env.path("c").exists(), "{}", run.stderr);
    machine.env.plex.edit(|library| library.link_pin(3, SECRET));
    let run = init(&machine).expect(0);
    assert!(run.stderr.contains("plex.tv/link") && run.stderr.contains("AB3D"), "{}", run.stderr);
    assert!(!format!("{run:?}").contains(SECRET));
    assert_eq!(fs::read_to_string(machine.env.path("c/token")).unwrap().trim(), SECRET);
    let requests = machine.env.plex.outside_requests();
    let is_look = |request: &&Request| request.path == "/plex.tv/api/v2/pins/4711";
    assert_eq!(requests.iter().filter(is_look).count(), 5);
    // An installation that plex.tv knows keeps its name; before, each attempt has one of its own.
    let names = |machine: &Machine| {
        let requests = machine.env.plex.outside_requests();
        requests
            .iter()
            .map(|request| request.plex_value("X-Plex-Client-Identifier").unwrap().to_owned())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(names(&machine).len(), 2);
    machine.env.plex.clear_requests();
    fs::create_dir_all(machine.env.path("state")).unwrap();
    fs::write(machine.env.path("state/client-id"), "this-one\n").unwrap();
    fs::remove_dir_all(machine.env.path("c")).unwrap();
    machine.env.plex.edit(|library| library.link_pin(0, SECRET));
    init(&machine).expect(0);
    assert_eq!(names(&machine), BTreeSet::from(["this-one".to_owned()]));
}

#[test]
fn what_is_not_clear_is_said_with_the_option_that_says_it() {
    let machine = Machine::plain();
    let config = at(&machine, "c/config.toml");
    let run = machine.init(&["--config", &config]).expect(77);
    assert!(run.stderr.contains("--token-file") && run.stderr.contains("--link"), "{}", run.stderr);
    let token = at(&machine, "own-token");
    fs::write(&token, SECRET).unwrap();
    let run = machine.init(&["--token-file", &token, "--config", &config]).expect(78);
    assert!(run.stderr.contains("--cache") && run.stderr.contains("fast"), "{}", run.stderr);
    // Somebody else's film of that name is no proof.
    fs::write(machine.env.array(&machine.film), "short").unwrap();
    let cache = at(&machine, "cache");
    let (movies, shows) = (at(&machine, "disk1/media/Movies"), at(&machine, "disk1/media/TV"));
    let (movies, shows) = (format!("{PLEX_ROOT}/Movies={movies}"), format!("{PLEX_ROOT}/TV={shows}"));
    let options = ["--token-file", &token, "--config", &config, "--cache", &cache, "--map", &movies, "--map", &shows];
    let run = machine.init(&options).expect(3);
    assert!(run.stderr.contains("Movies") && run.stderr.contains("size"), "{}", run.stderr);
    assert_eq!(machine.map("c/config.toml").0, format!("{PLEX_ROOT}/TV"));
    assert_eq!(machine.config("c/config.toml")["plex"]["token_file"].as_str(), Some(token.as_str()));
    assert!(!machine.env.path("c/token").exists());
}

#[test]
fn on_a_share_that_is_all_on_one_pool_there_is_nothing_to_cache() {
    let machine = Machine::unraid();
    machine.preferences("mnt/user/appdata/plex/Library/Application Support", &machine.machine_id());
    fs::remove_dir_all(machine.env.path("mnt/user/media")).unwrap();
    symlink(machine.env.path("disk1/media"), machine.env.path("mnt/user/media")).unwrap();
    let here = format!("{PLEX_ROOT}={}", machine.env.path("mnt/user/media").display());
    let run = machine.init(&["--map", &here]).expect(78);
    assert!(run.stderr.contains("all on one pool"), "{}", run.stderr);
}

/// A person at a terminal, on which the binary asks.
struct Person {
    child: Child,
    terminal: File,
    shown: String,
    _over: mpsc::Sender<()>,
}

impl Person {
    fn sit_down(command: &mut Command) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let terminal = openpt(flags).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap();
        let tty = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        command.stdin(tty.try_clone().unwrap()).stdout(tty.try_clone().unwrap()).stderr(tty);
        let child = command.spawn().unwrap();
        // Should it wait for something else than the test does, both would wait for ever.
        let pid = Pid::from_child(&child);
        let (over, is_over) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            if is_over.recv_timeout(Duration::from_secs(60)) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _gone_is_well = rustix::process::kill_process(pid, Signal::KILL);
            }
        });
        // Or this process would hold the other end open for ever.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { child, terminal: File::from(terminal), shown: String::new(), _over: over }
    }

    /// Waits until this is shown, and types a line.
    #[track_caller]
    fn answer(&mut self, question: &str, line: &str) {
        self.wait_for(question);
        self.terminal.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    #[track_caller]
    fn wait_for(&mut self, text: &str) {
        let mut buffer = [0; 4096];
        while !self.shown.contains(text) {
            match self.terminal.read(&mut buffer) {
                Ok(length @ 1..) => self.shown.push_str(&String::from_utf8_lossy(&buffer[..length])),
                _ => panic!("{text:?} never came:\n{}", self.shown),
            }
        }
        self.shown = self.shown.split_off(self.shown.find(text).unwrap() + text.len());
    }

    #[track_caller]
    fn leaves(mut self, status: i32) {
        // The end of a terminal is an error on Linux, once nobody has the other side any more.
        let mut rest = Vec::new();
        let _at_its_end = self.terminal.read_to_end(&mut rest);
        let status_is = self.child.wait().unwrap();
        let status_is = status_is.code().unwrap_or_else(|| 128 + status_is.signal().unwrap());
        assert_eq!(status_is, status, "{}{}", self.shown, String::from_utf8_lossy(&rest));
    }
}

#[test]
fn at_a_terminal_every_question_has_a_default_and_nothing_is_written_before_the_last_one() {
    let machine = Machine::plain();
    machine.preferences("var/lib/plexmediaserver/Library/Application Support", &machine.machine_id());
    let (config, fast) = (at(&machine, "c/config.toml"), at(&machine, "cache"));
    let before = Tree::of(&machine.env.path(""));
    let sit = || Person::sit_down(machine.command(&["init", "--config", &config]).env("TERM", "dumb"));
    let up_to_the_last_question = |person: &mut Person| {
        person.answer("[http://127.0.0.1:32400]", &machine.env.plex.url());
        person.answer("Preferences.xml? [Y/n]", "");
        person.answer("The fast disk", &fast);
        person.wait_for("symlink");
        person.wait_for("Write ");
    };
    // Ctrl-C at any question, and a no at the last one.
    let mut person = sit();
    person.wait_for("[http://127.0.0.1:32400]");
    rustix::process::kill_process(Pid::from_child(&person.child), Signal::INT).unwrap();
    person.leaves(130);
    let mut person = sit();
    up_to_the_last_question(&mut person);
    rustix::process::kill_process(Pid::from_child(&person.child), Signal::INT).unwrap();
    person.leaves(130);
    let mut person = sit();
    up_to_the_last_question(&mut person);
    person.answer("[Y/n]", "n");
    person.leaves(0);
    assert_eq!(Tree::of(&machine.env.path("")), before);
    let mut person = sit();
    up_to_the_last_question(&mut person);
    person.answer("[Y/n]", "");
    person.leaves(0);
    assert_eq!(machine.map("c/config.toml").2, "cache/media");
    // And now there is one.
    let mut person = sit();
    person.answer("Replace it? [y/N]", "");
    person.leaves(4);
}

#[test]
fn an_answer_that_cannot_be_is_told_why_and_asked_for_again() {
    let machine = Machine::plain();
    machine.preferences("var/lib/plexmediaserver/Library/Application Support", &machine.machine_id());
    machine.env.plex.edit(|library| {
        let section = library.add_section("Far films", SectionKind::Movie, &["/far/Films"]);
        library.add_movie(section, "Far", 2022, &[Media::file("/far/Films/Far.mkv", 5000)]);
    });
    let config = at(&machine, "c/config.toml");
    let mut person = Person::sit_down(machine.command(&["init", "--config", &config]).env("TERM", "dumb"));
    person.answer("[http://127.0.0.1:32400]", &machine.env.plex.url());
    person.answer("Preferences.xml? [Y/n]", "");
    person.wait_for("Far films: /far/Films");
    person.answer("Where is Plex's /far/Films", "/no/such/folder");
    person.wait_for("/no/such/folder is not there");
    person.answer("Where is Plex's /far/Films", "");
    person.answer("The fast disk", "/no/such/disk");
    person.wait_for("/no/such/disk is not there");
    person.answer("The fast disk", &at(&machine, "cache"));
    person.wait_for("no map for Plex's /far/Films");
    person.answer("[Y/n]", "");
    person.leaves(3);
    assert_eq!(machine.map("c/config.toml").2, "cache/media");
}

/// The absolute path of a name in the world.
fn at(machine: &Machine, name: &str) -> String {
    machine.env.path(name).to_str().unwrap().to_owned()
}

/// A machine on which PlexCache-D has cached the film, a subtitle of it and the episode, and what the disks
/// held before it did.
fn with_plexcache_d() -> (Machine, [Tree; 3]) {
    let machine = Machine::unraid();
    machine.env.plex.edit(|library| library.add_user("ben", "s3cret-ben"));
    let subtitle = machine.film.replace(".mkv", ".en.srt");
    machine.env.file(&subtitle, 300);
    let before = machine.disks();
    let mut list = String::new();
    for media in [&machine.film, &subtitle, &machine.episode] {
        hide(&machine, media);
        writeln!(list, "{}", machine.env.path("mnt/cache/media").join(media).display()).unwrap();
    }
    let settings = serde_json::json!({
        "PLEX_URL": format!("{}/", machine.env.plex.url()), "PLEX_TOKEN": SECRET, "number_episodes": 7,
        "days_to_monitor": 99, "valid_sections": [1, 2], "watchlist_toggle": true, "watchlist_episodes": 2,
        "users_toggle": true, "users": [{"title": "ben", "token": "s3cret-ben", "skip_ondeck": false}],
        "watched_move": true, "cache_dir": at(&machine, "mnt/cache/media/"), "cache_limit": "", "min_free_space": "5%",
        "plexcache_quota": "200GB", "cache_eviction_mode": "none", "create_plexcached_backups": true,
        "max_concurrent_moves_cache": 5, "max_concurrent_moves_array": 2, "notification_type": "system",
        "webhook_url": "https://example.org/s3cret-hook",
        "path_mappings": [{"name": "all", "plex_path": "/data/media/", "real_path": at(&machine, "mnt/user/media/"),
            "cache_path": "/container/media/", "host_cache_path": at(&machine, "mnt/cache/media/"), "cacheable": true}]
    });
    fs::create_dir_all(machine.env.path("pcd")).unwrap();
    fs::write(machine.env.path("pcd/plexcache_settings.json"), settings.to_string()).unwrap();
    fs::write(machine.env.path("pcd/plexcache_cached_files.txt"), list).unwrap();
    (machine, before)
}

/// Caches a file as PlexCache-D does: a copy with the same times, and the original out of sight.
fn hide(machine: &Machine, media: &str) {
    let (array, cache) = (machine.env.array(media), machine.env.cache(media));
    fs::create_dir_all(cache.parent().unwrap()).unwrap();
    fs::copy(&array, &cache).unwrap();
    set_mtime(&cache, 1_600_000_000, 123_456_789);
    fs::rename(&array, kept(&array)).unwrap();
}

fn kept(array: &std::path::Path) -> PathBuf {
    PathBuf::from(format!("{}.plexcached", array.display()))
}

fn import(machine: &Machine, more: &[&str]) -> Run {
    let file = at(machine, "pcd/plexcache_settings.json");
    machine.run(&[&["init", "--no-input", "--import", &file], more].concat())
}

#[test]
fn settings_of_plexcache_d_are_taken_over_and_the_others_are_listed() {
    let (machine, _) = with_plexcache_d();
    let run = import(&machine, &[]).expect(0);
    for key in ["webhook_url", "max_concurrent_moves_cache", "notification_type"] {
        assert!(run.stderr.contains(&format!("not taken over: {key}")), "{key}: {}", run.stderr);
    }
    let file = "boot/config/plugins/plexcache/config.toml";
    let config = machine.config(file);
    assert_eq!(config["select"]["next_episodes"].as_integer(), Some(7));
    assert_eq!(config["select"]["on_deck_max_age"].as_str(), Some("99d"));
    assert_eq!(config["limits"]["max_size"].as_str(), Some("200GiB"));
    assert_eq!(config["limits"]["min_free"].as_str(), Some("5%"));
    assert_eq!(config["evict"]["make_room"].as_bool(), Some(false));
    assert_eq!(config["users"]["tokens"]["ben"].as_str(), Some("s3cret-ben"));
    let (plex, array, cache, merged, placement) = machine.map(file);
    assert_eq!((plex.as_str(), array.len(), cache.as_str()), (PLEX_ROOT, 2, "mnt/cache/media"));
    assert_eq!((merged.as_deref(), placement.as_str()), (Some("mnt/user/media"), "hide"));
    assert_eq!(mode(machine.env.path(file)), 0o600);
}

#[test]
fn what_plexcache_d_cached_is_taken_over_untouched_and_evict_brings_the_library_back() {
    let (machine, before) = with_plexcache_d();
    let hidden = machine.disks();
    let run = import(&machine, &["--json"]).expect(0);
    assert_eq!(machine.disks(), hidden);
    let summary = run.json_of("summary");
    assert_eq!((summary["cached"]["files"].as_u64(), summary["outcome"].as_str()), (Some(3), Some("ok")), "{summary}");
    let status = machine.run(&["status", "--json"]).expect(0).json_of("status");
    let units: Vec<&str> =
        status["files"].as_array().unwrap().iter().map(|file| file["unit"].as_str().unwrap()).collect();
    // The subtitle belongs to its film.
    assert_eq!(units, [machine.film.as_str(), machine.film.as_str(), machine.episode.as_str()]);
    // Wanted as they are, there is nothing to do.
    machine.run(&["sync", "--dry-run", "--exit-code", "--no-evict"]).expect(0);
    // A second time there is nothing to take over.
    assert_eq!(machine.run(&["init", "--adopt", "--json"]).expect(0).planned(), Vec::<String>::new());
    machine.run(&["evict", "--all"]).expect(0);
    let after = machine.disks().map(Tree::without_folder_times);
    assert_eq!(after[..2], before.map(Tree::without_folder_times)[..2]);
    assert_eq!(machine.env.cached(), Vec::<String>::new());
}

#[test]
fn undoing_the_import_brings_the_library_back_and_redoing_it_hides_it_again() {
    let (machine, before) = with_plexcache_d();
    import(&machine, &[]).expect(0);
    let hidden = machine.disks();
    machine.run(&["undo", "--yes"]).expect(0);
    let after = machine.disks().map(Tree::without_folder_times);
    assert_eq!(after[..2], before.map(Tree::without_folder_times)[..2]);
    assert_eq!(machine.env.cached(), Vec::<String>::new());
    machine.run(&["undo", "2", "--yes"]).expect(0);
    assert_eq!(machine.disks()[..2].to_vec(), hidden[..2].to_vec());
    assert_eq!(machine.env.cached().len(), 3);
}

#[test]
fn a_dry_run_of_the_import_shows_both_and_changes_nothing() {
    let (machine, _) = with_plexcache_d();
    let before = Tree::of(&machine.env.path(""));
    let run = import(&machine, &["--dry-run", "--json"]).expect(0);
    assert_eq!(run.planned().len(), 3);
    assert!(run.json_of("configuration")["text"].as_str().unwrap().contains("placement = \"hide\""));
    let run = import(&machine, &["--dry-run"]).expect(0);
    assert!(run.stdout.contains("take over 3 files"), "{}", run.stdout);
    assert_eq!(Tree::of(&machine.env.path("")), before);
}

#[test]
fn a_pair_that_is_in_doubt_is_left_alone_and_listed() {
    let (machine, _) = with_plexcache_d();
    let doubtful = |name: &str| {
        let media = format!("Movies/{name}/{name}.mkv");
        machine.env.file(&media, 500);
        hide(&machine, &media);
        media
    };
    let both = doubtful("Both");
    fs::write(machine.env.array(&both), "another").unwrap();
    let size = doubtful("Size");
    fs::write(machine.env.cache(&size), "shorter").unwrap();
    let gone = doubtful("Gone");
    fs::remove_file(machine.env.cache(&gone)).unwrap();
    let link = doubtful("Link");
    symlink("/nowhere", machine.env.array(&link)).unwrap();
    let twice = doubtful("Twice");
    file_at(kept(&machine.env.path("disk2/media").join(&twice)), 500);
    let other = doubtful("Other");
    file_at(machine.env.path("disk2/media").join(&other), 500);
    let folder = doubtful("Folder");
    fs::remove_file(kept(&machine.env.array(&folder))).unwrap();
    fs::create_dir(kept(&machine.env.array(&folder))).unwrap();
    // The same size and times, and other contents: only reading both tells.
    let changed = doubtful("Changed");
    fs::write(machine.env.cache(&changed), vec![7; 500]).unwrap();
    set_mtime(&machine.env.cache(&changed), 1_600_000_000, 123_456_789);
    // One that PlexCache-D keeps without a backup, and that somebody else has, too.
    let bare = doubtful("Bare");
    fs::remove_file(kept(&machine.env.array(&bare))).unwrap();
    fs::hard_link(machine.env.cache(&bare), machine.env.cache("Movies/seeding.mkv")).unwrap();
    // One that is on both without a backup: which of them it means to keep is not known.
    let twin = doubtful("Twin");
    fs::rename(kept(&machine.env.array(&twin)), machine.env.array(&twin)).unwrap();
    let list = machine.env.path("pcd/plexcache_cached_files.txt");
    let mut lines = fs::read_to_string(&list).unwrap();
    for media in [&bare, &twin] {
        writeln!(lines, "{}", machine.env.path("mnt/cache/media").join(media).display()).unwrap();
    }
    fs::write(&list, lines).unwrap();
    let before = machine.disks();

    let run = import(&machine, &["--json"]).expect(3);
    let left = run.why_left();
    for media in [&both, &size, &gone, &link, &twice, &other, &changed] {
        assert_eq!(left.get(media).map(String::as_str), Some("conflict"), "{media} in {left:?}");
    }
    for media in [&bare, &twin] {
        assert_eq!(left.get(media).map(String::as_str), Some("not_ours"), "{media} in {left:?}");
    }
    assert!(!left.contains_key(&folder) && left.len() == 9, "{left:?}");
    assert_eq!(run.json_of("summary")["cached"]["files"].as_u64(), Some(3));
    assert_eq!(machine.disks(), before);
    // Nothing of it is open: the next run finds the same, and nothing to settle.
    let again = machine.run(&["init", "--adopt", "--json"]).expect(3);
    assert!(!again.stdout.contains("settled") && !again.stderr.contains("settled"), "{again:?}");
    assert_eq!(machine.disks(), before);
    machine.run(&["evict", "--all"]).expect(0);
    let after = machine.disks();
    for media in [&both, &size, &gone, &link, &twice, &other, &folder, &changed, &bare, &twin] {
        let kept = format!("{media}.plexcached");
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(before.entries.get(media), after.entries.get(media), "{media}");
            assert_eq!(before.entries.get(&kept), after.entries.get(&kept), "{kept}");
        }
    }
}

#[test]
fn what_plexcache_d_keeps_without_a_backup_is_taken_over_as_moved() {
    let (machine, _) = with_plexcache_d();
    let media = "Movies/Alone/Alone.mkv";
    let contents = fs::read(file_at(machine.env.cache(media), 5000)).unwrap();
    set_mtime(&machine.env.cache(media), 1_600_000_000, 123_456_789);
    let listed = |media: &str| format!("{}\n", machine.env.path("mnt/cache/media").join(media).display());
    let list = machine.env.path("pcd/plexcache_cached_files.txt");
    let lines = fs::read_to_string(&list).unwrap() + &listed(media) + &listed("Movies/Gone/Gone.mkv");
    fs::write(&list, lines).unwrap();
    let before = machine.disks();
    let run = import(&machine, &["--json"]).expect(0);
    let plan = run.json_of("plan");
    let alone = plan["actions"].as_array().unwrap().iter().find(|action| action["path"] == media).unwrap();
    assert_eq!((alone["placement"].as_str(), alone["size"].as_u64()), (Some("move"), Some(5000)));
    assert_eq!(run.json_of("summary")["cached"]["files"].as_u64(), Some(4));
    assert_eq!(machine.disks(), before, "nothing is touched");

    // As if it had been killed while it read the file: nothing is known of it, and nothing was done.
    let history = machine.env.path("state/history.jsonl");
    let text = fs::read_to_string(&history).unwrap();
    let is_intent = |line: &&str| line.contains("\"intent\"") && line.contains(media);
    let end = text.lines().take_while(|line| !is_intent(line)).map(|line| line.len() + 1).sum::<usize>();
    let end = end + text[end..].find('\n').unwrap() + 1;
    fs::write(&history, &text[..end]).unwrap();
    fs::remove_file(machine.env.path("state/index.json")).unwrap();
    machine.run(&["init", "--adopt"]).expect(0);
    assert_eq!(machine.disks(), before);

    fs::write(&history, &text).unwrap();
    fs::remove_file(machine.env.path("state/index.json")).unwrap();
    machine.run(&["evict", "--all"]).expect(0);
    assert!(!machine.env.cache(media).exists());
    let disks = [machine.env.array(media), machine.env.path("disk2/media").join(media)];
    let [back] = &disks.iter().filter(|path| path.exists()).collect::<Vec<_>>()[..] else { panic!("{disks:?}") };
    assert_eq!(fs::read(back).unwrap(), contents);
    let time = fs::metadata(back).unwrap().modified().unwrap();
    assert_eq!(time, std::time::UNIX_EPOCH + Duration::new(1_600_000_000, 123_456_789));
}

#[test]
fn links_that_plexcache_d_made_are_taken_over_as_links() {
    let (machine, before) = with_plexcache_d();
    for media in [&machine.film, &machine.episode] {
        symlink(machine.env.path("mnt/cache/media").join(media), machine.env.array(media)).unwrap();
    }
    let linked = machine.disks();
    let run = import(&machine, &["--json"]).expect(0);
    let placements: Vec<_> =
        run.json_of("plan")["actions"].as_array().unwrap().iter().map(|a| a["placement"].clone()).collect();
    assert_eq!(placements, ["hide", "symlink", "symlink"]);
    assert_eq!(machine.disks(), linked);
    machine.run(&["evict", "--all"]).expect(0);
    assert_eq!(machine.disks().map(Tree::without_folder_times)[..2], before.map(Tree::without_folder_times)[..2]);
}

#[test]
fn a_take_over_that_was_cut_short_touches_nothing_when_it_is_settled() {
    let (machine, _) = with_plexcache_d();
    import(&machine, &[]).expect(0);
    let hidden = machine.disks();
    let history = machine.env.path("state/history.jsonl");
    let text = fs::read_to_string(&history).unwrap();
    // As if it had been killed after the first intent, or after what it published.
    for last in ["\"intent\"", "\"published\""] {
        let end = text.find(last).unwrap();
        let end = end + text[end..].find('\n').unwrap() + 1;
        fs::write(&history, &text[..end]).unwrap();
        fs::remove_file(machine.env.path("state/index.json")).unwrap();
        let run = machine.run(&["init", "--adopt", "--json"]).expect(0);
        assert!(run.stdout.contains("settled") || run.stderr.contains("settled"), "{run:?}");
        assert_eq!(machine.disks(), hidden, "{last}");
        let status = machine.run(&["status", "--json"]).expect(0).json_of("status");
        assert_eq!(status["files"].as_array().unwrap().len(), 3, "{last}");
    }
}

#[test]
fn without_settings_of_plexcache_d_nothing_is_imported() {
    let (machine, _) = with_plexcache_d();
    for (text, why) in
        [("{\"PLEX_TOKEN\": \"s3cret", "JSON"), ("[]", "object"), ("{\"a\": \"s3cret\"}", "none of its keys")]
    {
        fs::write(machine.env.path("pcd/plexcache_settings.json"), text).unwrap();
        let run = import(&machine, &[]).expect(78);
        assert!(run.stderr.contains(why), "{}", run.stderr);
    }
    assert!(!machine.env.path("boot").exists());
}

#[test]
fn a_library_of_which_plex_has_no_film_yet_is_where_its_neighbour_is() {
    let machine = Machine::unraid();
    machine.preferences("mnt/user/appdata/plex/Library/Application Support", &machine.machine_id());
    machine.env.plex.edit(|library| {
        library.add_section("Concerts", SectionKind::Movie, &[&format!("{PLEX_ROOT}/Concerts")]);
    });
    // There is no such folder, so nothing is guessed.
    machine.init(&["--dry-run"]).expect(0);
    fs::create_dir(machine.env.path("mnt/user/media/Concerts")).unwrap();
    let run = machine.init(&[]).expect(0);
    assert!(!run.stderr.contains("no map"), "{}", run.stderr);
    assert_eq!(machine.map("boot/config/plugins/plexcache/config.toml").0, PLEX_ROOT);
}

#[test]
fn a_library_in_the_folder_of_another_needs_no_map_of_its_own() {
    let machine = Machine::plain();
    let kids = "Movies/Kids/Up (2009)/Up (2009).mkv";
    machine.env.file(kids, 900);
    machine.env.plex.edit(|library| {
        let section = library.add_section("Kids", SectionKind::Movie, &[&format!("{PLEX_ROOT}/Movies/Kids")]);
        let file = Media::file(&format!("{PLEX_ROOT}/{kids}"), 900);
        library.add_movie(section, "Up", 2009, &[file]);
    });
    let (token, config, cache) = (at(&machine, "own"), at(&machine, "c/config.toml"), at(&machine, "cache"));
    fs::write(&token, SECRET).unwrap();
    machine.init(&["--token-file", &token, "--config", &config, "--cache", &cache]).expect(0);
    assert_eq!(machine.map("c/config.toml").0, PLEX_ROOT);
}
