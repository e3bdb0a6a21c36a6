# ======================================================================================================================
# From here on nothing is special to this flow: the functions that the lines above are made of.
# What is called mf_ belongs to them. Their variables are, as far as a task could inherit them, called so too: bash exports
# even a local variable if the caller has exported one of its name.

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
  local mf_began mf_delay
  mf_judge
  if [[ $mf_verdict != run ]]; then
    mf_do_not_run
    return
  fi
  mf_clock
  mf_began=$mf_us
  mf_attempt=0 mf_nth=''
  while :; do
    ((mf_attempt += 1))
    if ((mf_attempt > 1)); then mf_nth=", attempt $mf_attempt"; fi
    mf_run_once "$@"
    if [[ $mf_stop ]] || ((mf_status == 0)) || ! mf_may_retry; then break; fi
    mf_delay=${mf_delays[mf_attempt - 1]}
    mf_event warning task.retrying "$mf_task $(mf_how); next attempt in $mf_delay s" \
      ",\"task_id\":\"$mf_task\",\"attempt\":$mf_attempt,\"delay_s\":$mf_delay,\"exit_status\":$mf_status,\"reason\":\"$mf_reason\"${mf_signal:+,\"signal\":\"$mf_signal\"}"
    mf_pause "$mf_delay"
    if [[ $mf_stop ]]; then break; fi
  done
  mf_clock
  mf_finish $((mf_us - mf_began))
}

# Sets mf_verdict: run, or why the task does not run.
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
  if [[ $mf_stop == timeout ]]; then
    mf_verdict=timeout
  elif [[ $mf_stop ]]; then
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

# Records that the task does not run. Its state is the reason if it is skipped: the reason is what counts downstream.
mf_do_not_run() {
  local level=warning state=skipped why
  mf_states[$mf_task]=$mf_verdict
  case $mf_verdict in
    upstream_failed) why='a task it depends on failed or was cancelled' ;;
    upstream_skipped) why='a task it depends on was skipped' ;;
    no_failure) why='no task it depends on has failed' level=info ;;
    fail_fast) why='another task has failed' state=cancelled ;;
    timeout) why=$mf_out_of_time state=cancelled mf_stopped=1 ;;
    *) why='the run was stopped' state=cancelled mf_stopped=1 ;;
  esac
  if [[ $state == skipped ]]; then
    ((mf_skipped += 1))
  else
    ((mf_cancelled += 1))
    mf_states[$mf_task]=cancelled
  fi
  mf_event "$level" "task.$state" "$mf_task $state: $why" ",\"task_id\":\"$mf_task\",\"reason\":\"$mf_verdict\""
}

mf_may_retry() {
  local status
  if [[ $mf_reason == spawn ]] || ((mf_attempt > ${#mf_delays[@]})); then return 1; fi
  if ((${#mf_retry_on[@]} == 0)); then return 0; fi
  for status in "${mf_retry_on[@]}"; do
    if ((status == mf_status)); then return 0; fi
  done
  return 1
}

# One attempt. Sets mf_status, mf_reason, after a death by signal mf_signal, and mf_error if it could not be started.
mf_run_once() {
  local mf_log=$mf_run_dir/logs/$mf_task.log mf_path=${PATH-} mf_first=1 mf_tick
  local mf_command=() mf_assignment='^[A-Za-z_][A-Za-z0-9_]*='
  mf_signal='' mf_error='' mf_watchdog='' mf_terminator='' mf_ended=''
  if [[ $1 == env ]]; then
    mf_first=2
    while [[ ${*:mf_first:1} =~ $mf_assignment ]]; do
      if [[ ${!mf_first} == PATH=* ]]; then mf_path=${!mf_first#PATH=}; fi
      ((mf_first += 1))
    done
    mf_command=("${@:1:mf_first - 1}")
  fi
  if [[ ${*:mf_first:3} == 'bash -c exec "$0" "$@"' ]]; then ((mf_first += 3)); fi
  # `env` would take a program of such a name for one more variable.
  if [[ ${!mf_first} == *=* ]]; then mf_command+=(bash -c 'exec "$0" "$@"'); fi
  mf_command+=("${@:mf_first}")
  if ! mf_can_start "${!mf_first}" "$mf_path"; then
    mf_reason=spawn
    return
  fi
  if [[ ${mf_secrets+x} ]]; then
    mf_start_masking
  else
    exec {mf_output}>>"$mf_log" || mf_die "cannot write $mf_log"
  fi
  (
    { set +x; } 2>/dev/null  # `bash -x` is about this script, and this is the task's log
    trap - INT QUIT PIPE  # what bash, or this script, has set for itself
    cd -P -- "$mf_directory" || exit 126
    exec {mf_never}<&- {mf_stderr}>&- {mf_lock}>&-
    mf_close_descriptors
    export MINIFLOW_FLOW="$mf_flow" MINIFLOW_RUN_ID="$mf_run_id" MINIFLOW_TASK_ID="$mf_task" MINIFLOW_ATTEMPT="$mf_attempt" \
      MINIFLOW_PARAMS="$mf_params" MINIFLOW_RUN_DIR="$mf_run_dir" PYTHONUNBUFFERED="${PYTHONUNBUFFERED-1}"
    exec "${mf_session[@]}" "${mf_command[@]}"
  ) </dev/null >&"$mf_output" 2>&1 &
  mf_pid=$!
  exec {mf_output}>&-
  if [[ $mf_stop ]]; then mf_end_group; fi
  mf_json "${@:mf_first}"
  mf_event info task.started "$mf_task started$mf_nth" \
    ",\"task_id\":\"$mf_task\",\"attempt\":$mf_attempt,\"pid\":$mf_pid,\"argv\":[$mf_json]"
  if [[ $mf_limit ]]; then
    mf_watch "$mf_limit" "$mf_pid" &
    mf_watchdog=$!
    if [[ $mf_stop ]]; then kill -KILL "$mf_watchdog"; fi
  fi
  mf_wait "$mf_pid"
  mf_status=$?
  mf_ended=1
  if [[ ${mf_secrets+x} ]]; then mf_tell_masking; fi
  # Whoever has begun to end the task goes on until all of its group are gone. They have what is left of the grace period.
  if [[ $mf_watchdog && ! -e $mf_run_dir/.timed_out ]]; then kill -KILL "$mf_watchdog"; fi
  for mf_helper in $mf_watchdog $mf_terminator; do mf_wait "$mf_helper"; done
  # What a task that has ended by itself has left running in its group has a second.
  if kill -TERM -- "-$mf_pid"; then
    kill -CONT -- "-$mf_pid"
    for ((mf_tick = 0; mf_tick < 50; mf_tick++)); do
      mf_lives "$mf_pid" || break
      read -r -t 0.02 -u "$mf_never" _
    done
    kill -KILL -- "-$mf_pid"
  fi
  mf_pid=''
  if [[ ${mf_secrets+x} ]]; then mf_end_masking; fi
  mf_reason='exit'
  if [[ -e $mf_run_dir/.timed_out ]]; then
    rm -f -- "$mf_run_dir/.timed_out"
    mf_status=124 mf_reason=timeout
  elif ((mf_status > 128)) && mf_signal=$(kill -l "$((mf_status - 128))"); then
    # bash does not tell an exit with 137 from a death by SIGKILL; the second is by far the likelier.
    mf_reason=signal mf_signal=SIG$mf_signal
  fi
  if [[ $mf_terminator ]] && ((mf_status == 0)); then mf_status=143; fi
} 2>/dev/null  # bash's own word on a process that was killed; what is said to people goes to mf_stderr

# mf_wait PID: waits for a child to its end, and returns its exit status. A trapped signal ends a mere `wait` early; and if
# the child ends in that very moment, bash may lose its status: -1. As who sends the signal wants an end, that is one.
mf_wait() {
  local mf_seen mf_code
  while :; do
    mf_seen=$mf_signals
    wait "$1"
    mf_code=$?
    if ((mf_code < 0)); then return 143; fi
    if ((mf_seen == mf_signals)); then return "$mf_code"; fi
  done
}

# mf_close_descriptors [ONE]: closes all above 2 but that one, for what runs next in this shell: what the caller of this script
# has left open, and what is the script's own.
mf_close_descriptors() {
  local mf_folder=/proc/self/fd mf_descriptor
  if [[ ! -e $mf_folder/0 ]]; then mf_folder=/dev/fd; fi
  if [[ ! -e $mf_folder/0 ]]; then return; fi
  set +o noglob
  for mf_descriptor in "$mf_folder"/*; do
    mf_descriptor=${mf_descriptor##*/}
    if ((mf_descriptor > 2 && mf_descriptor != ${1:-0})); then exec {mf_descriptor}>&-; fi
  done
}

# mf_can_start PROGRAM PATH: if not, sets mf_status and mf_error, as the system would.
mf_can_start() {
  local line='' interpreter='^#![[:blank:]]*([^[:blank:]]+)'
  mf_status=127
  if [[ ! -e $mf_directory ]]; then
    mf_error="No such file or directory: $mf_directory"
  elif [[ ! -d $mf_directory ]]; then
    mf_error="Not a directory: $mf_directory"
  elif [[ ! -x $mf_directory ]]; then
    mf_status=126 mf_error="Permission denied: $mf_directory"
  elif [[ $1 != */* ]]; then
    if (cd -P -- "$mf_directory" && PATH=$2 type -P -- "$1") >/dev/null; then return; fi
    mf_error="No such file or directory: $1"
  elif [[ ! -e $1 ]]; then
    mf_error="No such file or directory: $1"
  elif [[ ! -f $1 || ! -x $1 ]]; then
    mf_status=126 mf_error="Permission denied: $1"
  elif [[ -r $1 ]] && { read -r -n 256 line <"$1" || :; } && [[ $line =~ $interpreter ]]; then
    if [[ -f ${BASH_REMATCH[1]} && -x ${BASH_REMATCH[1]} ]]; then return; fi
    mf_error="No such file or directory: ${BASH_REMATCH[1]}, which $1 names as its interpreter"
    if [[ -e ${BASH_REMATCH[1]} ]]; then mf_status=126 mf_error="Permission denied: ${mf_error#*: }"; fi
  else
    return 0
  fi
  return 1
}

# Prints how the attempt ended.
mf_how() {
  case $mf_reason in
    signal) echo "was killed by $mf_signal" ;;
    timeout) echo "took longer than its timeout" ;;
    spawn) echo "could not be started" ;;
    *) if ((mf_status)); then echo "failed with exit status $mf_status"; else echo "exited with 0"; fi ;;
  esac
}

# mf_finish MICROSECONDS: the task's last event, then its exit status.
mf_finish() {
  local state level=error duration message error='' file=$mf_run_dir/status/$mf_task
  local new=$mf_run_dir/status/.$mf_task.tmp  # no task's: an id never begins with a dot
  mf_seconds "$1"
  duration=$mf_seconds
  if ((mf_status == 0)); then
    state=succeeded level=info
    ((mf_succeeded += 1))
    printf -v message '%s succeeded in %.2f s' "$mf_task" "$duration"
  elif [[ $mf_stop ]] && { [[ $mf_terminator && $mf_reason != timeout ]] || mf_may_retry; }; then
    state=cancelled level=warning mf_stopped=1
    ((mf_cancelled += 1))
    message="$mf_task was stopped; it $(mf_how)"
    if [[ $mf_stop == timeout ]]; then
      mf_status=124 mf_reason=timeout mf_signal='' mf_error=$mf_out_of_time
      message="$mf_task was stopped: $mf_error"
    fi
  else
    state=failed
    ((mf_failed += 1))
    message="$mf_task $(mf_how)$mf_nth${mf_error:+: $mf_error}"
  fi
  if [[ $mf_error ]]; then
    mf_json "$mf_error"
    error=",\"error\":$mf_json"
  fi
  mf_states[$mf_task]=$state
  mf_event "$level" task.finished "$message" \
    ",\"task_id\":\"$mf_task\",\"attempt\":$mf_attempt,\"state\":\"$state\",\"exit_status\":$mf_status,\"reason\":\"$mf_reason\"${mf_signal:+,\"signal\":\"$mf_signal\"}$error,\"duration_s\":$duration,\"attempts\":$mf_attempt"
  # A second try: Ctrl-C reaches `mv` as well.
  if ! printf '%d\n' "$mf_status" >"$new" || ! { mv -f -- "$new" "$file" || mv -f -- "$new" "$file"; }; then
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

# mf_seconds MICROSECONDS: the same in seconds, for the journal, in mf_seconds. None if somebody has set the clock back.
mf_seconds() {
  local duration=$(($1 > 0 ? $1 : 0))
  printf -v mf_seconds '%d.%06d' $((duration / 1000000)) $((duration % 1000000))
}

# mf_milliseconds VARIABLE TEXT: how long a duration is (5, 500ms, 1m30s), in mf_ms.
mf_milliseconds() {
  local text=$2 number='^[0-9]{1,9}([.][0-9]+)?$'
  local parts='^(([0-9]{1,9})d)?(([0-9]{1,9})h)?(([0-9]{1,9})m)?(([0-9]{1,9}([.][0-9]+)?)s)?(([0-9]{1,12})ms)?$'
  if [[ $text =~ $number ]]; then text+=s; fi
  if [[ $text =~ $parts ]]; then
    printf -v mf_ms '%.0f' "${BASH_REMATCH[8]:-0}e3"
    ((mf_ms += ((10#0${BASH_REMATCH[2]} * 24 + 10#0${BASH_REMATCH[4]}) * 60 + 10#0${BASH_REMATCH[6]}) * 60000))
    ((mf_ms += 10#0${BASH_REMATCH[11]}))
    if [[ $text ]] && ((mf_ms <= 366 * 86400000)); then return; fi
  fi
  mf_die "$1 must be a duration like 5, 500ms or 1m30s, at most a year, not $2"
}

# mf_duration MILLISECONDS: how people write it, in mf_duration.
mf_duration() {
  local rest=$1 unit size
  mf_duration=''
  for unit in 86400000d 3600000h 60000m; do
    size=${unit%[dhm]}
    if ((rest >= size)); then mf_duration+=$((rest / size))${unit#"$size"}; fi
    rest=$((rest % size))
  done
  if ((rest > 1000 && rest % 1000)); then
    printf -v rest '%d.%03d' $((rest / 1000)) $((rest % 1000))
    while [[ $rest == *0 ]]; do rest=${rest%0}; done
    mf_duration+=${rest}s
  elif ((rest % 1000)); then
    mf_duration+=${rest}ms
  elif [[ $rest != 0 || ! $mf_duration ]]; then
    mf_duration+=$((rest / 1000))s
  fi
}

# mf_event LEVEL EVENT MESSAGE [MEMBERS]: a line for people, and one JSON object in the journal.
mf_event() {
  mf_say "$3"
  mf_clock
  mf_json "$3"
  if ! printf '{"timestamp":"%s","level":"%s","event":"%s","message":%s,"flow":"%s","run_id":"%s"%s}\n' \
    "$mf_timestamp" "$1" "$2" "$mf_json" "$mf_flow" "$mf_run_id" "${4-}" >>"$mf_run_dir/events.jsonl"; then
    mf_die "cannot write $mf_run_dir/events.jsonl"
  fi
}

# mf_json STRING...: the strings as JSON, with commas between them, in mf_json.
mf_json() {
  local string code character escape backslash=$'\\' quote='"'
  mf_json=''
  for string; do
    if [[ $string == *[$'\200'-$'\377']* ]] && ! mf_is_utf8 "$string"; then
      for ((code = 128; code < 256; code++)); do
        printf -v escape '\\x%02x' "$code"
        printf -v character '%b' "$escape"
        string=${string//"$character"/"$escape"}
      done
    fi
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

mf_is_utf8() {
  local rest=$1 next='['$'\200''-'$'\277'']'
  rest=${rest//[$'\360'-$'\364']$next$next$next/_}
  rest=${rest//[$'\340'-$'\357']$next$next/_}
  rest=${rest//[$'\302'-$'\337']$next/_}
  [[ $rest != *[$'\200'-$'\377']* ]]
}

# mf_pause SECONDS: sleeps, or until a signal is to stop the run.
mf_pause() {
  {
    mf_close_descriptors
    exec sleep "$1"
  } >/dev/null &
  mf_sleeper=$!
  if [[ $mf_stop ]]; then kill -KILL "$mf_sleeper"; fi
  wait "$mf_sleeper"
  mf_sleeper=''
} 2>/dev/null

# mf_watch SECONDS GROUP: ends a task that takes longer.
mf_watch() {
  exec >/dev/null
  mf_close_descriptors "$mf_never"
  read -r -t "$1" -u "$mf_never" _
  kill -0 "$2" || return
  : >"$mf_run_dir/.timed_out"
  mf_terminate "$2"
}

# Tells this script when the run's time is over. It ends with the script, whatever ends that: only the script can write to what
# it reads from.
mf_watch_run() {
  local seconds
  exec >/dev/null
  mf_close_descriptors "$mf_line_end"
  printf -v seconds '%d.%03d' $((mf_timeout / 1000)) $((mf_timeout % 1000))
  read -r -t "$seconds" -u "$mf_line_end" _
  if (($? > 128)); then kill -s RTMIN+1 "$$"; fi
}

# mf_lives GROUP: whether somebody in it is no zombie. Whoever adopts zombies may take its time, or never reap them.
mf_lives() {
  local mf_file mf_stat
  kill -0 -- "-$1" || return
  if [[ ! -e /proc/self/stat ]]; then return 0; fi
  set +o noglob
  for mf_file in /proc/[0-9]*/stat; do
    mf_stat=''
    IFS= read -r -d '' mf_stat <"$mf_file"
    if [[ ${mf_stat##*) } =~ ^[^ZX]' '[0-9]+' '$1' ' ]]; then return 0; fi
  done
  return 1
} 2>/dev/null

# mf_terminate GROUP: SIGTERM, and SIGKILL to those that are left after the grace period. A stopped process hears SIGTERM
# once it goes on. For a moment after its start, a task has no group yet.
mf_terminate() {
  local mf_tick
  kill -TERM -- "-$1" || kill -TERM "$1"
  kill -CONT -- "-$1"
  for ((mf_tick = 0; mf_tick < mf_grace; mf_tick += 20)); do
    mf_lives "$1" || kill -0 "$1" || return
    read -r -t 0.02 -u "$mf_never" _
  done
  kill -KILL -- "-$1" || kill -KILL "$1"
} 2>/dev/null

# Ends the task that runs, without waiting for it. Its time limit matters no more.
mf_end_group() {
  if [[ $mf_watchdog && ! -e $mf_run_dir/.timed_out ]]; then kill -KILL "$mf_watchdog"; fi
  if [[ ! $mf_terminator ]]; then
    {
      mf_close_descriptors "$mf_never"
      mf_terminate "$mf_pid"
    } >/dev/null &
    mf_terminator=$!
  fi
}

# shellcheck disable=SC2329  # called by traps
# mf_on_signal NAME: nothing new starts; what runs is ended, by a second signal at once. `timeout`: the run's time is over.
mf_on_signal() {
  ((mf_signals += 1))
  if [[ $1 == timeout ]]; then
    mf_alarm=''
    if [[ $mf_stop ]]; then return; fi
  fi
  if [[ $mf_stop && $mf_pid ]]; then
    kill -KILL -- "-$mf_pid"
  elif [[ $mf_pid && ! $mf_ended ]]; then
    mf_end_group
  fi
  mf_stop=${mf_stop:-$1}
  if [[ $mf_sleeper ]]; then kill -KILL "$mf_sleeper"; fi  # SIGTERM may be one that the caller ignores
} 2>/dev/null

mf_say() { printf '%s\n' "$1" >&"$mf_stderr"; } 2>/dev/null

mf_die() {
  mf_say "error: $1"
  if [[ $mf_pid ]]; then mf_terminate "$mf_pid"; fi
  mf_exit 2
}

# mf_exit STATUS: ends this script; after a signal by that signal, so that its caller sees why.
mf_exit() {
  if [[ $mf_alarm ]]; then
    {
      kill -KILL "$mf_alarm"
      wait "$mf_alarm"
    } 2>/dev/null
  fi
  if [[ $mf_stop && $mf_stop != timeout ]]; then
    trap - "$mf_stop"
    kill -s "$mf_stop" "$$"
  fi
  exit "$1"
}

# mf_find_python VARIABLE: an interpreter as planned; python3 if it is not there, which is worth a note.
mf_find_python() {
  local path=${!1}
  case $path in
    /*) ;;
    */*) path=$mf_work_dir/$path ;;
  esac
  if ! type -P -- "$path" >/dev/null && [[ $path != python3 ]]; then
    mf_say "note: $path is not there; python3 runs instead"
    path=python3
  fi
  printf -v "$1" '%s' "$path"
}

# The journal is locked while this script lives: so whoever reads it knows whether a run without an end still goes on. No
# task and no helper keeps the lock. Where there is nothing to lock with, there is none.
mf_lock_journal() {
  exec {mf_lock}>>"$mf_run_dir/events.jsonl" || mf_die "cannot write $mf_run_dir/events.jsonl"
  if type -P flock; then
    flock "$mf_lock"
  else
    python3 -ISc 'import fcntl, sys; fcntl.flock(int(sys.argv[1]), fcntl.LOCK_EX)' "$mf_lock"
  fi
} >/dev/null 2>&1

mf_begin() {
  local output=${MINIFLOW_OUTPUT_DIR:-$mf_output_dir} tasks=${MINIFLOW_TASKS_DIR:-$mf_tasks_dir} base name
  mf_work_dir=${MINIFLOW_WORK_DIR:-$mf_work_dir}
  case $mf_work_dir in /*) ;; *) mf_work_dir=$PWD/$mf_work_dir ;; esac
  case $output in /*) ;; *) output=$PWD/$output ;; esac
  case $tasks in /*) ;; *) tasks=$PWD/$tasks MINIFLOW_TASKS_DIR=$tasks ;; esac
  [[ -d $mf_work_dir ]] || mf_die "the directory to run in, $mf_work_dir, is not there; set MINIFLOW_WORK_DIR"
  [[ -d $tasks ]] || mf_die "the tasks directory, $tasks, is not there; set MINIFLOW_TASKS_DIR"
  mf_keep_going=${MINIFLOW_KEEP_GOING:-$mf_keep_going}
  case ${mf_keep_going,,} in
    1 | true | t | yes | y | on) mf_keep_going=1 ;;
    0 | false | f | no | n | off) mf_keep_going='' ;;
    *) mf_die "MINIFLOW_KEEP_GOING must be 1 or 0 (true, false, yes, no, on, off), not $mf_keep_going" ;;
  esac
  mf_milliseconds MINIFLOW_GRACE "${MINIFLOW_GRACE:-$mf_grace}"
  mf_grace=$mf_ms
  mf_timeout=${MINIFLOW_TIMEOUT:-$mf_timeout}
  if [[ $mf_timeout ]]; then
    mf_milliseconds MINIFLOW_TIMEOUT "$mf_timeout"
    ((mf_ms > 0)) || mf_die "MINIFLOW_TIMEOUT must be above 0, not $mf_timeout"
    mf_timeout=$mf_ms
    [[ $mf_ignored != *SIGRTMIN+1* ]] || mf_die "a timeout needs SIGRTMIN+1, which the caller of this script ignores"
    trap 'mf_on_signal timeout' RTMIN+1
  fi
  if [[ ! ${MINIFLOW_PYTHON-} ]]; then
    if [[ ${mf_python-} ]]; then
      mf_find_python mf_python
      MINIFLOW_PYTHON=$mf_python
    fi
  elif [[ $MINIFLOW_PYTHON == */* && $MINIFLOW_PYTHON != /* ]]; then
    MINIFLOW_PYTHON=$PWD/$MINIFLOW_PYTHON
  fi
  for name in "${!mf_python_@}"; do mf_find_python "$name"; done
  # A task leads a session of its own, so that it and all it starts can be stopped together. A signal that was ignored when
  # bash began, it cannot reset itself.
  if [[ ! $mf_ignored ]] && type -P setsid >/dev/null; then
    mf_session=(setsid)
  else
    mf_session=(python3 -ISc '
import os, signal, sys
os.setsid()
for number in {*range(1, 32)} - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_SETMASK, [])
os.execvp(sys.argv[1], sys.argv[1:])')
  fi
  if ((${#mf_caller[@]} > 0)); then mf_session+=(env "${mf_caller[@]}"); fi
  if [[ ${mf_secrets+x} ]]; then mf_require_secrets; fi
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
  mf_lock_journal
  if [[ $mf_timeout ]]; then
    mkfifo -- "$mf_run_dir/.lifeline" || mf_die "cannot write into $mf_run_dir"
    # shellcheck disable=SC2034  # never used: that it is closed when this script ends is its use
    exec {mf_lifeline}<>"$mf_run_dir/.lifeline"
    exec {mf_line_end}<"$mf_run_dir/.lifeline"
    rm -f -- "$mf_run_dir/.lifeline"
  fi
  if [[ $- != *s* && -f ${BASH_SOURCE[0]} ]]; then cp -- "${BASH_SOURCE[0]}" "$mf_run_dir/flow.sh"; fi
  ln -s -- "$mf_run_id" "$base/.latest-$mf_run_id" && mv -fT -- "$base/.latest-$mf_run_id" "$base/latest"
  mf_clock
  mf_began=$mf_us
  mf_say "recording in $mf_run_dir"
  mf_event info run.started "run $mf_run_id of $mf_flow started" \
    ",\"schema\":1,\"tasks\":$mf_tasks,\"parallel\":1,\"keep_going\":$([[ $mf_keep_going ]] && echo true || echo false),\"params\":[$mf_param_names]"
  if [[ $mf_timeout ]]; then
    mf_watch_run 2>/dev/null &
    mf_alarm=$!
    exec {mf_line_end}<&-
  fi
}

mf_end() {
  local state=succeeded level=info status=0 duration seconds counts='' name count error=''
  mf_clock
  mf_seconds $((mf_us - mf_began))
  duration=$mf_seconds
  printf -v seconds '%.2f' "$duration"
  if [[ $mf_stopped && $mf_stop == timeout ]]; then
    state=failed level=error status=124
    mf_duration "$mf_timeout"
    error="it took longer than its timeout of $mf_duration"
  elif [[ $mf_stopped ]]; then
    state=cancelled level=warning status=$((128 + $(kill -l "$mf_stop")))
  elif ((mf_failed > 0)); then
    state=failed level=error status=1
  fi
  for name in succeeded failed skipped cancelled; do
    count=mf_$name
    if ((${!count} > 0)); then counts+="${counts:+, }${!count} $name"; fi
  done
  mf_event "$level" run.finished "run $mf_run_id of $mf_flow $state in $seconds s: $counts${error:+; $error}" \
    ",\"state\":\"$state\",\"exit_status\":$status,\"duration_s\":$duration,\"counts\":{\"succeeded\":$mf_succeeded,\"failed\":$mf_failed,\"skipped\":$mf_skipped,\"cancelled\":$mf_cancelled}${error:+,\"error\":\"$error\"}"
  mf_exit "$status"
}

declare -A mf_states=()
mf_succeeded=0 mf_failed=0 mf_skipped=0 mf_cancelled=0 mf_signals=0 mf_stop='' mf_pid='' mf_sleeper='' mf_terminator='' mf_ended=''
mf_stopped='' mf_alarm='' mf_out_of_time='the run has taken longer than its timeout'
exec {mf_stderr}>&2
mf_ignored=$(trap)
# In braces, so that bash has read them all before it begins: whoever edits this file meanwhile changes nothing.
{
  trap '' PIPE  # a reader of this script's messages who goes away does not end the run
  trap 'mf_on_signal INT' INT
  trap 'mf_on_signal TERM' TERM
  trap 'mf_on_signal HUP' HUP
  mf_begin
  flow
  mf_end
}
