#!/bin/bash
#name=plexcache sync
#description=Copy what Plex will play next to the SSD
#arrayStarted=true
#noParity=true
#clearLog=true
#argumentDescription=Extra arguments, for example --dry-run
#argumentDefault=

# For the User Scripts plugin: add a script, paste this, choose a schedule other than 03:40 (the mover) and
# test it with "Run in background": closing the window of "Run script" would stop it. The lines above are
# read by the plugin.
#
# The program lies on a pool, because files on the flash drive cannot be executed; so do its configuration and
# its state, because everything outside /mnt and /boot is gone after a reboot.

readonly folder=/mnt/cache/appdata/plexcache
readonly notify=/usr/local/emhttp/webGui/scripts/notify

# The plugin passes the arguments as one string in the foreground and as words in the background. In neither
# can an argument contain a space.
read -ra arguments <<<"$*"

"$folder/plexcache" --config "$folder/config.toml" --state-dir "$folder/state" \
    --color never --no-progress --no-input sync "${arguments[@]}"
status=$?

# The plugin ignores the exit status, so trouble would go unseen.
case $status in
    0) exit 0 ;;
    75) exit 0 ;; # another run holds the lock and does the work
    3) problem="finished, but some files failed" ;;
    4) problem="refused for safety" ;;
    69) problem="Plex does not answer" ;;
    77) problem="no permission, or the Plex token was rejected" ;;
    78) problem="the configuration is wrong" ;;
    130 | 143) problem="stopped before it was done" ;;
    *) problem="failed" ;;
esac
"$notify" -e "plexcache user script" -s "plexcache sync: $problem" \
    -d "Exit status $status. The log of the user script says more." -i warning
exit "$status"
