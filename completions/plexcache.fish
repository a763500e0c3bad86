# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_plexcache_global_optspecs
    string join \n c/config= state-dir= n/dry-run y/yes q/quiet v/verbose json color= no-progress no-input wait= bwlimit= max-transfer= max-duration= exit-code h/help V/version
end

function __fish_plexcache_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_plexcache_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_plexcache_using_subcommand
    set -l cmd (__fish_plexcache_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c plexcache -n "__fish_plexcache_needs_command" -s c -l config -d 'Read the configuration from FILE' -r
complete -c plexcache -n "__fish_plexcache_needs_command" -l state-dir -d 'Keep history and state in DIR' -r
complete -c plexcache -n "__fish_plexcache_needs_command" -l color -d 'Colour the output' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c plexcache -n "__fish_plexcache_needs_command" -l wait -d 'Wait for another run to end, for ever or for DURATION' -r
complete -c plexcache -n "__fish_plexcache_needs_command" -l bwlimit -d 'Copy at most so many bytes a second, such as 50MB/s' -r
complete -c plexcache -n "__fish_plexcache_needs_command" -l max-transfer -d 'Begin no further file after so many bytes were copied' -r
complete -c plexcache -n "__fish_plexcache_needs_command" -l max-duration -d 'Begin no further file after so long' -r
complete -c plexcache -n "__fish_plexcache_needs_command" -s n -l dry-run -d 'Show what would be done and change nothing (sync, evict, undo, init)'
complete -c plexcache -n "__fish_plexcache_needs_command" -s y -l yes -d 'Answer questions with yes, and accept replaced or removed disks and another server'
complete -c plexcache -n "__fish_plexcache_needs_command" -s q -l quiet -d 'Print nothing unless something is wrong'
complete -c plexcache -n "__fish_plexcache_needs_command" -s v -l verbose -d 'Say more; twice for the requests to Plex and each step with a file'
complete -c plexcache -n "__fish_plexcache_needs_command" -l json -d 'Print JSON lines'
complete -c plexcache -n "__fish_plexcache_needs_command" -l no-progress -d 'Show no progress bars'
complete -c plexcache -n "__fish_plexcache_needs_command" -l no-input -d 'Never ask; what would need an answer is refused'
complete -c plexcache -n "__fish_plexcache_needs_command" -l exit-code -d 'With --dry-run: exit with 10 when there is something to do'
complete -c plexcache -n "__fish_plexcache_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c plexcache -n "__fish_plexcache_needs_command" -s V -l version -d 'Print version'
complete -c plexcache -n "__fish_plexcache_needs_command" -f -a "init" -d 'Write a configuration'
complete -c plexcache -n "__fish_plexcache_needs_command" -f -a "sync" -d 'Cache what Plex will play next and evict what is no longer wanted'
complete -c plexcache -n "__fish_plexcache_needs_command" -f -a "evict" -d 'Take files off the cache'
complete -c plexcache -n "__fish_plexcache_needs_command" -f -a "status" -d 'Show what is on the cache, why, and until when'
complete -c plexcache -n "__fish_plexcache_needs_command" -f -a "undo" -d 'Take back a run'
complete -c plexcache -n "__fish_plexcache_needs_command" -f -a "history" -d 'Show the runs and what they did'
complete -c plexcache -n "__fish_plexcache_needs_command" -f -a "check" -d 'Look for what is wrong, and say what to do about it'
complete -c plexcache -n "__fish_plexcache_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c plexcache -n "__fish_plexcache_using_subcommand init" -l url -d 'The address of the Plex server; none: port 32400 of this machine' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand init" -l token-file -d 'Use the token in FILE, and leave it there' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand init" -l preferences -d 'Take the token from this Preferences.xml of Plex' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand init" -l cache -d 'The fast disk, or a folder on it' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand init" -l map -d 'Plex\'s folder PLEX is DIR on this machine (repeatable)' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand init" -l import -d 'Take over the settings of PlexCache-D in FILE, and what it has cached' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand init" -s c -l config -d 'Read the configuration from FILE' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand init" -l state-dir -d 'Keep history and state in DIR' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand init" -l color -d 'Colour the output' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c plexcache -n "__fish_plexcache_using_subcommand init" -l wait -d 'Wait for another run to end, for ever or for DURATION' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand init" -l bwlimit -d 'Copy at most so many bytes a second, such as 50MB/s' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand init" -l max-transfer -d 'Begin no further file after so many bytes were copied' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand init" -l max-duration -d 'Begin no further file after so long' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand init" -l link -d 'Get a token by a code that you type at plex.tv/link'
complete -c plexcache -n "__fish_plexcache_using_subcommand init" -l adopt -d 'Only take over what PlexCache-D has cached; the configuration is there'
complete -c plexcache -n "__fish_plexcache_using_subcommand init" -l force -d 'Replace a configuration that is there'
complete -c plexcache -n "__fish_plexcache_using_subcommand init" -s n -l dry-run -d 'Show what would be done and change nothing (sync, evict, undo, init)'
complete -c plexcache -n "__fish_plexcache_using_subcommand init" -s y -l yes -d 'Answer questions with yes, and accept replaced or removed disks and another server'
complete -c plexcache -n "__fish_plexcache_using_subcommand init" -s q -l quiet -d 'Print nothing unless something is wrong'
complete -c plexcache -n "__fish_plexcache_using_subcommand init" -s v -l verbose -d 'Say more; twice for the requests to Plex and each step with a file'
complete -c plexcache -n "__fish_plexcache_using_subcommand init" -l json -d 'Print JSON lines'
complete -c plexcache -n "__fish_plexcache_using_subcommand init" -l no-progress -d 'Show no progress bars'
complete -c plexcache -n "__fish_plexcache_using_subcommand init" -l no-input -d 'Never ask; what would need an answer is refused'
complete -c plexcache -n "__fish_plexcache_using_subcommand init" -l exit-code -d 'With --dry-run: exit with 10 when there is something to do'
complete -c plexcache -n "__fish_plexcache_using_subcommand init" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c plexcache -n "__fish_plexcache_using_subcommand sync" -s c -l config -d 'Read the configuration from FILE' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand sync" -l state-dir -d 'Keep history and state in DIR' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand sync" -l color -d 'Colour the output' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c plexcache -n "__fish_plexcache_using_subcommand sync" -l wait -d 'Wait for another run to end, for ever or for DURATION' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand sync" -l bwlimit -d 'Copy at most so many bytes a second, such as 50MB/s' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand sync" -l max-transfer -d 'Begin no further file after so many bytes were copied' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand sync" -l max-duration -d 'Begin no further file after so long' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand sync" -l no-evict -d 'Only cache; evict nothing, not even to make room'
complete -c plexcache -n "__fish_plexcache_using_subcommand sync" -s n -l dry-run -d 'Show what would be done and change nothing (sync, evict, undo, init)'
complete -c plexcache -n "__fish_plexcache_using_subcommand sync" -s y -l yes -d 'Answer questions with yes, and accept replaced or removed disks and another server'
complete -c plexcache -n "__fish_plexcache_using_subcommand sync" -s q -l quiet -d 'Print nothing unless something is wrong'
complete -c plexcache -n "__fish_plexcache_using_subcommand sync" -s v -l verbose -d 'Say more; twice for the requests to Plex and each step with a file'
complete -c plexcache -n "__fish_plexcache_using_subcommand sync" -l json -d 'Print JSON lines'
complete -c plexcache -n "__fish_plexcache_using_subcommand sync" -l no-progress -d 'Show no progress bars'
complete -c plexcache -n "__fish_plexcache_using_subcommand sync" -l no-input -d 'Never ask; what would need an answer is refused'
complete -c plexcache -n "__fish_plexcache_using_subcommand sync" -l exit-code -d 'With --dry-run: exit with 10 when there is something to do'
complete -c plexcache -n "__fish_plexcache_using_subcommand sync" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c plexcache -n "__fish_plexcache_using_subcommand evict" -l older-than -d 'What was cached longer ago than DURATION, such as 30d' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand evict" -l free -d 'Lowest priority first, until so much is freed' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand evict" -s c -l config -d 'Read the configuration from FILE' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand evict" -l state-dir -d 'Keep history and state in DIR' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand evict" -l color -d 'Colour the output' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c plexcache -n "__fish_plexcache_using_subcommand evict" -l wait -d 'Wait for another run to end, for ever or for DURATION' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand evict" -l bwlimit -d 'Copy at most so many bytes a second, such as 50MB/s' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand evict" -l max-transfer -d 'Begin no further file after so many bytes were copied' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand evict" -l max-duration -d 'Begin no further file after so long' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand evict" -l all -d 'Everything but what is pinned'
complete -c plexcache -n "__fish_plexcache_using_subcommand evict" -l pinned -d 'With --all: what is pinned too'
complete -c plexcache -n "__fish_plexcache_using_subcommand evict" -s n -l dry-run -d 'Show what would be done and change nothing (sync, evict, undo, init)'
complete -c plexcache -n "__fish_plexcache_using_subcommand evict" -s y -l yes -d 'Answer questions with yes, and accept replaced or removed disks and another server'
complete -c plexcache -n "__fish_plexcache_using_subcommand evict" -s q -l quiet -d 'Print nothing unless something is wrong'
complete -c plexcache -n "__fish_plexcache_using_subcommand evict" -s v -l verbose -d 'Say more; twice for the requests to Plex and each step with a file'
complete -c plexcache -n "__fish_plexcache_using_subcommand evict" -l json -d 'Print JSON lines'
complete -c plexcache -n "__fish_plexcache_using_subcommand evict" -l no-progress -d 'Show no progress bars'
complete -c plexcache -n "__fish_plexcache_using_subcommand evict" -l no-input -d 'Never ask; what would need an answer is refused'
complete -c plexcache -n "__fish_plexcache_using_subcommand evict" -l exit-code -d 'With --dry-run: exit with 10 when there is something to do'
complete -c plexcache -n "__fish_plexcache_using_subcommand evict" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c plexcache -n "__fish_plexcache_using_subcommand status" -l why -d 'Explain one file: who wants it, and what would evict it and when' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand status" -l html -d 'Write a page to FILE' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand status" -l prometheus -d 'Write metrics for Prometheus\' textfile collector to FILE' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand status" -s c -l config -d 'Read the configuration from FILE' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand status" -l state-dir -d 'Keep history and state in DIR' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand status" -l color -d 'Colour the output' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c plexcache -n "__fish_plexcache_using_subcommand status" -l wait -d 'Wait for another run to end, for ever or for DURATION' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand status" -l bwlimit -d 'Copy at most so many bytes a second, such as 50MB/s' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand status" -l max-transfer -d 'Begin no further file after so many bytes were copied' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand status" -l max-duration -d 'Begin no further file after so long' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand status" -l live -d 'Ask Plex and look at the array too'
complete -c plexcache -n "__fish_plexcache_using_subcommand status" -l nagios -d 'Print one line for Nagios, and exit with its statuses 0 to 3'
complete -c plexcache -n "__fish_plexcache_using_subcommand status" -s n -l dry-run -d 'Show what would be done and change nothing (sync, evict, undo, init)'
complete -c plexcache -n "__fish_plexcache_using_subcommand status" -s y -l yes -d 'Answer questions with yes, and accept replaced or removed disks and another server'
complete -c plexcache -n "__fish_plexcache_using_subcommand status" -s q -l quiet -d 'Print nothing unless something is wrong'
complete -c plexcache -n "__fish_plexcache_using_subcommand status" -s v -l verbose -d 'Say more; twice for the requests to Plex and each step with a file'
complete -c plexcache -n "__fish_plexcache_using_subcommand status" -l json -d 'Print JSON lines'
complete -c plexcache -n "__fish_plexcache_using_subcommand status" -l no-progress -d 'Show no progress bars'
complete -c plexcache -n "__fish_plexcache_using_subcommand status" -l no-input -d 'Never ask; what would need an answer is refused'
complete -c plexcache -n "__fish_plexcache_using_subcommand status" -l exit-code -d 'With --dry-run: exit with 10 when there is something to do'
complete -c plexcache -n "__fish_plexcache_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c plexcache -n "__fish_plexcache_using_subcommand undo" -l last -d 'Take back the last N runs' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand undo" -s c -l config -d 'Read the configuration from FILE' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand undo" -l state-dir -d 'Keep history and state in DIR' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand undo" -l color -d 'Colour the output' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c plexcache -n "__fish_plexcache_using_subcommand undo" -l wait -d 'Wait for another run to end, for ever or for DURATION' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand undo" -l bwlimit -d 'Copy at most so many bytes a second, such as 50MB/s' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand undo" -l max-transfer -d 'Begin no further file after so many bytes were copied' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand undo" -l max-duration -d 'Begin no further file after so long' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand undo" -s n -l dry-run -d 'Show what would be done and change nothing (sync, evict, undo, init)'
complete -c plexcache -n "__fish_plexcache_using_subcommand undo" -s y -l yes -d 'Answer questions with yes, and accept replaced or removed disks and another server'
complete -c plexcache -n "__fish_plexcache_using_subcommand undo" -s q -l quiet -d 'Print nothing unless something is wrong'
complete -c plexcache -n "__fish_plexcache_using_subcommand undo" -s v -l verbose -d 'Say more; twice for the requests to Plex and each step with a file'
complete -c plexcache -n "__fish_plexcache_using_subcommand undo" -l json -d 'Print JSON lines'
complete -c plexcache -n "__fish_plexcache_using_subcommand undo" -l no-progress -d 'Show no progress bars'
complete -c plexcache -n "__fish_plexcache_using_subcommand undo" -l no-input -d 'Never ask; what would need an answer is refused'
complete -c plexcache -n "__fish_plexcache_using_subcommand undo" -l exit-code -d 'With --dry-run: exit with 10 when there is something to do'
complete -c plexcache -n "__fish_plexcache_using_subcommand undo" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c plexcache -n "__fish_plexcache_using_subcommand history" -l path -d 'Only runs that touched a file whose path contains TEXT' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand history" -l since -d 'Only runs since WHEN: a date, a time, or a duration back, such as 7d' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand history" -l until -d 'Only runs until WHEN' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand history" -l command -d 'Only runs of this command' -r -f -a "sync\t''
evict\t''
undo\t''
init\t''"
complete -c plexcache -n "__fish_plexcache_using_subcommand history" -l limit -d 'Show at most N runs' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand history" -s c -l config -d 'Read the configuration from FILE' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand history" -l state-dir -d 'Keep history and state in DIR' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand history" -l color -d 'Colour the output' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c plexcache -n "__fish_plexcache_using_subcommand history" -l wait -d 'Wait for another run to end, for ever or for DURATION' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand history" -l bwlimit -d 'Copy at most so many bytes a second, such as 50MB/s' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand history" -l max-transfer -d 'Begin no further file after so many bytes were copied' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand history" -l max-duration -d 'Begin no further file after so long' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand history" -l failed -d 'Only runs in which something failed'
complete -c plexcache -n "__fish_plexcache_using_subcommand history" -l stats -d 'Show totals instead'
complete -c plexcache -n "__fish_plexcache_using_subcommand history" -l csv -d 'Print CSV'
complete -c plexcache -n "__fish_plexcache_using_subcommand history" -s n -l dry-run -d 'Show what would be done and change nothing (sync, evict, undo, init)'
complete -c plexcache -n "__fish_plexcache_using_subcommand history" -s y -l yes -d 'Answer questions with yes, and accept replaced or removed disks and another server'
complete -c plexcache -n "__fish_plexcache_using_subcommand history" -s q -l quiet -d 'Print nothing unless something is wrong'
complete -c plexcache -n "__fish_plexcache_using_subcommand history" -s v -l verbose -d 'Say more; twice for the requests to Plex and each step with a file'
complete -c plexcache -n "__fish_plexcache_using_subcommand history" -l json -d 'Print JSON lines'
complete -c plexcache -n "__fish_plexcache_using_subcommand history" -l no-progress -d 'Show no progress bars'
complete -c plexcache -n "__fish_plexcache_using_subcommand history" -l no-input -d 'Never ask; what would need an answer is refused'
complete -c plexcache -n "__fish_plexcache_using_subcommand history" -l exit-code -d 'With --dry-run: exit with 10 when there is something to do'
complete -c plexcache -n "__fish_plexcache_using_subcommand history" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c plexcache -n "__fish_plexcache_using_subcommand check" -s c -l config -d 'Read the configuration from FILE' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand check" -l state-dir -d 'Keep history and state in DIR' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand check" -l color -d 'Colour the output' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c plexcache -n "__fish_plexcache_using_subcommand check" -l wait -d 'Wait for another run to end, for ever or for DURATION' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand check" -l bwlimit -d 'Copy at most so many bytes a second, such as 50MB/s' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand check" -l max-transfer -d 'Begin no further file after so many bytes were copied' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand check" -l max-duration -d 'Begin no further file after so long' -r
complete -c plexcache -n "__fish_plexcache_using_subcommand check" -l strict -d 'End with 3 when there are warnings'
complete -c plexcache -n "__fish_plexcache_using_subcommand check" -l probe -d 'Make and remove a tiny file on both tiers, to see which one is served'
complete -c plexcache -n "__fish_plexcache_using_subcommand check" -s n -l dry-run -d 'Show what would be done and change nothing (sync, evict, undo, init)'
complete -c plexcache -n "__fish_plexcache_using_subcommand check" -s y -l yes -d 'Answer questions with yes, and accept replaced or removed disks and another server'
complete -c plexcache -n "__fish_plexcache_using_subcommand check" -s q -l quiet -d 'Print nothing unless something is wrong'
complete -c plexcache -n "__fish_plexcache_using_subcommand check" -s v -l verbose -d 'Say more; twice for the requests to Plex and each step with a file'
complete -c plexcache -n "__fish_plexcache_using_subcommand check" -l json -d 'Print JSON lines'
complete -c plexcache -n "__fish_plexcache_using_subcommand check" -l no-progress -d 'Show no progress bars'
complete -c plexcache -n "__fish_plexcache_using_subcommand check" -l no-input -d 'Never ask; what would need an answer is refused'
complete -c plexcache -n "__fish_plexcache_using_subcommand check" -l exit-code -d 'With --dry-run: exit with 10 when there is something to do'
complete -c plexcache -n "__fish_plexcache_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c plexcache -n "__fish_plexcache_using_subcommand help; and not __fish_seen_subcommand_from init sync evict status undo history check help" -f -a "init" -d 'Write a configuration'
complete -c plexcache -n "__fish_plexcache_using_subcommand help; and not __fish_seen_subcommand_from init sync evict status undo history check help" -f -a "sync" -d 'Cache what Plex will play next and evict what is no longer wanted'
complete -c plexcache -n "__fish_plexcache_using_subcommand help; and not __fish_seen_subcommand_from init sync evict status undo history check help" -f -a "evict" -d 'Take files off the cache'
complete -c plexcache -n "__fish_plexcache_using_subcommand help; and not __fish_seen_subcommand_from init sync evict status undo history check help" -f -a "status" -d 'Show what is on the cache, why, and until when'
complete -c plexcache -n "__fish_plexcache_using_subcommand help; and not __fish_seen_subcommand_from init sync evict status undo history check help" -f -a "undo" -d 'Take back a run'
complete -c plexcache -n "__fish_plexcache_using_subcommand help; and not __fish_seen_subcommand_from init sync evict status undo history check help" -f -a "history" -d 'Show the runs and what they did'
complete -c plexcache -n "__fish_plexcache_using_subcommand help; and not __fish_seen_subcommand_from init sync evict status undo history check help" -f -a "check" -d 'Look for what is wrong, and say what to do about it'
complete -c plexcache -n "__fish_plexcache_using_subcommand help; and not __fish_seen_subcommand_from init sync evict status undo history check help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
