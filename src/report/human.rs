//! Text for people.
pub struct Human;
pub struct HumanOptions;
pub enum Color {
    Auto,
    Always,
    Never,
}
