//! What must hold of any text in place of a configuration.
//!
//! Owns the check that the properties here and the fuzzer share: nothing panics, a text loads or is
//! refused by a message that names the file, and no message shows the value of a token. Only built
//! for tests and the fuzzer.

use camino::Utf8Path;

use super::{Config, Environment, parse};

/// Reads `text` as a configuration.
pub(crate) fn check(text: &str) {
    drop(read(text));
}

/// The configuration, or the message and the hint.
fn read(text: &str) -> Result<Config, String> {
    let env = Environment::new([], false, false);
    parse(Utf8Path::new("c.toml"), text, &env).map_err(|error| {
        let message = error.to_string();
        assert!(message.starts_with("c.toml:"), "{message}");
        format!("{message} {}", error.hint().unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXAMPLE: &str = include_str!("../../examples/config.toml");

    /// Lines that a configuration may have, and some that it may not.
    fn line() -> impl Strategy<Value = String> {
        let key = proptest::sample::select(&[
            "version",
            "url",
            "timeout",
            "ca_file",
            "machine_id",
            "include",
            "libraries",
            "exclude",
            "pin",
            "rss",
            "next_episodes",
            "on_deck_max_age",
            "versions",
            "plex",
            "array",
            "cache",
            "placement",
            "max_size",
            "min_free",
            "watched_after",
            "bwlimit",
            "jobs",
            "refuse_while",
            "dir",
            "frobnicate",
            "\"\"",
            "'a.b'",
            "é",
        ]);
        let value = prop_oneof![
            any::<i64>().prop_map(|number| number.to_string()),
            proptest::sample::select(&[
                "true",
                "\"off\"",
                "\"http://a\"",
                "\"/a/..\"",
                "\"/a\"",
                "[]",
                "[\"*\", \"[\"]",
                "{}",
                "nan",
                "-inf",
                "1e400",
                "\"99999999999999999999GB\"",
                "\"100.0000000001%\"",
                "\"9999999999w\"",
                "\"0.1é\"",
                "\"\\u0000\"",
                "1979-05-27",
                "[[[[1]]]]",
                "\"\"\"\n\"\"\"",
                "\"é",
                "0x",
                "\"{a,{b\"",
            ])
            .prop_map(str::to_owned),
            "\"[^\"\\\\]{0,10}\"",
        ];
        prop_oneof![
            3 => (key, value).prop_map(|(key, value)| format!("{key} = {value}")),
            2 => proptest::sample::select(&[
                "[plex]", "[users]", "[users.tokens]", "[users.override.anna]", "[select]", "[[map]]", "[limits]",
                "[evict]", "[transfer]", "[safety]", "[state]", "[map]", "[plex.endpoints]", "[[plex]]", "[\"\"]",
            ]).prop_map(str::to_owned),
            1 => ".{0,20}",
        ]
    }

    /// What stands for a token.
    const TOKEN: &str = "tOkEn7Qx";

    /// Ways to write a token into a file, right and wrong.
    const TOKENS: [&str; 14] = [
        "[plex]\ntoken = \"T\"",
        "[plex]\ntoken = 'T",
        "[plex]\ntoken = T",
        "[plex]\ntoken = [\"T\"]",
        "[plex]\ntoken = { T = 1 }",
        "[plex]\ntoken_file = \"T\"",
        "[users.tokens]\nben = \"T\"",
        "[users.tokens]\nben = [\"T\"]",
        "[users]\ntokens = \"T\"",
        "[plex]\nurl = \"http://a/?X-Plex-Token=T\"",
        "[plex]\nurl = \"http://anna:T@a\"",
        "[plex]\nurl = \"http://anna:T?b@a\"",
        "[plex]\nurl = \"http://anna:T#b@a/?c\"",
        "plex = { token = \"T\", url = 1 }",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn any_text_loads_or_is_refused_by_name(text in "\\PC{0,200}") {
            check(&text);
        }

        #[test]
        fn any_lines_load_or_are_refused_by_name(lines in proptest::collection::vec(line(), 0..20)) {
            check(&lines.join("\n"));
        }

        #[test]
        fn an_example_with_lines_in_it_loads_or_is_refused_with_its_line(
            at in any::<proptest::sample::Index>(),
            lines in proptest::collection::vec(line(), 0..4),
        ) {
            let mut text: Vec<String> = EXAMPLE.lines().map(str::to_owned).collect();
            let at = at.index(text.len());
            text.splice(at..at, lines);
            if let Err(message) = read(&text.join("\n")) {
                let line = message.strip_prefix("c.toml:").and_then(|rest| rest.split(':').next());
                prop_assert!(line.is_some_and(|line| line.parse::<usize>().is_ok()), "{message}");
            }
        }

        #[test]
        fn no_message_shows_a_token_whatever_stands_around_it(
            token in proptest::sample::select(&TOKENS),
            before in proptest::collection::vec(line(), 0..3),
            after in proptest::collection::vec(line(), 0..3),
        ) {
            let text = [before.join("\n"), token.replace('T', TOKEN), after.join("\n")].join("\n");
            if let Err(message) = read(&text) {
                prop_assert!(!message.contains(TOKEN), "{message}");
            }
        }
    }

    #[test]
    fn nesting_without_end_is_refused() {
        for (open, close) in [("a.", " = 1"), ("a = ", ""), ("[a", "]")] {
            check(&format!("{}a{close}", open.repeat(100_000)));
        }
        check(&format!("a = {}", "[".repeat(100_000)));
        check(&format!("a = {}1{}", "{ a = ".repeat(100_000), "}".repeat(100_000)));
        check(&format!("[{}a]\n", "a.".repeat(100_000)));
    }
}
