# ======================================================================================================================
# From here on nothing is special to this flow: the functions that the lines above are made of.

# task ID TRIGGER_RULE [UPSTREAM...]: what follows, up to its `run`, is about this task.
task() {
  mf_task=$1 mf_rule=$2
  shift 2
  mf_upstream=("$@")
  mf_delays=() mf_retry_on=() mf_limit='' mf_directory=$mf_work_dir
}

# shellcheck disable=SC2329
# retry_after SECONDS...: as many retries as there are words, each after so long.
retry_after() { mf_delays=("$@"); }

# shellcheck disable=SC2329
# retry_on STATUS...: after these exit statuses alone.
retry_on() { mf_retry_on=("$@"); }

# shellcheck disable=SC2329
# time_limit SECONDS: for each attempt; then SIGTERM, and SIGKILL if that did not help. Exit status 124.
time_limit() { mf_limit=$1; }

# shellcheck disable=SC2329
# directory PATH: where the command runs; a relative path begins where all tasks run.
directory() {
  case $1 in
    /*) mf_directory=$1 ;;
    *) mf_directory=$mf_work_dir/$1 ;;
  esac
}

# run COMMAND...: runs the task if its trigger rule says so, again while it fails and has retries left, and records it.
run() {
  mf_judge
  case $mf_verdict in
    run) ;;
    fail_fast | stopped)
      mf_states[$mf_task]=cancelled
      ((mf_cancelled += 1))
      mf_event warning task.cancelled "$mf_task cancelled: $mf_verdict" ",\"task_id\":\"$mf_task\",\"reason\":\"$mf_verdict\""
      return ;;
    *)
      mf_states[$mf_task]=$mf_verdict
      ((mf_skipped += 1))
      mf_event warning task.skipped "$mf_task skipped: $mf_verdict" ",\"task_id\":\"$mf_task\",\"reason\":\"$mf_verdict\""
      return ;;
  esac
  local began
  mf_clock
  began=$mf_us
  mf_attempt=0
  while :; do
    ((mf_attempt += 1))
    mf_run_once "$@"
    if [[ $mf_stop ]] || ((mf_status == 0)) || ! mf_may_retry; then break; fi
    local delay=${mf_delays[mf_attempt - 1]}
    mf_event warning task.retrying "$mf_task failed with exit status $mf_status; next attempt in $delay s" \
      ",\"task_id\":\"$mf_task\",\"attempt\":$mf_attempt,\"delay_s\":$delay,\"exit_status\":$mf_status,\"reason\":\"$mf_reason\"$mf_signal"
    mf_pause "$delay"
    if [[ $mf_stop ]]; then break; fi
  done
  mf_clock
  mf_finish $((mf_us - began))
}

# Sets mf_verdict: run, or why the task does not run. States other than succeeded, failed and cancelled are reasons of a skip.
mf_judge() {
  local id failed='' cancelled='' skipped=''
  for id in ${mf_upstream[@]+"${mf_upstream[@]}"}; do
    case ${mf_states[$id]} in
      succeeded) ;;
      failed | upstream_failed) failed=1 ;;
      cancelled) cancelled=1 ;;
      *) skipped=1 ;;
    esac
  done
  mf_verdict=run
  if [[ $mf_stop ]]; then
    mf_verdict=stopped
  elif [[ $mf_rule == one_failed ]]; then
    [[ $failed ]] || mf_verdict=no_failure
  elif [[ $mf_rule == all_success ]]; then
    if [[ $failed || $cancelled ]]; then
      mf_verdict=upstream_failed
    elif [[ $skipped ]]; then
      mf_verdict=upstream_skipped
    elif ((mf_failed > 0)) && [[ ! $mf_keep_going ]]; then
      mf_verdict=fail_fast
    fi
  fi
}

mf_may_retry() {
  local status
  [[ $mf_reason != spawn ]] && ((mf_attempt <= ${#mf_delays[@]})) || return 1
  ((${#mf_retry_on[@]} > 0)) || return 0
  for status in "${mf_retry_on[@]}"; do
    ((status == mf_status)) && return 0
  done
  return 1
}

# One attempt. Sets mf_status, mf_reason and, after a death by signal, mf_signal.
mf_run_once() {
  local log=$mf_run_dir/logs/$mf_task.log watchdog='' seen problem variables=0
  mf_signal=''
  if [[ $1 == env ]]; then
    while [[ ${*:variables + 2:1} == *=* ]]; do ((variables += 1)); done
    ((variables += 1))
  fi
  if problem=$(mf_cannot_start "${@:variables + 1:1}"); then
    mf_status=${problem%% *} mf_reason=spawn
    mf_say "$mf_task: ${problem#* }"
    return
  fi
  (
    trap - INT QUIT PIPE  # what bash, or this script, has set for itself
    cd -- "$mf_directory" || exit 126
    exec {mf_never}<&- {mf_stderr}>&-
    export MINIFLOW_FLOW="$mf_flow" MINIFLOW_RUN_ID="$mf_run_id" MINIFLOW_TASK_ID="$mf_task" MINIFLOW_ATTEMPT="$mf_attempt" \
      MINIFLOW_PARAMS="$mf_params" MINIFLOW_RUN_DIR="$mf_run_dir" PYTHONUNBUFFERED="${PYTHONUNBUFFERED-1}"
    exec "${mf_session[@]}" "$@"
  ) </dev/null >>"$log" 2>&1 &
  mf_pid=$!
  if [[ $mf_stop ]]; then mf_end_group; fi
  mf_json "${@:variables + 1}"
  mf_event info task.started "$mf_task started" \
    ",\"task_id\":\"$mf_task\",\"attempt\":$mf_attempt,\"pid\":$mf_pid,\"argv\":[$mf_json]"
  if [[ $mf_limit ]]; then
    (
      read -r -t "$mf_limit" -u "$mf_never" || :
      : >"$mf_run_dir/.timed_out"
      mf_terminate "$mf_pid"
    ) &
    watchdog=$!
  fi
  while :; do  # a trapped signal ends a wait early
    seen=$mf_signals
    wait "$mf_pid"
    mf_status=$?
    if ((seen == mf_signals)); then break; fi
  done
  if [[ $watchdog ]]; then
    kill -TERM "$watchdog" 2>/dev/null
    wait "$watchdog"
  fi
  # What the task has left running in its group.
  if kill -TERM -- "-$mf_pid" 2>/dev/null; then
    kill -CONT -- "-$mf_pid" 2>/dev/null
    mf_pause 1
    kill -KILL -- "-$mf_pid" 2>/dev/null
  fi
  mf_pid=''
  mf_reason='exit'
  if [[ -e $mf_run_dir/.timed_out ]]; then
    rm -f -- "$mf_run_dir/.timed_out"
    mf_status=124 mf_reason=timeout
  elif ((mf_status > 128)) && mf_signal=$(kill -l "$((mf_status - 128))" 2>/dev/null); then
    # bash does not tell an exit with 137 from a death by SIGKILL; the second is by far the likelier.
    mf_reason=signal mf_signal=",\"signal\":\"SIG$mf_signal\""
  fi
  if [[ $mf_stop ]] && ((mf_status == 0)); then mf_status=143; fi
} 2>/dev/null  # bash's own word on a process that was killed; what is said to people goes to mf_stderr

# mf_cannot_start PROGRAM: succeeds, and prints the exit status and the reason, if there is nothing that could be started.
mf_cannot_start() {
  if [[ ! -d $mf_directory ]]; then
    printf '127 no such directory: %s' "$mf_directory"
  elif [[ $1 != */* ]]; then
    return 1
  elif [[ ! -e $1 ]]; then
    printf '127 no such file: %s' "$1"
  elif [[ -d $1 || ! -x $1 ]]; then
    printf '126 not executable: %s' "$1"
  else
    return 1
  fi
}

# mf_finish MICROSECONDS: the task's last event, then its exit status.
mf_finish() {
  local state level=error duration
  printf -v duration '%d.%06d' $(($1 / 1000000)) $(($1 % 1000000))
  if [[ $mf_stop ]] && ((mf_status != 0)); then
    state=cancelled level=warning
    ((mf_cancelled += 1))
  elif ((mf_status == 0)); then
    state=succeeded level=info
    ((mf_succeeded += 1))
  else
    state=failed
    ((mf_failed += 1))
  fi
  mf_states[$mf_task]=$state
  mf_event "$level" task.finished "$mf_task $state with exit status $mf_status" \
    ",\"task_id\":\"$mf_task\",\"attempt\":$mf_attempt,\"state\":\"$state\",\"exit_status\":$mf_status,\"reason\":\"$mf_reason\"$mf_signal,\"duration_s\":$duration,\"attempts\":$mf_attempt"
  local file=$mf_run_dir/status/$mf_task
  # A second try: Ctrl-C reaches `mv` as well.
  if ! printf '%d\n' "$mf_status" >"$file.tmp" || ! { mv -f -- "$file.tmp" "$file" || mv -f -- "$file.tmp" "$file"; }; then
    mf_die "cannot write $file"
  fi
}

# Sets mf_us, microseconds since 1970, and mf_timestamp, the same for the journal.
mf_clock() {
  local -x TZ=UTC0
  mf_us=${EPOCHREALTIME-}  # bash 5; its decimal point is the locale's
  mf_us=${mf_us/[.,]/}
  until [[ $mf_us ]]; do mf_us=$(date +%s%6N); done
  printf -v mf_timestamp '%(%Y-%m-%dT%H:%M:%S)T.%06dZ' "$((mf_us / 1000000))" "$((mf_us % 1000000))"
}

# mf_event LEVEL EVENT MESSAGE [MEMBERS]: a line for people, and one JSON object in the journal.
mf_event() {
  mf_say "$3"
  mf_clock
  if ! printf '{"timestamp":"%s","level":"%s","event":"%s","message":"%s","flow":"%s","run_id":"%s"%s}\n' \
    "$mf_timestamp" "$1" "$2" "$3" "$mf_flow" "$mf_run_id" "${4-}" >>"$mf_run_dir/events.jsonl"; then
    mf_die "cannot write $mf_run_dir/events.jsonl"
  fi
}

# mf_json STRING...: the strings as JSON, with commas between them, in mf_json.
mf_json() {
  local LC_ALL=C string code character escape backslash=$'\\' quote='"'
  mf_json=''
  for string; do
    string=${string//"$backslash"/"$backslash$backslash"}
    string=${string//"$quote"/"$backslash$quote"}
    if [[ $string == *[$'\001'-$'\037']* ]]; then
      for ((code = 1; code < 32; code++)); do
        printf -v escape '\\x%02x' "$code"
        printf -v character '%b' "$escape"
        printf -v escape '%su%04x' "$backslash" "$code"
        string=${string//"$character"/"$escape"}
      done
    fi
    mf_json+=${mf_json:+,}$quote$string$quote
  done
}

# Sleeps so many seconds, or until a signal is to stop the run.
mf_pause() {
  local sleeper
  sleep "$1" &
  sleeper=$!
  wait "$sleeper"
  kill "$sleeper" 2>/dev/null
}

# mf_terminate GROUP: SIGTERM, and SIGKILL after the grace period. A stopped process hears SIGTERM once it goes on.
mf_terminate() {
  kill -TERM -- "-$1" || kill -TERM "$1"
  kill -CONT -- "-$1"
  read -r -t "$mf_grace" -u "$mf_never" || :
  kill -KILL -- "-$1"
} 2>/dev/null

mf_end_group() { mf_terminate "$mf_pid" & }

# shellcheck disable=SC2329  # called by traps
# mf_on_signal NAME: nothing new starts; what runs is ended, by a second signal at once.
mf_on_signal() {
  ((mf_signals += 1))
  if [[ $mf_stop && $mf_pid ]]; then
    kill -KILL -- "-$mf_pid" 2>/dev/null
  elif [[ $mf_pid ]]; then
    mf_end_group
  fi
  mf_stop=${mf_stop:-$1}
}

mf_say() { printf '%s\n' "$1" >&"$mf_stderr"; }

mf_die() {
  mf_say "error: $1"
  if [[ $mf_pid ]]; then mf_terminate "$mf_pid"; fi
  exit 2
}

mf_begin() {
  local output=${MINIFLOW_OUTPUT_DIR:-$mf_output_dir} tasks=${MINIFLOW_TASKS_DIR:-$mf_tasks_dir} base
  if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 403)); then mf_die "this script needs bash 4.3 or newer"; fi
  mf_work_dir=${MINIFLOW_WORK_DIR:-$mf_work_dir}
  case $mf_work_dir in /*) ;; *) mf_work_dir=$PWD/$mf_work_dir ;; esac
  case $output in /*) ;; *) output=$PWD/$output ;; esac
  case $tasks in /*) ;; *) tasks=$PWD/$tasks MINIFLOW_TASKS_DIR=$PWD/$tasks ;; esac
  [[ -d $mf_work_dir ]] || mf_die "the directory to run in, $mf_work_dir, is not there; set MINIFLOW_WORK_DIR"
  [[ -d $tasks ]] || mf_die "the tasks directory, $tasks, is not there; set MINIFLOW_TASKS_DIR"
  case ${MINIFLOW_KEEP_GOING:-$mf_keep_going} in
    1 | [Tt][Rr][Uu][Ee] | [Yy][Ee][Ss] | [Oo][Nn]) mf_keep_going=1 ;;
    *) mf_keep_going='' ;;
  esac
  mf_grace=${MINIFLOW_GRACE:-5}
  # A task leads a session of its own, so that it and all it starts can be stopped together.
  if command -v setsid >/dev/null; then
    mf_session=(setsid)
  else
    mf_session=(python3 -c 'import os, signal, sys; os.setsid(); signal.signal(signal.SIGPIPE, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])')
  fi
  base=$output/$mf_flow
  mkdir -p -- "$base" || mf_die "cannot make $base"
  while :; do
    mf_clock
    mf_run_id=${mf_timestamp:0:23}Z
    printf -v mf_run_id '%s-%06x' "${mf_run_id//[-:]/}" $(((RANDOM << 15 ^ RANDOM) & 0xffffff))
    mf_run_dir=$base/$mf_run_id
    if mkdir -m 700 -- "$mf_run_dir" 2>/dev/null; then break; fi
    [[ -e $mf_run_dir ]] || mf_die "cannot make $mf_run_dir"
  done
  if ! mkdir -- "$mf_run_dir/logs" "$mf_run_dir/status" || ! mkfifo -- "$mf_run_dir/.never"; then
    mf_die "cannot write into $mf_run_dir"
  fi
  exec {mf_never}<>"$mf_run_dir/.never"  # nothing ever comes from here: a `read` with a time limit sleeps in bash itself
  rm -f -- "$mf_run_dir/.never"
  if [[ -f ${BASH_SOURCE[0]} ]]; then cp -- "${BASH_SOURCE[0]}" "$mf_run_dir/flow.sh"; fi
  ln -s -- "$mf_run_id" "$base/.latest-$mf_run_id" && mv -fT -- "$base/.latest-$mf_run_id" "$base/latest"
  mf_clock
  mf_began=$mf_us
  mf_say "recording in $mf_run_dir"
  mf_event info run.started "run $mf_run_id of $mf_flow started" \
    ",\"schema\":1,\"tasks\":$mf_tasks,\"parallel\":1,\"keep_going\":$([[ $mf_keep_going ]] && echo true || echo false),\"params\":[$mf_param_names]"
}

mf_end() {
  local state=succeeded level=info status=0 duration
  mf_clock
  duration=$((mf_us - mf_began))
  printf -v duration '%d.%06d' $((duration / 1000000)) $((duration % 1000000))
  if [[ $mf_stop ]]; then
    state=cancelled level=warning status=$((128 + $(kill -l "$mf_stop")))
  elif ((mf_failed > 0)); then
    state=failed level=error status=1
  fi
  mf_event "$level" run.finished "run $mf_run_id of $mf_flow $state: $mf_succeeded succeeded, $mf_failed failed, $mf_skipped skipped, $mf_cancelled cancelled" \
    ",\"state\":\"$state\",\"exit_status\":$status,\"duration_s\":$duration,\"counts\":{\"succeeded\":$mf_succeeded,\"failed\":$mf_failed,\"skipped\":$mf_skipped,\"cancelled\":$mf_cancelled}"
  if [[ $mf_stop ]]; then  # so that the caller sees a death by this signal
    trap - "$mf_stop"
    kill -s "$mf_stop" "$$"
  fi
  exit "$status"
}

set +e -u
declare -A mf_states=()
mf_succeeded=0 mf_failed=0 mf_skipped=0 mf_cancelled=0 mf_signals=0 mf_stop='' mf_pid=''
exec {mf_stderr}>&2
trap '' PIPE  # a reader of this script's messages who goes away does not end the run
trap 'mf_on_signal INT' INT
trap 'mf_on_signal TERM' TERM
trap 'mf_on_signal HUP' HUP
mf_begin
flow
mf_end
