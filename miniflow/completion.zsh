#compdef miniflow
# Completion of miniflow's command lines for zsh.
_miniflow_completion() {
    local -a lines described
    local line command=${~words[1]}
    lines=("${(@f)$(_MINIFLOW_COMPLETE=zsh _MINIFLOW_COMMANDS=$_miniflow_commands \
        $command "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
    case ${lines[1]-} in
    :file) _files ;;
    :dir) _files -/ ;;
    *)
        for line in $lines; do
            described+=("${${line%%$'\t'*}//:/\\:}${${(M)line%%$'\t'*}:+:${line#*$'\t'}}")
        done
        (($#described)) && _describe -V miniflow described
        ;;
    esac
}
_miniflow_commands=@TABLE@
compdef _miniflow_completion miniflow
