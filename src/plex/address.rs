//! URLs: the one that is configured, the ones that are asked for, the ones that redirects name.
//!
//! Owns what is taken for the server's base URL, and refuses what would carry a secret (user
//! information, a query) or lead somewhere else. A URL that is refused is never repeated in the
//! message, because people paste URLs with tokens.

use std::fmt::Write;
use std::net::IpAddr;

use ureq::http::Uri;

use super::PlexError;

/// The base URL, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Base {
    /// Scheme, host and port: `http://127.0.0.1:32400`.
    pub(super) origin: String,
    /// The path below which a reverse proxy shows Plex: empty or `/plex`.
    pub(super) prefix: String,
    pub(super) https: bool,
    /// An address in place of a name, for which no certificate is valid.
    pub(super) bare_ip: bool,
}

impl Base {
    /// Takes `url` apart.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(url: &str) -> Result<Self, PlexError> {
        let wrong = |what: &str, hint| Err(PlexError::Config { what: format!("plex.url {what}"), hint });
        let example = "write it like http://127.0.0.1:32400 or https://example.org/plex";
        let url = url.trim();
        if url.contains(['?', '#']) {
            return wrong(
                "has a query or a fragment",
                "leave out `?`, `#` and what follows; the token has its own setting",
            );
        }
        let Some((scheme, rest)) = url.split_once("://") else {
            return wrong("has no scheme", example);
        };
        let https = scheme.eq_ignore_ascii_case("https");
        if !https && !scheme.eq_ignore_ascii_case("http") {
            return wrong("is neither http nor https", example);
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return wrong("has a user name or password", "leave it out; Plex only knows tokens");
        }
        let uri: Option<Uri> = format!("http://{authority}{path}").parse().ok();
        let Some(host) = uri.as_ref().and_then(Uri::host).filter(|host| !host.is_empty()) else {
            return wrong("is no URL", example);
        };
        if authority.strip_prefix(host).is_none_or(|port| !is_port(port)) {
            return wrong("has no valid port", example);
        }
        Ok(Self {
            origin: format!("{}://{authority}", if https { "https" } else { "http" }),
            prefix: path.trim_end_matches('/').to_owned(),
            https,
            bare_ip: host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok(),
        })
    }
}

/// Whether `text` is what may follow a host: nothing, or a colon and a port.
fn is_port(text: &str) -> bool {
    text.is_empty() || text.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// The scheme, host and port of where a redirect leads.
pub(super) fn host_of(location: &str) -> String {
    match location.parse::<Uri>().ok().as_ref().and_then(|uri| Some((uri.scheme_str()?, uri.authority()?))) {
        Some((scheme, authority)) => {
            let host = authority.as_str().rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}")
        }
        None => "another path of the same server".to_owned(),
    }
}

/// Percent-encodes one segment of a path or one value of a query.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a String takes everything");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_taken_apart() {
        for (url, origin, prefix, https, bare_ip) in [
            ("http://127.0.0.1:32400", "http://127.0.0.1:32400", "", false, true),
            (" http://plex:32400/ \n", "http://plex:32400", "", false, false),
            ("HTTPS://example.org/plex//", "https://example.org", "/plex", true, false),
            ("https://10-0-0-5.0a1b.plex.direct:32400", "https://10-0-0-5.0a1b.plex.direct:32400", "", true, false),
            ("https://[::1]:32400/a/b", "https://[::1]:32400", "/a/b", true, true),
        ] {
            let base = Base { origin: origin.to_owned(), prefix: prefix.to_owned(), https, bare_ip };
            assert_eq!(Base::parse(url), Ok(base), "{url}");
        }
    }

    #[test]
    fn a_base_url_that_is_refused_is_not_repeated() {
        for url in [
            "",
            "s3cret:32400",
            "ftp://s3cret",
            "file:///s3cret",
            "http://",
            "http:///s3cret",
            "http://:32400/s3cret",
            "http://s3cret:",
            "http://s3cret:0",
            "http://s3cret:99999",
            "http://s3 cret/",
            "http://me:s3cret@plex:32400",
            "http://plex:32400/?X-Plex-Token=s3cret",
            "http://plex:32400/web#!/s3cret",
        ] {
            let error = Base::parse(url).unwrap_err();
            assert!(matches!(error, PlexError::Config { .. }), "{url}");
            assert!(error.hint().is_some_and(|hint| !hint.contains("s3cret")), "{url}");
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{url}");
        }
    }

    #[test]
    fn a_redirect_is_named_by_its_host_alone() {
        for (location, host) in [
            ("https://plex.example.org/a?X-Plex-Token=s3cret", "https://plex.example.org"),
            ("http://me:s3cret@other:81/", "http://other:81"),
            ("/web/index.html", "another path of the same server"),
            ("", "another path of the same server"),
        ] {
            assert_eq!(host_of(location), host);
        }
    }

    #[test]
    fn an_id_cannot_leave_its_place_in_a_url() {
        assert_eq!(encode("5df46a"), "5df46a");
        assert_eq!(encode("../a?b&c#d,\u{e9} %"), "..%2Fa%3Fb%26c%23d%2C%C3%A9%20%25");
    }
}
