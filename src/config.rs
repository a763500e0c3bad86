//! Stub until the real module lands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    Copy,
    Hide,
    Move,
    Symlink,
}
#[derive(Debug, Clone)]
pub struct Map {
    pub plex: String,
    pub array: Vec<camino::Utf8PathBuf>,
    pub cache: camino::Utf8PathBuf,
    pub merged: Option<camino::Utf8PathBuf>,
    pub placement: Placement,
    pub cacheable: bool,
}
impl Map {
    pub fn array_roots(&self) -> std::io::Result<Vec<camino::Utf8PathBuf>> {
        Ok(self.array.clone())
    }
}
