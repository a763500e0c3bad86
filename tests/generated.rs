//! The manual pages and completions in man/ and completions/ are what the command line says they are.
//!
//! `UPDATE=1 cargo test --test generated` writes them anew.
#![allow(clippy::unwrap_used, reason = "the helpers of a test fail as it does, by a panic")]
#![allow(clippy::disallowed_methods, reason = "with UPDATE=1 the test writes the project's own files")]

use std::fs;
use std::io::Write;
use std::path::Path;

use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use plexcache::{cli, exit};

/// Compares a file of the project with what it should be, or writes it.
#[track_caller]
fn check(name: &str, text: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os("UPDATE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        return;
    }
    let found = fs::read(&path).unwrap_or_default();
    assert!(found == text, "{name} is out of date; run: make docs");
}

/// Every visible command: its name in full, such as `plexcache sync`, and itself.
fn commands() -> Vec<(String, clap::Command)> {
    let mut root = cli::command().disable_help_subcommand(true);
    root.build();
    let mut commands: Vec<_> =
        root.get_subcommands().map(|command| (format!("plexcache-{}", command.get_name()), command.clone())).collect();
    commands.insert(0, ("plexcache".to_owned(), root));
    commands
}

/// The sections that every page ends with; the first page has the exit statuses too.
fn ending(name: &str) -> Vec<u8> {
    let mut text = Vec::new();
    if name == "plexcache" {
        let mut roff = Roff::new();
        roff.control("SH", ["EXIT STATUS"]);
        for (status, meaning) in exit::TABLE {
            roff.control("TP", ["6"]);
            roff.text([bold(status.code().to_string())]);
            roff.text([roman(*meaning)]);
        }
        roff.control("SH", ["FILES"]);
        for (file, meaning) in [
            ("/etc/plexcache/config.toml", "the configuration; see plexcache.toml(5) for where else it is looked for"),
            ("/var/lib/plexcache/history.jsonl", "everything that was ever done, one JSON object a line"),
            ("ROOT/.plexcache-root", "the marker by which a disk is known again"),
        ] {
            roff.control("TP", []);
            roff.text([bold(file)]);
            roff.text([roman(meaning)]);
        }
        roff.to_writer(&mut text).unwrap();
    }
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]);
    let others = commands().into_iter().map(|(other, _)| other).filter(|other| other != name);
    let pages: Vec<String> = others
        .map(|other| format!("{other}(1)"))
        .chain(["plexcache.toml(5)".to_owned(), "plexcache-safety(7)".to_owned()])
        .collect();
    roff.text([roman(pages.join(", "))]);
    roff.to_writer(&mut text).unwrap();
    text
}

#[test]
fn the_manual_pages_are_up_to_date() {
    for (name, command) in commands() {
        let man = Man::new(command.display_name(&name)).title(name.to_uppercase()).manual("plexcache").date("");
        let mut page = Vec::new();
        man.render_title(&mut page).unwrap();
        man.render_name_section(&mut page).unwrap();
        man.render_synopsis_section(&mut page).unwrap();
        man.render_description_section(&mut page).unwrap();
        man.render_options_section(&mut page).unwrap();
        if name == "plexcache" {
            man.render_subcommands_section(&mut page).unwrap();
        }
        page.write_all(&ending(&name)).unwrap();
        check(&format!("man/{name}.1"), &page);
    }
}

#[test]
fn the_completions_are_up_to_date() {
    for (shell, file) in [(Shell::Bash, "plexcache.bash"), (Shell::Zsh, "_plexcache"), (Shell::Fish, "plexcache.fish")]
    {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut cli::command(), "plexcache", &mut text);
        check(&format!("completions/{file}"), &text);
    }
}
