//! The stand-in Plex server, tested by itself over plain sockets and by an independent client.
//!
//! Owns the proof that [`FakePlex`] keeps the rules of a real server on which other tests rely: paging,
//! errors, the two formats, the view of each user, and every fault. It uses no client of the product.
#![allow(clippy::unwrap_used, reason = "the helpers of a test fail as it does, by a panic")]
#![allow(clippy::disallowed_methods, reason = "a test lays out its own files")]

#[path = "util/fake_plex/mod.rs"]
mod fake_plex;
#[path = "util/raw_http.rs"]
mod raw_http;

use std::io::{self, Read, Write};
use std::process::Command;
use std::time::Duration;

use fake_plex::{Extra, FakePlex, Fault, Library, Matcher, Media, RatingKey, SectionKind};
use raw_http::{Answer, Client};
use serde_json::Value;

const NOW: i64 = 1_780_000_000;

/// One request on its own connection.
fn ask(plex: &FakePlex, target: &str, headers: &[(&str, &str)]) -> Answer {
    Client::to(&plex.url()).send("GET", target, headers).unwrap()
}

/// One request for JSON with that token.
fn json_as(plex: &FakePlex, token: &str, target: &str) -> Answer {
    ask(plex, target, &[("X-Plex-Token", token), ("Accept", "application/json")])
}

fn json(plex: &FakePlex, target: &str) -> Answer {
    json_as(plex, "owner-token", target)
}

fn try_json(plex: &FakePlex, target: &str) -> io::Result<Answer> {
    Client::to(&plex.url()).send("GET", target, &[("X-Plex-Token", "owner-token"), ("Accept", "application/json")])
}

/// Keys of the items of [`household`].
struct Keys {
    film: RatingKey,
    show: RatingKey,
}

/// One movie, one show of seven episodes, the owner and anna; both have something on deck.
fn household() -> (Library, Keys) {
    let mut library = Library::new();
    library.now = NOW;
    library.add_user("anna", "anna-token");
    let movies = library.add_section("Movies", SectionKind::Movie, &["/data/movies"]);
    let shows = library.add_section("TV & more", SectionKind::Show, &["/data/tv", "/data/more <tv>"]);
    library.set_hidden(shows, 1);

    let versions = [
        Media::stacked(&[("/data/movies/a cd1.mkv", 15_000_000_000), ("/data/movies/a cd2.mkv", 2)]).resolution("4k"),
        Media::file("/data/movies/Plex Versions/a.mp4", 3).optimized(),
    ];
    let film = library.add_movie(movies, "Ägypten \"1\" & <2>", 1999, &versions);
    library.item_mut(&film).external_guids.push("imdb://tt0000001".to_owned());
    let show = library.add_show(shows, "The Show");
    // Added out of order, as downloads arrive.
    for (season, episodes) in [(2, [3, 1, 2].as_slice()), (1, &[2, 1, 3]), (0, &[1])] {
        for &index in episodes {
            let (title, path) = (format!("Episode {index}"), format!("/data/tv/The Show/{season}x0{index}.mkv"));
            library.add_episode(&show, season, index, &title, &path, season * 10 + index);
        }
    }
    library.set_on_deck("owner", &film, Some(NOW - 3600), 600_000);
    let pilot = library.episode(&show, 1, 1);
    library.mark_watched("owner", &pilot, NOW - 100);
    let finale = library.episode(&show, 2, 3);
    library.mark_watched("anna", &finale, NOW - 50);
    (library, Keys { film, show })
}

fn start() -> (FakePlex, Keys) {
    let (library, keys) = household();
    (FakePlex::start(library), keys)
}

/// What is on deck of the shows, for the user who asks.
const DECK: &str = "/library/sections/2/onDeck";
const EPISODES: &str = "/library/sections/2/all?type=4";

#[test]
fn identity_needs_no_token_and_everything_else_does() {
    let (plex, _) = start();
    let identity = ask(&plex, "/identity", &[("Accept", "application/json")]);
    assert_eq!(identity.status, 200);
    assert_eq!(identity.json()["size"], 0);
    assert_eq!(identity.json()["machineIdentifier"], plex.edit(|library| library.machine_id.clone()));
    for headers in [&[][..], &[("X-Plex-Token", "wrong"), ("Accept", "application/json")]] {
        let refused = ask(&plex, "/library/sections", headers);
        assert_eq!(refused.status, 401);
        assert_eq!(refused.body.len(), 91);
        assert!(refused.text().starts_with("<html><head><title>Unauthorized</title>"), "{}", refused.text());
        assert_eq!(refused.header("Connection"), Some("close"));
        assert_eq!(refused.header("Content-Type"), Some("text/html"));
    }
    assert!(ask(&plex, "/", &[]).text().contains("<script>"));
    assert_eq!(ask(&plex, "/library/sections?X-Plex-Token=anna-token", &[]).status, 200);
}

#[test]
fn only_the_owner_reads_what_belongs_to_the_server() {
    let (plex, _) = start();
    let calls = ["/status/sessions", "/status/sessions/history/all", "/accounts", "/:/prefs", "/activities"];
    for call in calls.into_iter().chain(["/library/sections/1/refresh"]) {
        assert_eq!(json(&plex, call).status, 200, "{call}");
        let refused = json_as(&plex, "anna-token", call);
        assert_eq!((refused.status, refused.text().contains("<h1>403 Forbidden</h1>")), (403, true), "{call}");
    }
}

#[test]
fn xml_is_the_default_and_json_needs_its_own_accept() {
    let (plex, _) = start();
    for accept in ["*/*", "text/html", "application/xml"] {
        let answer = ask(&plex, "/library/sections", &[("X-Plex-Token", "owner-token"), ("Accept", accept)]);
        assert_eq!(answer.header("Content-Type"), Some("text/xml;charset=utf-8"), "{accept}");
        assert!(answer.text().starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<MediaContainer size=\"2\""));
    }
    assert_eq!(json(&plex, "/library/sections").header("Content-Type"), Some("application/json"));
}

/// Every scalar of a JSON object and of all objects below it, as XML would write it, in the order of the text.
fn scalars(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| match value {
            Value::String(text) => found.push(format!("{name}={text}")),
            Value::Bool(truth) => found.push(format!("{name}={}", u8::from(*truth))),
            Value::Number(number) => found.push(format!("{name}={number}")),
            _ => scalars(value, found),
        }),
        Value::Array(rows) => rows.iter().for_each(|row| scalars(row, found)),
        _ => {}
    }
}

#[test]
fn xml_and_json_say_the_same_of_every_endpoint() {
    let (plex, keys) = start();
    plex.edit(|library| {
        library.start_session("owner", &keys.film, false);
        library.start_session("anna", &library.episode(&keys.show, 1, 1), true);
        library.start_extra_session("anna", Extra::LiveTv);
        library.start_extra_session("anna", Extra::Trailer);
        library.add_playlist("owner", "Later", &[&keys.film]);
        library.add_collection(1, "Favourites", &[&keys.film]);
        library.set_refreshing(1, true);
    });
    let targets = [
        "/".to_owned(),
        "/identity".to_owned(),
        "/library".to_owned(),
        "/library/sections".to_owned(),
        "/library/onDeck".to_owned(),
        DECK.to_owned(),
        "/library/sections/1/all?includeGuids=1&checkFiles=1".to_owned(),
        "/library/sections/1/collections".to_owned(),
        EPISODES.to_owned(),
        format!("/library/metadata/{},{}", keys.film, keys.show),
        format!("/library/metadata/{}/children", keys.show),
        format!("/library/metadata/{}/allLeaves", keys.show),
        "/status/sessions".to_owned(),
        "/status/sessions/history/all".to_owned(),
        "/accounts".to_owned(),
        "/activities".to_owned(),
        "/:/prefs".to_owned(),
        "/playlists".to_owned(),
    ];
    for target in &targets {
        let mut in_json = Vec::new();
        scalars(&json(&plex, target).json(), &mut in_json);
        let xml = ask(&plex, target, &[("X-Plex-Token", "owner-token")]);
        let mut in_xml = Vec::new();
        // Values hold no raw quote, so the quotes part names from values.
        let pieces: Vec<&str> = xml.text().split_once("?>").unwrap().1.split('"').collect();
        for pair in pieces.chunks_exact(2) {
            let name = pair[0].rsplit([' ', '\n']).next().unwrap().trim_end_matches('=');
            let value = pair[1].replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
            in_xml.push(format!("{name}={value}"));
        }
        in_json.sort();
        in_xml.sort();
        assert!(in_json.len() > 1, "{target}");
        assert_eq!(in_json, in_xml, "{target}");
    }
}

#[test]
fn json_keeps_the_oddities_of_each_endpoint() {
    let (plex, keys) = start();
    let sections = json(&plex, "/library/sections").json();
    assert_eq!(sections["Directory"][1]["key"], "2");
    assert_eq!((&sections["Directory"][0]["hidden"], &sections["Directory"][1]["hidden"]), (&0.into(), &1.into()));

    let deck = json(&plex, DECK).json();
    assert_eq!(deck["librarySectionID"], 2);
    assert_eq!(deck["Metadata"][0].get("librarySectionID"), None);
    assert_eq!(json(&plex, "/library/onDeck").json()["Metadata"][0]["librarySectionID"], 1);
    let row = &deck["Metadata"][0];
    assert_eq!((row.get("viewCount"), row.get("viewOffset"), row.get("lastViewedAt")), (None, None, None));
    assert!(row["ratingKey"].is_string() && row["Media"][0]["id"].is_i64());
    assert_eq!(row["Media"][0]["Part"][0]["hasThumbnail"], "1");
    assert_eq!(row["Media"][0]["Part"][0].get("Stream"), None);

    plex.edit(|library| {
        library.add_collection(1, "Favourites", &[&keys.film]);
        library.start_session("owner", &keys.film, false)
    });
    assert_eq!(json(&plex, "/library/sections/1/collections").column("childCount"), ["1"]);
    let session = json(&plex, "/status/sessions").json()["Metadata"][0].clone();
    assert_eq!((&session["sessionKey"], &session["librarySectionID"]), (&"1".into(), &"1".into()));
    assert!(session["Media"][0]["id"].is_string() && session["Media"][0]["Part"][0]["id"].is_string());
    assert_eq!(session["User"]["id"], "1");
    assert_eq!(json(&plex, "/status/sessions/history/all").column("librarySectionID"), ["2", "2"]);
}

#[test]
fn an_empty_list_is_an_absent_key() {
    let plex = FakePlex::start(Library::new());
    for target in ["/library/sections", "/library/onDeck", "/status/sessions", "/status/sessions/history/all"] {
        let answer = json(&plex, target).json();
        assert_eq!(answer["size"], 0, "{target}");
        assert!(answer.as_object().unwrap().values().all(|value| !value.is_array()), "{target}: {answer}");
    }
}

#[test]
fn paging_needs_a_start_and_a_size() {
    let (plex, _) = start();
    let page = |query: &str, headers: &[(&str, &str)]| {
        let mut all = vec![("X-Plex-Token", "owner-token"), ("Accept", "application/json")];
        all.extend_from_slice(headers);
        let answer = ask(&plex, &format!("{EPISODES}{query}"), &all);
        let json = answer.json();
        let total = answer.header("X-Plex-Container-Total-Size").map(str::to_owned);
        (json["size"].as_i64().unwrap(), json["totalSize"].as_i64(), json["offset"].as_i64(), total)
    };
    let whole = (7, None, None, None);
    assert_eq!(page("", &[]), whole);
    assert_eq!(page("&X-Plex-Container-Size=2", &[]), whole);
    assert_eq!(page("", &[("X-Plex-Container-Start", "2")]), whole);
    let total = || Some("7".to_owned());
    let headers = [("X-Plex-Container-Start", "5"), ("X-Plex-Container-Size", "4")];
    assert_eq!(page("", &headers), (2, Some(7), Some(5), total()));
    assert_eq!(page("&X-Plex-Container-Start=1&X-Plex-Container-Size=3", &[]), (3, Some(7), Some(1), total()));
    assert_eq!(page("&X-Plex-Container-Start=0&X-Plex-Container-Size=0", &[]), (0, Some(7), Some(0), total()));
    assert_eq!(page("&X-Plex-Container-Start=9&X-Plex-Container-Size=3", &[]), (0, Some(7), Some(9), total()));
}

#[test]
fn a_head_request_counts_without_a_body() {
    let (plex, _) = start();
    let mut client = Client::to(&plex.url());
    let headers = [("X-Plex-Token", "owner-token"), ("X-Plex-Container-Start", "0"), ("X-Plex-Container-Size", "0")];
    let counted = client.send("HEAD", EPISODES, &headers).unwrap();
    assert_eq!(counted.header("X-Plex-Container-Total-Size"), Some("7"));
    // Were there a body, it would be taken for the next head.
    assert_eq!(client.send("GET", "/identity", &[]).unwrap().status, 200);
}

#[test]
fn a_connection_is_kept_and_gzip_is_used_only_when_accepted() {
    let (plex, _) = start();
    let mut client = Client::to(&plex.url());
    let plain = client.send("GET", EPISODES, &[("X-Plex-Token", "owner-token")]).unwrap();
    assert_eq!((plain.header("Connection"), plain.header("Keep-Alive")), (Some("Keep-Alive"), Some("timeout=20")));
    assert_eq!(plain.header("Content-Encoding"), None);
    let packed =
        client.send("GET", EPISODES, &[("X-Plex-Token", "owner-token"), ("Accept-Encoding", "deflate, gzip")]).unwrap();
    assert_eq!(packed.header("Content-Encoding"), Some("gzip"));
    assert_eq!(packed.body, plain.body);
}

#[test]
fn a_head_in_pieces_is_read_and_a_monstrous_one_is_hung_up_on() {
    let (plex, _) = start();
    let mut client = Client::to(&plex.url());
    client.0.write_all(b"GET /identity HTTP/1.1\r\nX-First: 1\r").unwrap();
    // The second half is sent as the rest of a request line that `send` would begin.
    assert_eq!(client.send("\nX-Rest:", "x", &[]).unwrap().status, 200);
    let padding = "x".repeat(1 << 20);
    assert!(client.send("GET", "/identity", &[("X-Padding", &padding)]).is_err());
}

#[test]
fn the_home_screen_leaves_out_hidden_sections_and_a_section_does_not() {
    let (plex, _) = start();
    assert_eq!(json(&plex, "/library/onDeck").titles(), ["Ägypten \"1\" & <2>"]);
    assert_eq!(json(&plex, DECK).titles(), ["Episode 2"]);
}

#[test]
fn every_user_has_an_own_deck_own_views_and_own_sections() {
    let (plex, keys) = start();
    assert_eq!(json_as(&plex, "anna-token", DECK).json()["size"], 0, "anna has seen the last episode");
    let show = format!("/library/metadata/{}", keys.show);
    for token in ["owner-token", "anna-token"] {
        assert_eq!(json_as(&plex, token, &show).column("viewedLeafCount"), [1]);
        assert_eq!(json_as(&plex, token, &format!("{EPISODES}&unwatched=1")).json()["size"], 6);
    }
    let unseen =
        |token| json_as(&plex, token, &format!("{EPISODES}&unwatched=1&show.id={}", keys.show)).column("index");
    assert_eq!(unseen("owner-token"), [1, 2, 3, 1, 2, 3]);
    assert_eq!(unseen("anna-token"), [1, 1, 2, 3, 1, 2]);

    plex.edit(|library| library.share_only("anna", &[1]));
    assert_eq!(json_as(&plex, "anna-token", "/library/sections").json()["size"], 1);
    for hidden in [&show, DECK, EPISODES, &format!("{show}/children")] {
        assert_eq!(json_as(&plex, "anna-token", hidden).status, 404, "{hidden}");
    }
}

#[test]
fn a_finished_episode_gives_its_place_on_deck_to_the_next_unseen_one() {
    let (plex, keys) = start();
    let deck = || {
        let answer = json(&plex, DECK).json();
        answer["Metadata"][0]["parentIndex"].as_i64().zip(answer["Metadata"][0]["index"].as_i64())
    };
    let watch = |season, index| {
        plex.edit(|library| {
            let episode = library.episode(&keys.show, season, index);
            library.mark_watched("owner", &episode, NOW);
        });
    };
    assert_eq!(deck(), Some((1, 2)));
    watch(1, 3);
    assert_eq!(deck(), Some((2, 1)), "across the end of the season, the gap is left");
    watch(2, 2);
    assert_eq!(deck(), Some((2, 3)));
    watch(2, 3);
    assert_eq!(deck(), None);
}

#[test]
fn on_deck_is_bounded_by_window_and_limit() {
    let (plex, _) = start();
    let keys: Vec<RatingKey> = plex.edit(|library| {
        let add = |number: i64| library.add_movie(1, &format!("Movie {number}"), 2000, &[]);
        (0..50).map(add).collect()
    });
    plex.edit(|library| {
        for (age, key) in (0..).zip(&keys) {
            library.set_on_deck("owner", key, Some(NOW - age), 1);
        }
    });
    let deck = json(&plex, "/library/sections/1/onDeck").titles();
    assert_eq!((deck.len(), deck[0].as_str(), deck[39].as_str()), (40, "Movie 0", "Movie 39"));
    plex.edit(|library| library.set_on_deck("owner", &keys[0], Some(NOW - 17 * 7 * 86_400), 1));
    assert_eq!(json(&plex, "/library/sections/1/onDeck").titles()[0], "Movie 1");
}

#[test]
fn filters_and_sorting_follow_the_query_language() {
    let (plex, keys) = start();
    plex.edit(|library| {
        for (index, age) in [(1, 10), (2, 40), (3, 20)] {
            let key = library.episode(&keys.show, 1, index);
            library.item_mut(&key).added_at = NOW - age * 86_400;
        }
    });
    let count = |query: &str| json(&plex, &format!("{EPISODES}{query}")).json()["size"].as_i64().unwrap();
    let cases = [
        ("", 7),
        ("&addedAt%3E%3E=-30d", 6),
        ("&addedAt%3C%3C=-30d", 1),
        (&format!("&addedAt%3E%3E={}", NOW - 20 * 86_400), 5),
        (&format!("&addedAt%3E={}", NOW - 20 * 86_400), 6),
        ("&viewCount%3E%3E=0", 1),
        ("&season.index=1", 3),
        ("&season.index=1,2", 6),
        ("&season.index!=1", 4),
        ("&title=episode%203", 2),
        (&format!("&show.id={}", keys.show), 7),
        (&format!("&show.id={},999", keys.show), 7),
        ("&show.id=999", 0),
        ("&guid=plex%3A%2F%2Fepisode%2F0", 0),
        ("&inProgress=1", 0),
        ("&no.such.filter=1&nor.this%3E%3E=2", 7),
        ("&limit=3", 3),
    ];
    for (query, expected) in cases {
        assert_eq!(count(query), expected, "{query}");
    }
    let sorted = |sort: &str| json(&plex, &format!("{EPISODES}&season.index=1&sort={sort}")).column("index");
    assert_eq!(sorted("addedAt:desc"), [1, 3, 2]);
    assert_eq!(sorted("addedAt"), [2, 3, 1]);
    assert_eq!(sorted("episode.index:desc"), [3, 2, 1]);

    let shows = |query: &str| json(&plex, &format!("/library/sections/2/all?type=2{query}")).json()["size"].clone();
    assert_eq!((shows(""), shows("&unwatchedLeaves=1"), shows("&unwatchedLeaves=0")), (1.into(), 1.into(), 0.into()));
    assert_eq!(json(&plex, "/library/sections/2/all").titles(), ["The Show"], "a section lists its own type");
    assert_eq!(json(&plex, "/library/sections/1/all?duplicate=1").json()["size"], 1);
    assert_eq!(json(&plex, "/library/sections/99/all").status, 404);
    assert_eq!(json(&plex, "/library/sections/1/all?limit=0").status, 500);
}

#[test]
fn a_batch_leaves_out_what_is_gone_and_fails_when_all_is() {
    let (plex, keys) = start();
    let both = format!("/library/metadata/{},999999", keys.film);
    assert_eq!(json(&plex, &both).json()["size"], 1);
    plex.edit(|library| library.remove(&keys.film));
    assert_eq!(json(&plex, &both).status, 404);
}

#[test]
fn the_row_of_all_episodes_counts_but_stands_beside_the_seasons() {
    let (plex, keys) = start();
    let children = format!("/library/metadata/{}/children", keys.show);
    let answer = json(&plex, &children).json();
    assert_eq!((&answer["size"], answer["Metadata"].as_array().unwrap().len()), (&4.into(), 3));
    assert_eq!(answer["Directory"][0]["title"], "All episodes");
    assert_eq!((answer["Directory"][0].get("ratingKey"), answer["Directory"][0].get("type")), (None, None));
    let xml = ask(&plex, &children, &[("X-Plex-Token", "owner-token")]);
    assert!(xml.text().lines().nth(2).unwrap().contains("title=\"All episodes\""), "{}", xml.text());
    assert_eq!(json(&plex, &format!("{children}?excludeAllLeaves=1")).json()["size"], 3);
}

#[test]
fn a_transcoded_session_hides_the_file_but_keeps_the_ids() {
    let (plex, keys) = start();
    let session = plex.edit(|library| library.start_session("anna", &keys.film, true));
    let row = json(&plex, "/status/sessions").json()["Metadata"][0].clone();
    let part = &row["Media"][0]["Part"][0];
    assert_eq!((&part["file"], part.get("size"), &part["decision"]), (&"a cd1.mkv".into(), None, &"transcode".into()));
    let page = json(&plex, &format!("/library/metadata/{}", keys.film)).json()["Metadata"][0].clone();
    assert_eq!(page["Media"][0]["Part"][0]["id"].to_string(), part["id"].as_str().unwrap());
    plex.edit(|library| library.stop_session(&session));
    assert_eq!(json(&plex, "/status/sessions").json()["size"], 0);
}

#[test]
fn history_outlives_its_item_and_can_be_filtered() {
    let (plex, keys) = start();
    let all = "/status/sessions/history/all?sort=viewedAt:desc";
    assert_eq!(json(&plex, all).titles(), ["Episode 3", "Episode 1"]);
    assert_eq!(json(&plex, &format!("{all}&accountID=1")).titles(), ["Episode 1"]);
    assert_eq!(json(&plex, &format!("{all}&viewedAt%3E={}", NOW - 50)).titles(), ["Episode 3"]);
    assert_eq!(json(&plex, &format!("{all}&librarySectionID=1")).json()["size"], 0);
    plex.edit(|library| library.remove(&keys.show));
    assert_eq!(json(&plex, all).column("ratingKey"), [Value::Null, Value::Null]);
    assert_eq!(json(&plex, all).titles(), ["Episode 3", "Episode 1"]);
}

#[test]
fn check_files_looks_at_the_real_file() {
    let folder = tempfile::tempdir().unwrap();
    drop(std::fs::File::create_new(folder.path().join("b.mkv")).unwrap());
    let (plex, _) = start();
    let key = plex.edit(|library| {
        library.map_local("/data/movies", folder.path());
        library.add_movie(1, "B", 2001, &[Media::stacked(&[("/data/movies/b.mkv", 0), ("/data/movies/gone.mkv", 1)])])
    });
    let parts = |query: &str| {
        let page = json(&plex, &format!("/library/metadata/{key}{query}")).json();
        let parts = page["Metadata"][0]["Media"][0]["Part"].as_array().unwrap().clone();
        parts.iter().map(|part| part["exists"].as_bool().zip(part["accessible"].as_bool())).collect::<Vec<_>>()
    };
    assert_eq!(parts("?checkFiles=1"), [Some((true, true)), Some((false, false))]);
    assert_eq!(parts(""), [None, None]);
    let file = folder.path().join("b.mkv");
    std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    assert_eq!(parts("?checkFiles=1"), [Some((true, false)), Some((false, false))]);
    plex.edit(|library| library.checks_files = false);
    assert_eq!(parts("?checkFiles=1"), [None, None]);
}

#[test]
fn the_server_sees_a_union_and_only_what_is_not_hidden_from_it() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    for file in ["cache/a.mkv", "cache/b.mkv", "disk/c.mkv"] {
        std::fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
        std::fs::write(root.join(file), "x").unwrap();
    }
    std::os::unix::fs::symlink(root.join("cache/b.mkv"), root.join("disk/b.mkv")).unwrap();
    let (plex, _) = start();
    let sees = |file: &str| {
        let key = plex.edit(|library| library.add_movie(1, "B", 2001, &[Media::file(file, 1)]));
        let page = json(&plex, &format!("/library/metadata/{key}?checkFiles=1")).json();
        page["Metadata"][0]["Media"][0]["Part"][0]["exists"].as_bool().unwrap()
    };
    plex.edit(|library| {
        library.map_local("/films", root.join("cache"));
        library.map_local("/films", root.join("disk"));
        library.map_local("/films/deep", root.join("nowhere"));
        library.map_local(r"D:\Films", root.join("disk"));
    });
    let files = ["/films/a.mkv", "/films/b.mkv", "/films/c.mkv", "/films/deep/c.mkv", "/filmsc.mkv", r"d:\films\c.mkv"];
    assert_eq!(files.map(sees), [true, true, true, false, false, true]);
    plex.edit(|library| library.hide_local(root.join("cache")));
    assert_eq!(files.map(sees), [false, false, true, false, false, true]);
}

#[test]
fn files_can_be_renamed_resized_shared_and_missing() {
    let (plex, keys) = start();
    plex.edit(|library| {
        let double = library.add_episode(&keys.show, 3, 1, "Both, part 1", "/data/tv/double.mkv", 5);
        library.add_episode(&keys.show, 3, 2, "Both, part 2", "/data/tv/double.mkv", 5);
        library.rename_file("/data/tv/double.mkv", "/data/tv/two.mkv");
        library.resize_file("/data/tv/two.mkv", 6);
        library.add_episode_media(&keys.show, 3, 3, "Being recorded", &[Media::without_file()]);
        library.item_mut(&double).index = None;
    });
    let rows = json(&plex, &format!("{EPISODES}&season.index=3&sort=title")).json();
    let part = |row: usize| rows["Metadata"][row]["Media"][0]["Part"][0].clone();
    assert_eq!((part(0).get("file"), part(0).get("size")), (None, None));
    for row in [1, 2] {
        assert_eq!((&part(row)["file"], &part(row)["size"]), (&"/data/tv/two.mkv".into(), &6.into()));
    }
    assert_eq!(rows["Metadata"][1].get("index"), None);
}

#[test]
fn a_scan_is_noted_and_every_other_write_is_refused_and_recorded() {
    let (plex, _) = start();
    for (path, takes_effect) in [
        ("/data/tv/A%20%26%20B", true),
        ("/data/tv", true),
        ("/data/tvx", false),
        ("/data/tv/The%20Show/1x01.mkv", false),
    ] {
        let answer = json(&plex, &format!("/library/sections/2/refresh?path={path}"));
        assert_eq!((answer.status, answer.body.len(), answer.header("Content-Type")), (200, 0, Some("text/html")));
        assert_eq!(plex.edit(|library| library.refreshes().last().unwrap().takes_effect), takes_effect, "{path}");
    }
    assert_eq!(plex.edit(|library| library.refreshes()[0].path.clone()).as_deref(), Some("/data/tv/A & B"));
    plex.clear_requests();
    for method in ["PUT", "POST", "DELETE"] {
        let token = [("X-Plex-Token", "owner-token")];
        assert_eq!(
            Client::to(&plex.url()).send(method, "/library/metadata/1?a=%C3%A4%20b", &token).unwrap().status,
            404
        );
    }
    let requests = plex.requests();
    assert_eq!(requests.iter().map(|request| request.method.as_str()).collect::<Vec<_>>(), ["PUT", "POST", "DELETE"]);
    assert_eq!((requests[0].arg("a"), requests[0].user.as_deref()), (Some("ä b"), Some("owner")));
    assert_eq!(requests[0].header("x-plex-token"), Some("owner-token"));
}

#[test]
fn a_fault_meets_the_requests_it_was_made_for_and_no_others() {
    let (plex, _) = start();
    plex.faults(|faults| {
        let matcher = Matcher::path("/library/sections").user("anna").with("type", "4").skip(1).times(2);
        faults.add(matcher, Fault::Status(500));
    });
    assert_eq!(json(&plex, EPISODES).status, 200, "another user");
    assert_eq!(json_as(&plex, "anna-token", "/library/onDeck").status, 200, "another path");
    assert_eq!(json_as(&plex, "anna-token", "/library/sections/2/all?type=2").status, 200, "another argument");
    let statuses = [(); 5].map(|()| json_as(&plex, "anna-token", EPISODES).status);
    assert_eq!(statuses, [200, 500, 500, 200, 200]);
}

/// Runs one request for JSON under one fault.
fn under(fault: Fault, target: &str) -> io::Result<Answer> {
    let (plex, _) = start();
    plex.faults(|faults| faults.add(Matcher::any(), fault));
    try_json(&plex, target)
}

#[test]
fn faults_of_status_carry_the_pages_of_a_real_server() {
    let cases = [
        (Fault::Status(500), 500, "<h1>500 Internal Server Error</h1>"),
        (Fault::Maintenance, 503, "<Response code=\"503\" title=\"Maintenance\""),
        (Fault::TooManyRequests { retry_after: None }, 429, "429"),
        (Fault::LoginPage, 200, "<!DOCTYPE html>"),
        (Fault::EmptyBody, 200, ""),
        (Fault::Redirect("http://other".to_owned()), 302, ""),
        (Fault::AlwaysXml, 200, "<MediaContainer "),
    ];
    for (fault, status, body) in cases {
        let answer = under(fault.clone(), DECK).unwrap();
        assert_eq!(answer.status, status, "{fault:?}");
        assert!(answer.text().contains(body), "{fault:?}: {}", answer.text());
        assert_eq!(answer.body.is_empty(), body.is_empty(), "{fault:?}");
    }
    let limited = under(Fault::TooManyRequests { retry_after: Some(7) }, DECK).unwrap();
    assert_eq!(limited.header("Retry-After"), Some("7"));
    let moved = under(Fault::Redirect("http://other".to_owned()), "/library/onDeck?a=1").unwrap();
    assert_eq!(moved.header("Location"), Some("http://other/library/onDeck?a=1"));
}

#[test]
fn faults_of_the_connection_end_it_as_named() {
    assert_eq!(under(Fault::Reset, DECK).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(under(Fault::Truncated, DECK).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    let chunked = under(Fault::Chunked, DECK).unwrap();
    assert_eq!((chunked.header("Content-Length"), chunked.titles()), (None, vec!["Episode 2".to_owned()]));

    let (plex, _) = start();
    plex.faults(|faults| faults.add(Matcher::any(), Fault::Closed));
    let mut client = Client::to(&plex.url());
    assert_eq!(client.send("GET", "/identity", &[]).unwrap().header("Connection"), Some("Keep-Alive"));
    assert!(client.send("GET", "/identity", &[]).is_err());
}

#[test]
fn a_server_that_hangs_or_waits_still_stops_at_once() {
    for fault in [Fault::Hang, Fault::Delay(Duration::from_secs(3600))] {
        let (plex, _) = start();
        plex.faults(|faults| faults.add(Matcher::any(), fault));
        let mut client = Client::to(&plex.url());
        client.0.write_all(b"GET /identity HTTP/1.1\r\n\r\n").unwrap();
        while plex.requests().is_empty() {
            std::thread::yield_now();
        }
        // Nothing else would end the wait: neither fault gives up by itself while the client is there.
        drop(plex);
        assert_eq!(client.0.read(&mut [0]).unwrap(), 0);
    }
}

#[test]
fn faults_of_bytes_break_the_text() {
    let not_utf8 = under(Fault::InvalidUtf8, DECK).unwrap();
    assert!(std::str::from_utf8(&not_utf8.body).is_err());
    let latin1 = under(Fault::Latin1, "/library/onDeck").unwrap();
    assert!(latin1.body.windows(7).any(|window| window == b"\xc4gypten"));
    for fault in [Fault::ControlCharacters, Fault::LoneSurrogates, Fault::ByteOrderMark] {
        let broken = under(fault.clone(), DECK).unwrap();
        assert!(serde_json::from_slice::<Value>(&broken.body).is_err(), "{fault:?}");
    }
    assert!(under(Fault::HugeBody(12 << 20), DECK).unwrap().body.len() > 12 << 20);
}

#[test]
fn faults_of_shape_stay_json() {
    let row = |fault: Fault| under(fault, DECK).unwrap().json()["Metadata"].clone();
    assert!(row(Fault::SingleObjects)["Media"]["Part"]["file"].is_string());
    assert_eq!(row(Fault::NumbersAsStrings)[0]["Media"][0]["Part"][0]["size"], "12");
    assert_eq!(row(Fault::BadRow(0))[0], "not an item");
    assert_eq!(row(Fault::LostRows), Value::Null);
    let lost = under(Fault::LostRow, DECK).unwrap().json();
    assert_eq!((&lost["size"], &lost["Metadata"]), (&Value::from(1), &Value::Array(Vec::new())));
    let empty = "/library/sections/2/all?type=1";
    assert_eq!(under(Fault::NullLists, empty).unwrap().json().get("Metadata"), Some(&Value::Null));
    assert_eq!(under(Fault::EmptyLists, empty).unwrap().json()["Metadata"], Value::Array(Vec::new()));
    let twice = under(Fault::DuplicateKeys, DECK).unwrap();
    assert!(twice.text().matches("\"size\":").count() > 2 && twice.json()["size"] == 1, "{}", twice.text());
}

#[test]
fn faults_of_paging_give_fewer_or_other_rows() {
    let page = |fault: Fault, start: usize| {
        let target = format!("{EPISODES}&X-Plex-Container-Start={start}&X-Plex-Container-Size=3");
        let answer = under(fault, &target).unwrap();
        (answer.column("index"), answer.json()["totalSize"].as_i64().unwrap())
    };
    let numbers = |numbers: &[i64]| numbers.iter().copied().map(Value::from).collect::<Vec<_>>();
    assert_eq!(page(Fault::PageCap(1), 0), (numbers(&[1]), 7));
    assert_eq!(page(Fault::ShiftedPages(1), 0), (numbers(&[1, 1, 2]), 7));
    assert_eq!(page(Fault::ShiftedPages(1), 3), (numbers(&[2, 3, 1]), 8));
    assert_eq!(page(Fault::ShiftedPages(-1), 3), (numbers(&[1, 2, 3]), 6));
}

#[test]
#[ignore = "needs python3 with venv and PyPI"]
fn python_plexapi_reads_the_stand_in() {
    let (mut library, keys) = household();
    let (pilot, second) = (library.episode(&keys.show, 1, 1), library.episode(&keys.show, 1, 2));
    library.start_session("owner", &second, false);
    let paused = library.start_session("anna", &keys.film, true);
    "paused".clone_into(&mut library.session_mut(&paused).state);
    library.add_playlist("owner", "Later", &[&keys.film, &pilot]);
    library.add_collection(1, "Favourites", &[&keys.film]);
    let plex = FakePlex::start(library);

    let folder = tempfile::tempdir().unwrap();
    let venv = folder.path().join("venv");
    let run = |command: &mut Command| {
        let output = command.output().unwrap();
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{command:?}\n{out}\n{error}");
    };
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv));
    let python = venv.join("bin/python");
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "plexapi==4.18.*"]));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/plexapi_check.py");
    // Its own home: no configuration of the user may change what the client asks.
    run(Command::new(&python).arg(script).args([&plex.url(), "owner-token"]).env("HOME", folder.path()));
    assert!(plex.requests().iter().all(|request| request.method == "GET"), "reading writes nothing");
}

#[test]
fn a_pin_of_plex_tv_waits_to_be_typed_and_is_forgotten_in_the_end() {
    let (plex, _) = start();
    let pin = |method: &str, path: &str, headers: &[(&str, &str)]| {
        let answer = Client::to(&plex.outside_url()).send(method, path, headers).unwrap();
        (answer.status, serde_json::from_slice::<Value>(&answer.body).unwrap())
    };
    let client = [("X-Plex-Client-Identifier", "a-client")];
    assert_eq!(pin("POST", "/plex.tv/api/v2/pins", &[]).0, 400);
    let (status, given) = pin("POST", "/plex.tv/api/v2/pins", &client);
    assert_eq!((status, &given["authToken"]), (201, &Value::Null));
    let path = format!("/plex.tv/api/v2/pins/{}", given["id"]);
    plex.edit(|library| library.link_pin(1, "linked-token"));
    assert_eq!(pin("GET", &path, &client).1["authToken"], Value::Null);
    assert_eq!(pin("GET", &path, &client).1["authToken"], "linked-token");
    assert_eq!(pin("GET", "/plex.tv/api/v2/pins/1", &client).0, 404);
    plex.edit(Library::expire_pin);
    assert_eq!(pin("GET", &path, &client).1["errors"][0]["code"], 1020);
}
