//! What `check` found: a paragraph for each thing it looked at, and a last line of counts.

use super::table::{Align, Cell, Table};
use super::text::{Look, Paint};
use crate::report::words::{count, visible};
use crate::report::{Checked, Finding, Verdict};

/// What was found out of one thing. A quiet reader sees what is wrong only.
pub(super) fn group(about: &str, findings: &[Finding], quiet: bool, look: &Look) -> String {
    let is_wrong = |finding: &&Finding| matches!(finding.verdict, Verdict::Warn | Verdict::Fail);
    let shown: Vec<&Finding> = findings.iter().filter(|finding| !quiet || is_wrong(finding)).collect();
    if shown.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&[Align::Left, Align::Left, Align::Left], None);
    for Finding { name, verdict, detail, advice } in shown {
        table.row([Cell::painted(paint(*verdict), verdict.word()), (*name).into(), visible(detail).into()]);
        if let Some(advice) = advice {
            let arrow = if look.utf8 { "→" } else { "->" };
            table.row(["".into(), "".into(), format!("{arrow} {}", visible(advice)).into()]);
        }
    }
    let head = look.paint(Paint::Strong, &visible(about));
    format!("{head}\n{}\n", table.render(look, 2))
}

/// The last line.
pub(super) fn counts(checked: Checked, look: &Look) -> String {
    let Checked { passed, warnings, failed, skipped } = checked;
    let part =
        |number: usize, text: String, color: Paint| look.paint(if number == 0 { Paint::Plain } else { color }, &text);
    let mut parts = vec![
        part(passed, format!("{passed} passed"), Paint::Good),
        part(warnings, count(warnings as u64, "warning"), Paint::Caution),
        part(failed, format!("{failed} failed"), Paint::Bad),
    ];
    if skipped > 0 {
        parts.push(format!("{skipped} skipped"));
    }
    format!("{}\n", look.join(&parts))
}

fn paint(verdict: Verdict) -> Paint {
    match verdict {
        Verdict::Pass => Paint::Good,
        Verdict::Warn => Paint::Caution,
        Verdict::Fail => Paint::Bad,
        Verdict::Skip => Paint::Dim,
    }
}

#[cfg(test)]
mod tests {
    use super::super::text::tests::look;
    use super::*;

    fn findings() -> Vec<Finding> {
        let finding = |name, verdict, detail: &str, advice: Option<&str>| Finding {
            name,
            verdict,
            detail: detail.to_owned(),
            advice: advice.map(str::to_owned),
        };
        vec![
            finding("roots", Verdict::Pass, "/mnt/disk1/tv (xfs)", None),
            finding("merged view", Verdict::Fail, "no \u{1b}[2J", Some("mend it")),
            finding("item", Verdict::Skip, "Plex was not asked", None),
        ]
    }

    #[test]
    fn findings_are_aligned_and_the_advice_stands_below() {
        let expected = "\
Map /data/tv
  pass  roots        /mnt/disk1/tv (xfs)
  fail  merged view  no \\u{1b}[2J
                     → mend it
  skip  item         Plex was not asked

";
        assert_eq!(group("Map /data/tv", &findings(), false, &look()), expected);
    }

    #[test]
    fn a_quiet_reader_sees_what_is_wrong_only() {
        let text = group("Map", &findings(), true, &look());
        assert!(text.contains("merged view") && !text.contains("roots") && !text.contains("item"), "{text}");
        assert_eq!(group("Map", &findings()[..1], true, &look()), "");
    }

    #[test]
    fn the_last_line_counts() {
        let checked = Checked { passed: 12, warnings: 1, failed: 0, skipped: 2 };
        assert_eq!(counts(checked, &look()), "12 passed · 1 warning · 0 failed · 2 skipped\n");
        let well = Checked { passed: 1, ..Checked::default() };
        assert_eq!(counts(well, &look()), "1 passed · 0 warnings · 0 failed\n");
    }
}
