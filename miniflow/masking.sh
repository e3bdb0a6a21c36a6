# ======================================================================================================================
# Only in the script of a flow with secrets. What its tasks print goes through a process that masks their values and writes the
# log. The values are nowhere in this script: the process takes them from its environment, by their names.

mf_masking+='
import os, select, sys, time

entries = sys.argv[1:]  # each a name, a blank, and who needs it; a name alone if nobody does
values = [os.environb.get(os.fsencode(entry.partition(" ")[0]), b"") for entry in entries[1:]]
if entries[0] == "missing":
    print(", ".join(entry for entry, value in zip(entries[1:], values) if " " in entry and not value))
    sys.exit()
masker = Masker(patterns(values))


def write(data):
    while data:
        data = data[os.write(1, data):]


# Standard input is what the task prints. It ends with the last process that holds it; or, if that is one that the task has left
# behind, a second after the task has ended. The gate, which is standard error, says so: it gets one byte when the task has
# ended, and one when its group has.
told = 0
deadline = time.monotonic()
left = 1024 * 1024  # the most that a pipe holds
while left > 0:
    patience = max(deadline - time.monotonic(), 0) if told > 1 else None
    ready = select.select([0, 2] if told < 2 else [0], [], [], patience)[0]
    if 2 in ready:
        told += len(os.read(2, 1))
        if told == 1:
            deadline = time.monotonic() + 1
    if 0 in ready:
        chunk = os.read(0, 65536)
        if not chunk:
            break
        write(masker.feed(chunk))
        if told > 1 and time.monotonic() > deadline:
            left -= len(chunk)
    elif not ready:
        break
write(masker.end())
'

mf_require_secrets() {
  local missing
  # Ctrl-C at a terminal reaches it too; it has ended before it matters.
  if ! missing=$(trap '' HUP INT TERM; exec env ${mf_caller[@]+"${mf_caller[@]}"} python3 -ISc "$mf_masking" missing "${mf_secrets[@]}"); then
    mf_die "cannot run python3, which is needed to mask secrets"
  fi
  if [[ $missing ]]; then
    mf_die "not set, or empty: $missing; the flow takes such secrets (secret_env) from its caller's environment: export them, and start again"
  fi
}

# Starts the process, and sets mf_output, the descriptor that the task is to print to.
mf_start_masking() {
  local mf_both mf_input
  : >>"$mf_log" || mf_die "cannot write $mf_log"
  mkfifo -- "$mf_run_dir/.output" "$mf_run_dir/.gate" || mf_die "cannot write into $mf_run_dir"
  # shellcheck disable=SC2094  # a pipe: opened for both first, as a side alone waits for the other
  exec {mf_both}<>"$mf_run_dir/.output" {mf_input}<"$mf_run_dir/.output" {mf_output}>"$mf_run_dir/.output" {mf_both}>&- \
    {mf_gate}<>"$mf_run_dir/.gate" || mf_die "cannot write into $mf_run_dir"
  rm -f -- "$mf_run_dir/.output" "$mf_run_dir/.gate"
  (
    { set +x; } 2>/dev/null
    trap '' HUP INT QUIT TERM  # it ends when the task has ended
    mf_close_descriptors
    exec env ${mf_caller[@]+"${mf_caller[@]}"} python3 -ISc "$mf_masking" mask "${mf_secrets[@]}"
  ) <&"$mf_input" >>"$mf_log" 2>&"$mf_gate" &
  mf_masker=$!
  exec {mf_input}<&-
}

mf_tell_masking() { printf . >&"$mf_gate"; }

# Waits until the log is complete.
mf_end_masking() {
  local mf_code
  mf_tell_masking
  mf_wait "$mf_masker"
  mf_code=$?
  exec {mf_gate}>&-
  # After 143 its status is lost: it cannot die of SIGTERM.
  if ((mf_code != 0 && mf_code != 143)); then mf_die "cannot write $mf_log"; fi
}

