//! The table that the bench ends with, as Markdown, and the words for its figures.

use std::fmt::{self, Write as _};

use super::measure::{Pick, Race};

/// Measured figures, one comparison a line.
#[derive(Default)]
pub struct Table {
    rows: Vec<[String; 7]>,
    notes: Vec<String>,
}

/// What a figure counts.
#[derive(Clone, Copy)]
pub enum Unit {
    Seconds,
    Mebibytes,
    Percent,
    Count,
}

impl Unit {
    fn words(self, figure: f64) -> String {
        match self {
            Self::Seconds if figure < 1.0 => format!("{:.1} ms", figure * 1000.0),
            Self::Seconds => format!("{figure:.2} s"),
            Self::Mebibytes => format!("{figure:.1} MiB"),
            Self::Percent => format!("{figure:.0} %"),
            Self::Count => format!("{figure:.0}"),
        }
    }
}

/// Within which a figure or a ratio has to be.
#[derive(Clone, Copy)]
pub enum Target {
    None,
    AtMost(f64),
    AtLeast(f64),
}

impl Target {
    fn is_met(self, figure: f64) -> &'static str {
        let met = match self {
            Self::None => return "",
            Self::AtMost(limit) => figure <= limit,
            Self::AtLeast(limit) => figure >= limit,
        };
        if met { "yes" } else { "**no**" }
    }

    fn words(self, figure: impl Fn(f64) -> String) -> String {
        match self {
            Self::None => String::new(),
            Self::AtMost(limit) => format!("≤ {}", figure(limit)),
            Self::AtLeast(limit) => format!("≥ {}", figure(limit)),
        }
    }
}

/// A figure of one contestant, beside the same of another.
pub struct Comparison<'a> {
    pub work: &'a str,
    pub pick: Pick,
    pub unit: Unit,
    pub ours: &'a str,
    pub theirs: &'a str,
    /// Of ours : theirs.
    pub target: Target,
}

impl Table {
    pub fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        eprintln!("{text}");
        self.notes.push(text);
    }

    /// A comparison within a race; nothing where the other one did not take part.
    pub fn compare(&mut self, race: &Race, comparison: &Comparison) {
        let Comparison { work, pick, unit, ours, theirs, target } = *comparison;
        let (Some(own), Some(other)) = (race.median(ours, pick), race.median(theirs, pick)) else { return };
        let ratio = race.ratio(ours, theirs, pick).unwrap_or(f64::NAN);
        let ratio_words = |ratio: f64| if ratio < 0.1 { format!("{ratio:.3}") } else { format!("{ratio:.2}") };
        let texts =
            [unit.words(own), theirs.to_owned(), unit.words(other), ratio_words(ratio), target.words(ratio_words)];
        self.row(work, texts, target.is_met(ratio));
    }

    /// A figure that stands for itself.
    pub fn figure(&mut self, work: &str, figure: f64, unit: Unit, target: Target) {
        let none = String::new;
        self.row(
            work,
            [unit.words(figure), none(), none(), none(), target.words(|f| unit.words(f))],
            target.is_met(figure),
        );
    }

    /// The same beside somebody else's.
    pub fn beside(&mut self, work: &str, ours: f64, (name, theirs): (&str, f64), unit: Unit, target: Target) {
        let texts =
            [unit.words(ours), name.to_owned(), unit.words(theirs), String::new(), target.words(|f| unit.words(f))];
        self.row(work, texts, target.is_met(ours));
    }

    /// What could not be measured here.
    pub fn missing(&mut self, work: &str, why: &str) {
        let none = String::new;
        self.row(work, ["not measured".to_owned(), why.to_owned(), none(), none(), none()], "");
    }

    fn row(&mut self, work: &str, [ours, peer, theirs, ratio, target]: [String; 5], met: &str) {
        eprintln!("= {work}: {ours}; {peer} {theirs}; {ratio} {target} {met}");
        self.rows.push([work.to_owned(), ours, peer, theirs, ratio, target, met.to_owned()]);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HEAD: [&str; 7] = ["work", "plexcache", "other", "costs", "ours : other", "target", "met"];
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        let head = HEAD.map(str::to_owned);
        let widths: [usize; 7] = std::array::from_fn(|column| {
            std::iter::once(&head).chain(&self.rows).map(|row| row[column].chars().count()).max().unwrap_or(0)
        });
        let line = |cells: &[String; 7]| {
            cells.iter().zip(widths).fold("|".to_owned(), |mut line, (cell, width)| {
                write!(line, " {cell:width$} |").expect("a text takes what is written to it");
                line
            })
        };
        writeln!(f, "\n{}", line(&head))?;
        writeln!(f, "{}", line(&widths.map(|width| "-".repeat(width))))?;
        self.rows.iter().try_for_each(|row| writeln!(f, "{}", line(row)))
    }
}

/// `2GiB`, `500MiB`.
pub fn bytes(text: &str) -> Option<u64> {
    let (number, shift) =
        [("GiB", 30), ("MiB", 20)].into_iter().find_map(|(suffix, shift)| Some((text.strip_suffix(suffix)?, shift)))?;
    Some(number.trim().parse::<u64>().ok()? << shift)
}

/// As a person writes it.
pub fn size(bytes: u64) -> String {
    if bytes.is_multiple_of(1 << 30) { format!("{} GiB", bytes >> 30) } else { format!("{} MiB", bytes >> 20) }
}
