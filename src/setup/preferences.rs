//! Plex's own settings on this machine: the owner's token, and which server it belongs to.
//!
//! Owns where `Preferences.xml` lies on the systems that people run Plex on, and the reading of its one
//! element. Refuses everything that such a file never holds (a document type, entities of its own, a second
//! token), so that a planted file costs nothing but a message. The text of a token is in no message.

use std::io::{self, Read};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use crate::config::Environment;
use crate::secret::Secret;
use crate::tier::{ask_all, wait_for};

/// The file in Plex's data folder.
const NAME: &str = "Preferences.xml";

/// For how long a folder is waited for: it may be on a share of a server that is gone.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// The largest file that is read, in bytes. Real ones have some 3000.
const MAX_SIZE: u64 = 1 << 20;

/// Plex's data folder below an application's own.
const SUPPORT: &str = "Library/Application Support/Plex Media Server";

/// Plex's data folders, whole (Plex's support article on the data directory, and the images' manuals).
const FOLDERS: [&str; 5] = [
    "/var/lib/plexmediaserver/Library/Application Support/Plex Media Server",
    "/var/snap/plexmediaserver/common/Library/Application Support/Plex Media Server",
    "/config/Library/Application Support/Plex Media Server",
    "/volume1/PlexMediaServer/AppData/Plex Media Server",
    "/volume1/Plex/Library/Application Support/Plex Media Server",
];

/// What the folders of Plex's container are called on Unraid, where each has one below `appdata`.
const CONTAINERS: [&str; 6] =
    ["plex", "Plex-Media-Server", "binhex-plex", "binhex-plexpass", "PlexMediaServer", "plexmediaserver"];

/// As far as `init` needs them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preferences {
    pub token: Secret,
    /// The machine identifier of the server that the token belongs to; empty when it does not say.
    pub machine_id: String,
}

/// Why the settings of Plex cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PreferencesError {
    #[error("cannot read {0}: {1}")]
    Read(Utf8PathBuf, io::Error),
    #[error("{0} is not Plex's Preferences.xml: {1}")]
    Foreign(Utf8PathBuf, &'static str),
    #[error("{0} holds no token: this server is not claimed by any account")]
    Unclaimed(Utf8PathBuf),
}

/// The `Preferences.xml` files of this machine, those that cannot be looked at left out.
pub fn places(environment: &Environment) -> Vec<Utf8PathBuf> {
    let unraid = CONTAINERS.iter().flat_map(|container| {
        let appdata = format!("/mnt/user/appdata/{container}");
        // binhex' image has Plex's folder right below its own.
        [format!("{appdata}/{SUPPORT}"), format!("{appdata}/Plex Media Server")]
    });
    let folders = FOLDERS.iter().map(|&folder| folder.to_owned()).chain(unraid);
    let files: Vec<Utf8PathBuf> = folders.map(|folder| environment.system_path(&folder).join(NAME)).collect();
    let is_there = ask_all(files.clone(), ANSWER_WITHIN, |file| wait_for(&file).map(|()| file.is_file()));
    files.into_iter().zip(is_there).filter(|(_, is_there)| matches!(is_there, Ok(true))).map(|(file, _)| file).collect()
}

/// Reads one of them.
///
/// # Errors
/// It cannot be read, is none, or holds no token.
pub fn read(file: &Utf8Path) -> Result<Preferences, PreferencesError> {
    let cannot = |error| PreferencesError::Read(file.to_owned(), error);
    let mut bytes = Vec::new();
    let open = crate::state::open_file(file).map_err(cannot)?;
    open.take(MAX_SIZE).read_to_end(&mut bytes).map_err(cannot)?;
    let foreign = |why| PreferencesError::Foreign(file.to_owned(), why);
    let text = std::str::from_utf8(&bytes).map_err(|_| foreign("it is not UTF-8"))?;
    let attributes = attributes(text).map_err(foreign)?;
    let value = |name: &str| -> Result<String, PreferencesError> {
        let mut values = attributes.iter().filter(|(key, _)| *key == name).map(|(_, value)| *value);
        match (values.next(), values.next()) {
            (None, _) => Ok(String::new()),
            (Some(value), None) => decoded(value).map_err(foreign),
            (Some(_), Some(_)) => Err(foreign("an attribute is there twice")),
        }
    };
    let token = Secret::new(&value("PlexOnlineToken")?);
    if token.is_empty() {
        return Err(PreferencesError::Unclaimed(file.to_owned()));
    }
    if !token.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(foreign("its token holds characters that no token has"));
    }
    Ok(Preferences { token, machine_id: value("ProcessedMachineIdentifier")? })
}

/// The attributes of the element `Preferences`, as they are written.
fn attributes(text: &str) -> Result<Vec<(&str, &str)>, &'static str> {
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    loop {
        rest = if let Some(after) = rest.strip_prefix("<?") {
            after.split_once("?>").ok_or("it ends too early")?.1
        } else if let Some(after) = rest.strip_prefix("<!--") {
            after.split_once("-->").ok_or("it ends too early")?.1
        } else {
            break;
        }
        .trim_start();
    }
    if rest.starts_with("<!") {
        return Err("it declares a document type");
    }
    let is_blank = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
    rest = rest.strip_prefix("<Preferences").ok_or("it has no element Preferences")?;
    let mut found = Vec::new();
    loop {
        let after = rest.trim_start_matches(is_blank);
        if after.starts_with("/>") || after.starts_with('>') {
            return Ok(found);
        }
        if after.len() == rest.len() {
            return Err("its attributes are not apart");
        }
        let (name, after) = after.split_once('=').ok_or("it ends too early")?;
        let (name, after) = (name.trim_end_matches(is_blank), after.trim_start_matches(is_blank));
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b':'))
        {
            return Err("an attribute has no name");
        }
        let quote = after.chars().next().filter(|c| matches!(c, '"' | '\'')).ok_or("a value is not quoted")?;
        let (value, after) = after[1..].split_once(quote).ok_or("it ends too early")?;
        if value.contains('<') {
            return Err("a value holds an element");
        }
        found.push((name, value));
        rest = after;
    }
}

/// A value without its references. XML knows five by name; others would have to be declared, and are not.
fn decoded(value: &str) -> Result<String, &'static str> {
    let mut text = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('&') {
        let (name, after) = after.split_once(';').ok_or("a reference does not end")?;
        text.push_str(before);
        text.push(match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            _ => {
                let number = name.strip_prefix('#').ok_or("it refers to something unknown")?;
                let code = match number.strip_prefix('x') {
                    Some(hex) => u32::from_str_radix(hex, 16),
                    None => number.parse(),
                };
                code.ok().and_then(char::from_u32).ok_or("it refers to no character")?
            }
        });
        rest = after;
    }
    Ok(text + rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_text(text: &str) -> Result<Preferences, String> {
        use std::io::Write;
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        read(Utf8Path::from_path(file.path()).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_token_and_the_machine_are_read_however_they_are_written() {
        for text in [
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<Preferences OldestPreviousVersion=\"1.2\" \
             PlexOnlineToken=\"abc-D_1\" ProcessedMachineIdentifier=\"5ca1\" FriendlyName=\"Anna &amp; Ben&#39;s\"/>\n",
            "\u{feff}<!-- a PlexOnlineToken=\"no\" --><Preferences\tPlexOnlineToken = 'abc-D&#x5f;1'\r\n\
             ProcessedMachineIdentifier='5ca1'></Preferences>",
        ] {
            let found = read_text(text).unwrap();
            assert_eq!((found.token.expose(), found.machine_id.as_str()), ("abc-D_1", "5ca1"), "{text}");
        }
    }

    #[test]
    fn what_is_no_preferences_file_is_refused_and_no_secret_is_told() {
        for (text, why) in [
            ("", "no element"),
            ("<html PlexOnlineToken=\"s3cret\">", "no element"),
            ("<PreferencesX PlexOnlineToken=\"s3cret\"/>", "not apart"),
            ("<!DOCTYPE x [<!ENTITY a \"b\">]><Preferences PlexOnlineToken=\"s3cret&a;\"/>", "document type"),
            ("<Preferences PlexOnlineToken=\"s3cret&a;\"/>", "unknown"),
            ("<Preferences PlexOnlineToken=\"s3cret&#0x;\"/>", "no character"),
            ("<Preferences PlexOnlineToken=\"s3cret&#xD800;\"/>", "no character"),
            ("<Preferences PlexOnlineToken=\"s3cret", "too early"),
            ("<Preferences PlexOnlineToken=s3cret/>", "not quoted"),
            ("<Preferences a=\"1\"PlexOnlineToken=\"s3cret\"/>", "not apart"),
            ("<Preferences PlexOnlineToken=\"s3cret\" PlexOnlineToken=\"s3cret2\"/>", "twice"),
            ("<Preferences PlexOnlineToken=\"s3cret two\"/>", "characters"),
            ("<Preferences PlexOnlineToken=\"\"/>", "not claimed"),
            ("<Preferences FriendlyName=\"s3cret\"/>", "not claimed"),
        ] {
            let error = read_text(text).unwrap_err();
            assert!(error.contains(why) && !error.contains("s3cret"), "{text}: {error}");
        }
    }

    #[test]
    fn a_folder_or_a_pipe_in_its_place_is_an_error_and_no_wait() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        assert!(matches!(read(folder), Err(PreferencesError::Read(..))));
        let pipe = folder.join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, pipe.as_std_path(), rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
            .unwrap();
        assert!(matches!(read(&pipe), Err(PreferencesError::Read(..))));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(<|>|/|\\?|!|--|Preferences| |=|\"|'|&|;|#|x|a|PlexOnlineToken|\u{e9}){0,24}") {
            for (_, value) in attributes(&text).unwrap_or_default() {
                let _either_way = decoded(value);
            }
        }

        #[test]
        fn a_value_comes_out_as_it_went_in(value in "[^\u{0}<]{0,20}") {
            let written = value.replace('&', "&amp;").replace('"', "&quot;");
            let text = format!("<Preferences a=\"{written}\"/>");
            let found = attributes(&text).unwrap();
            prop_assert_eq!(decoded(found[0].1).unwrap(), value);
        }
    }
}
