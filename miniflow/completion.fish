# Completion of miniflow's command lines for fish.
function __miniflow_completion
    set -l words (commandline --current-process --tokenize --cut-at-cursor)
    set -l current (commandline --current-token --cut-at-cursor)
    test (count $current) -eq 0; and set current ''
    set -l command (string replace --regex '^~' $HOME -- $words[1])
    set -l lines (_MINIFLOW_COMPLETE=fish _MINIFLOW_COMMANDS=$__miniflow_commands $command $words[2..] $current 2>/dev/null)
    switch "$lines[1]"
        case :file
            __fish_complete_path $current
        case :dir
            __fish_complete_directories $current
        case '*'
            printf '%s\n' $lines
    end
end
set -g __miniflow_commands @TABLE@
complete --command miniflow --no-files --keep-order --arguments '(__miniflow_completion)'
