#!/usr/bin/env bash
# Flow every_feature, version 2.1
#
#   All that a flow can say.
#
#   In more than one paragraph; $(date) and `date` stay as they are.
#
# Written by MiniFlow, whose `miniflow run` does the same. It needs bash 4.3 or newer, coreutils and python3,
# and nothing of MiniFlow. It runs the tasks one after the other, and records what happens in a directory of its own
# below the output directory: events.jsonl (what happened), status/ (exit statuses), logs/ (what the tasks printed).
#
# Environment variables that change what it does, and what holds without them:
#   MINIFLOW_TASKS_DIR   the task scripts          /project/tasks
#   MINIFLOW_OUTPUT_DIR  where it records          /project/out
#   MINIFLOW_WORK_DIR    where the tasks run       /project
#   MINIFLOW_PYTHON      runs the .py scripts (*)  /opt/python/bin/python3, or python3 if that is not there
#   MINIFLOW_KEEP_GOING  1: after a failure, go on with what does not depend on it   0
#   MINIFLOW_GRACE       between SIGTERM and SIGKILL: 5, 500ms, 1m30s                5s
#   MINIFLOW_TIMEOUT     for all together, likewise; then what runs is ended         none
#   (*) but for the tasks that name an interpreter of their own
#
# It exits with 0 if every task that ran has succeeded, 1 if one failed, 2 if it cannot run at all, 124 if it took
# longer than its timeout, and after SIGINT, SIGTERM or SIGHUP by that signal.
#
# What stands in quotes here is data, whatever it looks like:
# shellcheck disable=SC1003,SC1110,SC1111,SC1112,SC2016,SC2088

<opening.sh>

mf_flow=every_feature
mf_tasks=5
mf_tasks_dir=/project/tasks
mf_output_dir=/project/out
mf_work_dir=/project
mf_keep_going=0
mf_grace=5s
mf_timeout=
mf_params='{"date":"2023-01-01","limit":10,"quote":"it'\''s"}'
mf_param_names='"date","limit","quote"'
mf_python_1=.venv/bin/python
mf_python_2=python3.13

flow() {
  # --- plain -----------------------------------------------------------------------------------------------
  task plain all_success
  run env TZ=UTC GREETING='hello, world' bash "${MINIFLOW_TASKS_DIR:-/project/tasks}"/plain.sh

  # --- listed ----------------------------------------------------------------------------------------------
  # Takes a list.
  # "shellcheck disable=all is no directive here."
  task listed all_success
  directory data/2023-01-01
  run env TZ=Europe/Zurich GREETING='hello, world' EMPTY= ID=listed "${mf_python_1:-/project/.venv/bin/python}" "${MINIFLOW_TASKS_DIR:-/project/tasks}"/sub/listed.py --limit 10 1.5 true 2023-01-01 'a b' '' 'it'\''s' '$(date)' $'x\ny' '{{' -n '*'

  # --- optioned --------------------------------------------------------------------------------------------
  task optioned all_success plain listed
  time_limit 90
  retry_after 0.5 1 1.5
  retry_on 75 111
  run env TZ=UTC GREETING='hello, world' "${mf_python_2:-python3.13}" "${MINIFLOW_TASKS_DIR:-/project/tasks}"/sub/listed.py --input-file in.csv -v 3 --verbose --tag a --tag b -x-1

  # --- a.b-c -----------------------------------------------------------------------------------------------
  task a.b-c all_done optioned
  directory /srv
  run env TZ=UTC GREETING='hello, world' "${MINIFLOW_TASKS_DIR:-/project/tasks}"/program

  # --- if --------------------------------------------------------------------------------------------------
  task if one_failed optioned
  retry_after 0 0
  run env TZ=UTC GREETING='hello, world' "${mf_python_1:-/project/.venv/bin/python}" "${MINIFLOW_TASKS_DIR:-/project/tasks}"/own.py

}

<machinery.sh>
