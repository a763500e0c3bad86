//! The calls that only a checkup needs: settings, and a few items of a library.
//!
//! Nothing here decides what is cached, so a missing answer is told and never guessed.

use super::address::encode;
use super::client::Get;
use super::listing::Listing;
use super::{Item, Library, LibraryKind, PlexError, PlexServer, Read};

/// Rows of a library that are looked at for a sample.
const SAMPLE: u64 = 100;

/// Settings of the server that change what a cache can do. Ids and defaults are those of Plex 1.43.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// `autoEmptyTrash`: what a scan does not find leaves the library at once.
    pub empties_trash: Option<bool>,
    /// `OnDeckWindow`: for so many weeks after it was played an item may be on deck.
    pub on_deck_weeks: Option<i64>,
}

impl PlexServer {
    /// The settings, asked with the owner's token.
    ///
    /// # Errors
    /// The call failed; [`PlexError::Forbidden`] when the token is not the owner's.
    pub fn settings(&self) -> Result<Settings, PlexError> {
        let call = Get::new("/:/prefs", Some(&self.token));
        let container = self.client.get(&call)?.container;
        let rows = container.fields().list("Setting").unwrap_or_default();
        let find = |id: &str| rows.iter().copied().find(|row| row.id("id").as_deref() == Some(id));
        Ok(Settings {
            empties_trash: find("autoEmptyTrash").map(|row| row.flag("value")),
            on_deck_weeks: find("OnDeckWindow").and_then(|row| row.int("value")),
        })
    }

    /// The newest films or episodes of a library, at most a hundred. Music and photos have none.
    pub fn newest(&self, library: &Library) -> Read<Vec<Item>> {
        let kind = match library.kind {
            LibraryKind::Movie => 1,
            LibraryKind::Show => 4,
            LibraryKind::Music | LibraryKind::Photo | LibraryKind::Other => return Read::Complete(Vec::new()),
        };
        let mut call = Get::new(format!("/library/sections/{}/all", encode(&library.id)), Some(&self.token));
        call.query = format!("type={kind}&sort=addedAt:desc");
        call.page = Some((0, SAMPLE));
        match self.client.get(&call).and_then(|answer| Listing::of(&call.path, &answer.container)) {
            Ok(Listing { items, problems }) => Read::from_parts(items, problems),
            Err(error) => Read::Failed(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stub::{Stub, TOKEN, container, reply};
    use super::*;

    #[test]
    fn settings_are_read_by_their_ids_whatever_their_types() {
        for (on, weeks) in [("true", "16"), ("\"1\"", "\"16\"")] {
            let rows = format!(
                r#""Setting":[{{"id":"autoEmptyTrash","value":{on}}},{{"id":"OnDeckWindow","value":{weeks}}}]"#
            );
            let stub = Stub::new(move |_, _| container(&rows));
            let expected = Settings { empties_trash: Some(true), on_deck_weeks: Some(16) };
            assert_eq!(stub.server().settings(), Ok(expected));
            assert_eq!(stub.requests()[0].header("x-plex-token"), Some(TOKEN));
        }
        let stub = Stub::new(|_, _| container(r#""size":0"#));
        assert_eq!(stub.server().settings(), Ok(Settings::default()));
        let stub = Stub::new(|_, _| reply(403, "", ""));
        assert!(matches!(stub.server().settings(), Err(PlexError::Forbidden { .. })));
    }
}
