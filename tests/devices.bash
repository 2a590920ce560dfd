# Sourced by devices.bats and crash/workers.sh: commands with --devices, and processes that are watched and killed.
writer=$TDM_SOURCE_DIR/tools/demo/writer
reader=$TDM_SOURCE_DIR/tools/demo/reader
pid= # of what runs in the background

# With small chunks, so that there are enough for all.
generate() {
    "$TANDEM" generate --model "$writer" --device null --length 12 --chunk 4 --progress none --max-errors 100% "$@"
}

# 1250 chunks: long enough to be killed in the middle.
big() {
    generate --n 20000 --chunk 16 --length 40 --batch 64 "$@"
}

# Long enough to start workers again and again.
bigger() {
    big --n 100000 "$@"
}

detect() {
    "$TANDEM" detect --model "$reader" --device null --chunk 1KiB --progress none --max-errors 100% "$@"
}

score() {
    "$TANDEM" score --model "$writer" --device null --chunk 1KiB --progress none "$@"
}

# Lines of $1 texts of many lengths; every 70th is blank, every 50th has no id.
many_texts() {
    awk -v n="$1" 'BEGIN {
        for (i = 0; i < n; i++) {
            printf i % 50 == 49 ? "{\"text\": \"" : "{\"id\": %d, \"text\": \"", i
            for (k = 0; k <= i * 37 % 90; k++) printf "%sthe word%d", k ? " " : "", (i * k) % 11
            print "\"}"
            if (i % 70 == 69) print ""
        }
    }'
}

prompts() {
    awk 'BEGIN {
        for (i = 1; i <= 40; i++) {
            if (i % 10 == 4) print "{\"id\": " i ", \"text\": \"\"}"
            else if (i % 10 == 8) print ""
            else print "{\"id\": " i ", \"text\": \"in the beginning " i "\"}"
        }
    }'
}

# Results, error records, and all of the manifest.
same() {
    cmp "$1" "$2"
    [ ! -e "$2.job" ] || { ls -l "$2.job"; return 1; }
    if [ -e "$1.errors.jsonl" ]; then cmp "$1.errors.jsonl" "$2.errors.jsonl"; else [ ! -e "$2.errors.jsonl" ]; fi
    cmp "$1.manifest.json" "$2.manifest.json"
}

# A function above in the background, as $pid; its words in printed and said.
start() {
    : > said
    exec_it "$@" > printed 2> said 3>&- &
    pid=$!
}

# The same in a process group of its own, whose number is $pid.
start_group() {
    : > said
    set -m
    exec_it "$@" > printed 2> said 3>&- &
    pid=$!
    set +m
}

# Such a function with exec in front of the program, so that $! is the program.
exec_it() {
    TANDEM_NOW=$TANDEM
    TANDEM=exec_tandem
    "$@"
}

exec_tandem() {
    exec env --default-signal=INT,HUP,USR1,TERM "$TANDEM_NOW" "$@"
}

# $pid ends soon, with this exit code.
ends() {
    local code=0
    timeout 60 tail -s 0.02 --pid="$pid" -f /dev/null || { kill -KILL "$pid"; echo "it did not end"; }
    wait "$pid" || code=$?
    pid=
    [ "$code" -eq "$1" ] || { echo "exit $code"; cat said; return 1; }
}

end_all() {
    [ -z "$pid" ] || kill -KILL "$pid" 2> /dev/null || true
}

# Wait until worker $1 was said to be there for the $2nd time.
started() {
    while [ "$(grep -c "worker $1: " said)" -lt "${2:-1}" ]; do
        kill -0 "$pid" 2> /dev/null || return 1
        sleep 0.01
    done
}

# Wait until a worker is there and the ranks of the job of $1 have committed $2 chunks, or the run is over.
committed() {
    local n=0
    started 0
    while [ "$n" -lt "$2" ]; do
        n=$(cat "$1".job/*.journal 2> /dev/null | wc -l)
        kill -0 "$pid" 2> /dev/null || return 0
        [ ! -e "$1" ] || return 0
    done
}

# The process that was last said to be worker $1.
worker_pid() {
    sed -n "s/.*worker $1: .*, process \([0-9]*\).*/\1/p" said | tail -n 1
}

gone() {
    timeout 20 tail -s 0.02 --pid="$1" -f /dev/null || { echo "process $1 is still there"; return 1; }
}

# All processes that were said to be workers.
workers() {
    sed -n 's/.*worker [0-9]*: .*, process \([0-9]*\).*/\1/p' said
}

# None of them is left.
none_left() {
    local p
    for p in $(workers); do gone "$p"; done
}
