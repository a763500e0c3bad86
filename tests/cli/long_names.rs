//! Paths and names as long as the kernel takes them: 4,096 bytes for a path with its end, 255 for a name.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{Dir, Mode, OFlags};

use crate::util::env::{Run, TestEnv, set_mtime};
use crate::util::fake_plex::Media;

const PLACEMENTS: [&str; 4] = ["copy", "hide", "move", "symlink"];

/// A media path of so many bytes: folders with names of 255 bytes, some of which are no ASCII.
fn long_path(length: usize) -> String {
    let folder = format!("{}{}/", "deep ".repeat(47), "é".repeat(10));
    assert_eq!(folder.len(), 256);
    let mut path = folder.repeat(length / 256 - 1);
    let rest = length - path.len();
    let part = rest / 3;
    for (name, length) in [("f", part), ("g", part)] {
        path.push_str(&name.repeat(length - 1));
        path.push('/');
    }
    path.push_str(&"n".repeat(rest - 2 * part - 4));
    path.push_str(".mkv");
    assert_eq!(path.len(), length);
    path
}

/// Makes a film at a media path by names of at most 255 bytes: the path from `/` may be too long.
fn film_below(env: &TestEnv, media: &str, size: usize) {
    let below = || -> std::io::Result<()> {
        fs::create_dir_all(env.array(media).parent().unwrap())?;
        fs::write(env.array(media), crate::util::env::contents(&env.array(media), size))
    };
    below().unwrap();
    set_mtime(&env.array(media), 1_600_000_000, 123_456_789);
    let part = Media::file(&format!("{}/{media}", crate::util::env::PLEX_ROOT), i64::try_from(size).unwrap());
    let key = env.plex.edit(|library| library.add_movie(env.movies, "Deep", 2020, &[part]));
    env.on_deck("owner", &key);
}

/// The longest media path with which every name that is made of it can be looked at from `/`.
fn longest(env: &TestEnv) -> usize {
    let root = env.path("cache/media").as_os_str().len().max(env.path("disk1/media").as_os_str().len());
    // The end of the path, and a sibling's name that is longer by `.plexcached`.
    4096 - 1 - root - 1 - ".plexcached".len()
}

#[test]
fn a_path_as_long_as_paths_can_be_is_cached_and_comes_back_as_it_was() {
    for placement in PLACEMENTS {
        let env = TestEnv::with_placement(placement);
        let media = long_path(longest(&env));
        assert!(env.array(&media).as_os_str().len() > 4070);
        film_below(&env, &media, 70_000);
        let before = env.snapshot("disk1/media");
        env.sync();
        assert_eq!(env.cached(), [media.as_str()], "{placement}");
        assert_eq!(env.shown(&media).as_ref(), Some(&before.entries[&media].contents), "{placement}");
        assert!(env.sync().stdout.contains("Nothing to do"), "{placement}");
        env.run(&["undo", "--yes"]).expect(0);
        assert_eq!(env.snapshot("disk1/media").without_markers(), before, "{placement}");
        env.run(&["undo", "3", "--yes"]).expect(0);
        assert_eq!(env.cached(), [media.as_str()], "{placement}");
        env.run(&["evict", "--all"]).expect(0);
        assert_eq!(env.snapshot("disk1/media").without_markers(), before, "{placement}");
        assert_eq!(env.snapshot("cache/media").without_markers().entries.len(), 0, "{placement}");
    }
}

/// A folder that is open, so that what is below it can be named by less than its whole path.
struct Below(OwnedFd);

impl Below {
    fn root(env: &TestEnv, root: &str) -> Self {
        Self(rustix::fs::open(env.path(root), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap())
    }

    fn make(&self, media: &str, contents: &[u8]) {
        for (at, _) in media.match_indices('/') {
            rustix::fs::mkdirat(&self.0, &media[..at], Mode::RWXU).unwrap();
        }
        let flags = OFlags::WRONLY | OFlags::CREATE;
        let mut file = File::from(rustix::fs::openat(&self.0, media, flags, Mode::RUSR | Mode::WUSR).unwrap());
        file.write_all(contents).unwrap();
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = rustix::fs::openat(&self.0, name, OFlags::RDONLY | OFlags::NOFOLLOW, Mode::empty())?;
        File::from(file).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// What is in the last folder of a path; nothing where there is no such folder.
    fn beside(&self, media: &str) -> Vec<String> {
        let folder = media.rsplit_once('/').unwrap().0;
        let Ok(folder) = rustix::fs::openat(&self.0, folder, OFlags::RDONLY, Mode::empty()) else { return Vec::new() };
        let names =
            Dir::read_from(folder).unwrap().map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned());
        let mut names: Vec<String> = names.filter(|name| name != "." && name != "..").collect();
        names.sort();
        names
    }
}

/// The file can be named from its root only. Where a placement cannot do that, it says so and does nothing.
#[test]
fn a_path_that_is_too_long_from_the_very_top_is_cached_whole_or_left_alone() {
    for placement in PLACEMENTS {
        for length in [4070, 4080, 4090, 4095] {
            let env = TestEnv::with_placement(placement);
            let media = long_path(length);
            let (array, cache) = (Below::root(&env, "disk1/media"), Below::root(&env, "cache/media"));
            let bytes = crate::util::env::contents(env.path("film").as_path(), 70_000);
            array.make(&media, &bytes);
            // What Plex calls it may be shorter.
            let plex = "/m";
            let part = Media::file(&format!("{plex}/{media}"), 70_000);
            let key = env.plex.edit(|library| library.add_movie(env.movies, "Deep", 2020, &[part]));
            env.on_deck("owner", &key);
            let run = |args: &[&str]| {
                let mut command = env.command(args);
                let config = env.config().replace("plex = \"/data/media\"", &format!("plex = \"{plex}\""));
                // The stand-in could not open such a path either.
                let config = config.replacen("[safety]\n", "[safety]\nverify_with_plex = false\n", 1);
                fs::write(env.path("config.toml"), config).unwrap();
                Run::of(&mut command)
            };
            let name = media.rsplit_once('/').unwrap().1;
            let sync = run(&["sync"]);
            let is_cached = cache.read(&media).is_ok_and(|copy| copy == bytes);
            println!("{placement} {length}: exit status {}, cached: {is_cached}", sync.status);
            let seen = format!("{placement} {length}: {sync:?}");
            assert_eq!(is_cached, sync.status == 0, "{seen}");
            if !is_cached {
                assert_eq!(sync.status, 3, "{seen}");
                assert!(sync.stdout.contains("too long") || sync.stderr.contains("too long"), "{seen}");
                assert_eq!(cache.beside(&media), Vec::<String>::new(), "{seen}");
                assert_eq!(array.beside(&media), [name], "{seen}");
            }
            let again = run(&["sync"]);
            assert_eq!(again.status, sync.status, "{seen} {again:?}");
            let evict = run(&["evict", "--all"]);
            assert_eq!(evict.status, 0, "{seen} {evict:?}");
            assert_eq!(array.read(&media).ok(), Some(bytes), "{seen} {evict:?}");
            assert_eq!(array.beside(&media), [name], "{seen} {evict:?}");
            assert_eq!(cache.beside(&media), Vec::<String>::new(), "{seen} {evict:?}");
        }
    }
}
