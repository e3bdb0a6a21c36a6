# Completion of miniflow's command lines for bash 4.4 or newer.
_miniflow_completion() {
    local command=$1
    [[ $command == '~'/* ]] && command=$HOME/${command#'~/'}
    mapfile -t COMPREPLY < <(_MINIFLOW_COMPLETE=bash _MINIFLOW_COMMANDS=$_miniflow_commands \
        "$command" "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    case ${COMPREPLY[0]-} in
    :file) COMPREPLY=() && compopt -o default -o filenames ;;
    :dir) COMPREPLY=() && compopt -o dirnames -o filenames ;;
    esac
}
_miniflow_commands=@TABLE@
complete -o nosort -F _miniflow_completion miniflow
