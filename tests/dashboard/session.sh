#!/usr/bin/env bash
# A scripted terminal session (tmux): opens every tab, filters, scrubs, resizes, closes the dashboard, attaches from a
# second terminal, stops the run. Usage: tests/dashboard/session.sh [MURMUR], from the root of the repository.
# FRAMES=DIR keeps a picture of each step.
set -euo pipefail
murmur=$(realpath "${1:-target/release/murmur}")
dir=$(mktemp -d)
frames=${FRAMES:-$dir/frames}
mkdir -p "$frames"
mux() { tmux -L "murmur-$$" "$@"; }
trap 'mux kill-server 2>/dev/null || true; sleep 1; rm -rf "$dir"' EXIT

show() { mux capture-pane -t "$1" -p; }
press() { local pane=$1; shift; mux send-keys -t "$pane" "$@"; }
# expect PANE WHAT TEXT: waits until the pane shows it.
expect() {
    local until=$((SECONDS + 60))
    while ((SECONDS < until)); do
        if show "$1" | grep -qE -- "$3"; then
            show "$1" >"$frames/${2// /-}.txt"
            echo "ok: $2"
            return
        fi
        sleep 0.1
    done
    echo "FAILED: $2: no /$3/ in" >&2
    show "$1" >&2
    exit 1
}

mux -f /dev/null new-session -d -s run -x 80 -y 24
mux set-option -g remain-on-exit on
press run "cd $dir && stty -a | tr ' ' '\n' | grep -E '^-?(icanon|echo);?$' > before; $murmur demo --rounds 900 --seed 5 --out demo; echo code \$?" Enter
expect run "a dashboard" "in\?.*yes: one of 4"
expect run "rounds go by" "round [0-9]+/900"
for tab in "2:Round [0-9]+ prompts" "3:Swarm, by vote" "4:entropy" "5:Families, hardest" "6:Since the start" "7:events, all levels"; do
    press run "${tab%%:*}"
    expect run "tab ${tab%%:*}" "${tab#*:}"
done
press run v
expect run "only warnings" "warnings and errors"
press run v v / "spoilt" Enter
expect run "a filter" "^ /spoilt"
press run Escape
expect run "no filter" "v level|↑↓ move"
expect run "some rounds" "round [0-9]{2,}/900"
press run 1 Home
expect run "looking back" "looking back at round 1/900"
press run l
expect run "one round on" "looking back at round 2/900"
press run f
expect run "following again" "● live"
press run "?"
expect run "help" "Keys on Overview"
press run x
mux resize-window -t run -x 140 -y 45
expect run "a wide screen" "swarm [0-9a-f]{8}"
mux resize-window -t run -x 40 -y 10
expect run "a screen that is too small" "is too small"
mux resize-window -t run -x 80 -y 24
expect run "the old size" "in\?.*yes"

mux new-session -d -s look -x 100 -y 30
press look "cd $dir && $murmur watch demo --tab swarm; echo code \$?" Enter
expect look "attached" "Swarm, by vote"
press look q
expect look "detached" "code 0"
press look "clear; $murmur watch demo" Enter
expect look "attached again" "● live"
press look C-c
expect look "detached by ctrl-c" "the run itself goes on"

press run q
expect run "plain lines after the dashboard" "round +[0-9]+/900  right"
press run C-c
expect run "stopped" "code 130"
press run "clear; stty -a | tr ' ' '\n' | grep -E '^-?(icanon|echo);?$' > after; cmp before after && echo terminal as before" Enter
expect run "the terminal as it was" "^terminal as before"

press look "clear; $murmur watch demo" Enter
expect look "a finished run with a scrubber" "■ ended"
press look Space
expect look "a replay" "▶ playing"
press look q

press run "clear; $murmur watch demo --tab logs" Enter
expect run "a look to be killed" "events, all levels"
kill -TERM "$(pgrep -f "^$murmur watch demo --tab logs")"
press run "clear; stty -a | tr ' ' '\n' | grep -E '^-?(icanon|echo);?$' > after; cmp before after && echo terminal as before" Enter
expect run "the terminal after SIGTERM" "^terminal as before"

press run "clear; $murmur demo --rounds 30 --seed 5 --out again; echo code \$?" Enter
expect run "an end that waits" "■ ended"
press run q
expect run "the table afterwards" "code 0"
echo "all steps passed"
