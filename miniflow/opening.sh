# Before anything else, what the caller may have exported, switched on or closed: it is for the tasks, not for this script.
if [ -z "${BASH_VERSION-}" ] || ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 403)); then
  echo "error: this script needs bash 4.3 or newer" >&2
  exit 2
fi
true >&2 || exec 2>/dev/null
{ true >&1; } 2>/dev/null || exec >/dev/null
{ true <&0; } 2>/dev/null || exec </dev/null
mf_caller=()  # NAME=VALUE: what is changed here, as the tasks are to have it
for mf_name in LC_ALL POSIXLY_CORRECT SHELLOPTS "${!mf_@}"; do
  case $mf_name in mf_caller | mf_name) continue ;; esac
  case $(declare -p "$mf_name" 2>/dev/null) in
    'declare -'*x*" $mf_name="*) mf_caller+=("$mf_name=${!mf_name}") ;;
  esac
  case $mf_name in mf_*) unset -v "$mf_name" ;; esac
done
unset -v mf_name  # with `allexport` it would be exported for good
set +o posix +o allexport +o errexit +o keyword +o monitor +o histexpand -o nounset
LC_ALL=C  # text is bytes
mf_exported=$'\n'$(declare -Fx)$'\n'
for mf_name in $(compgen -A function); do
  if [[ $mf_exported == *$'\n'"declare -fx $mf_name"$'\n'* ]]; then
    mf_body=$(declare -f "$mf_name")
    mf_caller+=("BASH_FUNC_$mf_name%%=() ${mf_body#*$'\n'}")
  fi
  unset -f "$mf_name"
done
