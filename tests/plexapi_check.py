"""Reads a running stand-in server with python-plexapi, a client that knows nothing of this project.

Usage: plexapi_check.py URL TOKEN

Expects the library that tests/fake_plex.rs sets up for this purpose. Ends with status 0 when every
value is as expected, and with a traceback otherwise.
"""

import sys

from plexapi.exceptions import NotFound, Unauthorized
from plexapi.server import PlexServer

NOW = 1_780_000_000


def same(what, got, expected):
    if got != expected:
        raise AssertionError(f"{what}: got {got!r}, expected {expected!r}")


def main(url, token):
    plex = PlexServer(url, token)
    same("name", plex.friendlyName, "Stand-in")
    same("platform", plex.platform, "Linux")
    same("Plex Pass", plex.myPlexSubscription, True)
    same("deletion allowed", plex.allowMediaDeletion, None)

    movies, shows = plex.library.sections()
    same("titles", [movies.title, shows.title], ["Movies", "TV & more"])
    same("types", [movies.type, shows.type], ["movie", "show"])
    same("keys", [movies.key, shows.key], [1, 2])
    same("locations", shows.locations, ["/data/tv", "/data/more <tv>"])
    same("refreshing", shows.refreshing, False)
    same("episodes, only counted", shows.totalViewSize(libtype="episode", includeCollections=False), 7)

    # On deck of each section, and of the home screen, from which the shows are hidden.
    (film,) = movies.onDeck()
    same("film", (film.title, film.year, film.viewOffset), ("Ägypten \"1\" & <2>", 1999, 600_000))
    same("film last viewed", film.lastViewedAt.timestamp(), NOW - 3600)
    same("versions", [media.videoResolution for media in film.media], ["4k", "1080"])
    same("optimised", [media.isOptimizedVersion for media in film.media], [False, True])
    same("stacked", [part.file for part in film.media[0].parts], ["/data/movies/a cd1.mkv", "/data/movies/a cd2.mkv"])
    same("sizes", [part.size for part in film.media[0].parts], [15_000_000_000, 2])
    same("external ids", [guid.id for guid in film.guids], ["imdb://tt0000001"])
    (episode,) = shows.onDeck()
    same("episode", episode.seasonEpisode, "s01e02")
    same("show of it", (episode.grandparentTitle, episode.parentTitle), ("The Show", "Season 1"))
    same("section of it", episode.librarySectionID, 2)
    same("home screen", [item.title for item in plex.library.onDeck()], [film.title])

    # A show: seasons, episodes, watch state.
    (show,) = shows.all()
    same("show", (show.title, show.leafCount, show.viewedLeafCount, show.childCount), ("The Show", 7, 1, 3))
    same("folders", show.locations, ["/data/tv/The Show"])
    seasons = show.seasons()
    same("seasons", [(season.title, season.index) for season in seasons], [("Specials", 0), ("Season 1", 1), ("Season 2", 2)])
    same("season's episodes", [item.index for item in seasons[1].episodes()], [1, 2, 3])
    episodes = show.episodes()
    same("leaves", [item.seasonEpisode for item in episodes], ["s00e01", "s01e01", "s01e02", "s01e03", "s02e01", "s02e02", "s02e03"])
    same("watched", [item.isPlayed for item in episodes], [False, True, False, False, False, False, False])
    same("files", episodes[1].locations, ["/data/tv/The Show/1x01.mkv"])
    same("one episode", show.episode(season=2, episode=3).title, "Episode 3")
    same("streams", [stream.codec for stream in episodes[1].reload().media[0].parts[0].streams], ["h264", "aac"])
    same("search", [item.index for item in shows.search(libtype="episode", title="Episode 3")], [3, 3])
    same("batch", [item.title for item in plex.fetchItems([int(film.ratingKey), int(show.ratingKey)])], [film.title, "The Show"])

    # Everything comes through even in pages of two.
    same("pages", len(shows.search(libtype="episode", container_size=2)), 7)

    # What plays now, as it is and transcoded.
    direct, transcoded = plex.sessions()
    same("players", [session.player.state for session in (direct, transcoded)], ["playing", "paused"])
    same("users", [session.usernames for session in (direct, transcoded)], [["owner"], ["anna"]])
    same("session keys", [session.sessionKey for session in (direct, transcoded)], [1, 2])
    same("direct", (direct.title, direct.transcodeSession), ("Episode 2", None))
    same("direct file", direct.media[0].parts[0].file, "/data/tv/The Show/1x02.mkv")
    same("decision", transcoded.transcodeSession.videoDecision, "transcode")
    same("transcoded file", transcoded.media[0].parts[0].file, "a cd1.mkv")
    same("its source", transcoded.source().media[0].parts[0].file, "/data/movies/a cd1.mkv")
    same("its part", transcoded.source().media[0].parts[0].id, transcoded.media[0].parts[0].id)

    # History and accounts.
    history = plex.history()
    same("history", [(item.title, item.accountID) for item in history], [("Episode 3", 1001), ("Episode 1", 1)])
    same("viewed at", [int(item.viewedAt.timestamp()) for item in history], [NOW - 50, NOW - 100])
    same("history source", history[1].source().seasonEpisode, "s01e01")
    same("history of one", [item.title for item in plex.history(accountID=1)], ["Episode 1"])
    same("accounts", [(item.id, item.name) for item in plex.systemAccounts()], [(0, ""), (1, "owner"), (1001, "anna")])
    same("settings", plex.settings.get("OnDeckWindow").value, 16)

    # Playlists and collections.
    (playlist,) = plex.playlists()
    same("playlist", [item.title for item in playlist.items()], [film.title, "Episode 1"])
    (collection,) = movies.collections()
    same("collection", (collection.title, collection.childCount), ("Favourites", 1))
    same("its items", [item.title for item in collection.items()], [film.title])

    # What is not there, and who may not.
    for missing in ("/library/metadata/999999", "/library/sections/99/all", "/no/such/path"):
        try:
            plex.query(missing)
        except NotFound:
            continue
        raise AssertionError(f"{missing} was found")
    try:
        PlexServer(url, "wrong")
    except Unauthorized:
        return
    raise AssertionError("a wrong token was let in")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
