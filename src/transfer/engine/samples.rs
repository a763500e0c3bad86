//! Files for the tests of the copy engine. Contents are made up and differ in every block; what
//! needs a file system of a certain kind mounts one, as root.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::ops::ControlFlow;
use std::path::Path;

use super::outcome::Stop;
use crate::checksum::{Checksum, Hasher};

pub(super) fn new_file() -> File {
    tempfile::tempfile().unwrap()
}

pub(super) fn file_of(bytes: &[u8]) -> File {
    let mut file = new_file();
    file.write_all(bytes).unwrap();
    file.sync_all().unwrap();
    file
}

/// Bytes without a period that a block could hide.
pub(super) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let words = (0..length.div_ceil(8)).flat_map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state ^ (state >> 33)).to_le_bytes()
    });
    words.take(length).collect()
}

pub(super) fn content(file: &File) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut file = file;
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

pub(super) fn sum_of(bytes: &[u8]) -> Checksum {
    let mut hasher = Hasher::default();
    hasher.update(bytes);
    hasher.finish()
}

pub(super) fn never_stop(_: u64) -> ControlFlow<Stop> {
    ControlFlow::Continue(())
}

/// Runs `test` with the path of a fresh file system.
pub(super) fn on_mount(kind: &str, options: &str, test: impl FnOnce(&Path)) {
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(arguments[0]).args(&arguments[1..]).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let folder = tempfile::tempdir().unwrap();
    let (point, image) = (folder.path().join("mount"), folder.path().join("image"));
    let (point, image) = (point.to_str().unwrap(), image.to_str().unwrap());
    run(&["mkdir", point]);
    if kind == "tmpfs" {
        run(&["mount", "-t", kind, "-o", options, "none", point]);
    } else {
        run(&["truncate", "-s", "400M", image]);
        run(&[&format!("mkfs.{kind}"), "-q", image]);
        run(&["mount", "-o", options, image, point]);
    }
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(Path::new(point))));
    run(&["umount", point]);
    outcome.unwrap();
}
