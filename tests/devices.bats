#!/usr/bin/env bats
# --devices: workers that share a job, die, are stopped, and leave the bytes of one process. On the null device, whose
# numbers mean nothing, so that there are as many as one likes.

setup() {
    bats_require_minimum_version 1.5.0
    mkdir "$BATS_TEST_TMPDIR/here" && cd "$BATS_TEST_TMPDIR/here"
    . "$TDM_SOURCE_DIR/tests/devices.bash"
}

teardown() {
    end_all
}

# start or start_group, with a command whose workers each stand still in front of their second write, the first line of a
# journal (crash/faults.h): however fast they are, the run is not over before they go on. That is as far as a worker comes
# for certain: one write takes whatever is ready.
hold() {
    hold_at pwrite:2 "$@"
}

# The same in front of another call.
hold_at() {
    local call=$1
    shift
    : > "$BATS_TEST_TMPDIR/hold"
    TANDEM=$TANDEM_FAULTS TDM_FAULT=$call:stop TDM_FAULT_WHILE=$BATS_TEST_TMPDIR/hold "$@"
}

# These workers go on, and those that come later do not stop.
release() {
    rm -f "$BATS_TEST_TMPDIR/hold"
    kill -CONT "$@"
}

# Wait until $1 workers stand still.
held() {
    local p n=0
    while [ "$n" -ne "$1" ]; do
        kill -0 "$pid" || { cat said; return 1; }
        n=0
        for p in $(workers); do
            ! grep -q '^State:.T' "/proc/$p/status" 2> /dev/null || n=$((n + 1))
        done
    done
}

# These workers (all) go on, once the signal of the first process has reached them.
go_on() {
    local p
    for p in ${*:-$(workers)}; do
        [ -e "/proc/$p" ] || continue # killed before
        until grep -q '^ShdPnd:.*[4-7c-f]...$' "/proc/$p/status"; do kill -0 "$pid"; done
        release "$p"
    done
}

# $1 devices, OUT $2, the rest a command: the bytes of `want`, and of its errors, counts and manifest.
same_with() {
    local devices=$1 out=$2 want=$3
    shift 3
    "$@" --devices "$devices" --out "$out" || [ $? -eq 3 ]
    same "$want" "$out"
}

@test "the bytes of one process: detect, of plain and compressed files, to plain and compressed ones" {
    many_texts 700 > in.jsonl
    mkdir in
    head -n 300 in.jsonl > in/a.jsonl
    { sed -n 301,500p in.jsonl; echo '{"text": 5}'; } | gzip > in/b.jsonl.gz
    sed -n '501,$p' in.jsonl | zstd -q > in/c.jsonl.zst
    for ending in jsonl jsonl.gz jsonl.zst; do
        detect --out want.$ending in || [ $? -eq 3 ]
        for devices in 0 0,1 0,1,2,3; do
            same_with $devices "$devices.$ending" want.$ending detect in
        done
    done
}

@test "the bytes of one process: generate, also from prompts, one of which spans chunks, and score" {
    generate --n 300 --out want.n
    prompts > prompts.jsonl
    prompts | gzip > prompts.jsonl.gz
    from_prompts() { generate --prompts prompts.jsonl.gz --samples-per-prompt 11 "$@"; }
    from_prompts --out want.p || [ $? -eq 3 ]
    many_texts 60 > in.jsonl
    score --out want.s in.jsonl
    for devices in 0 0,1 0,1,2,3; do
        same_with $devices n.$devices want.n generate --n 300
        same_with $devices p.$devices want.p from_prompts
        same_with $devices s.$devices want.s score in.jsonl
    done
}

@test "stopped: 75, one line; gone on with other numbers, and without: the same bytes" {
    big --out want
    for signal in TERM INT; do
        hold start big --devices 0,1,2,3 --out out.$signal
        held 4
        kill -$signal "$pid"
        go_on
        ends 75
        [ "$(grep -c 'stopped by signal .* chunks are done, the same command again goes on' said)" -eq 1 ]
        [ "$(grep -c '(stopped)$' said)" -eq 1 ]
        [ ! -e out.$signal ]
        none_left
    done
    hold start big --devices 5,1 --out out.TERM
    held 2
    kill -USR1 "$pid"
    go_on
    ends 75
    grep -q 'going on, [0-9]* of 1250 chunks are done' said
    big --out out.TERM
    same want out.TERM
    big --devices 0,1,2 --out out.INT
    same want out.INT
}

@test "a signal that reaches the whole group, as from a terminal, is one signal; a second one ends at once" {
    hold start_group big --devices 0,1 --out out
    held 2
    kill -INT -- -"$pid"
    go_on
    ends 75
    [ "$(grep -c died said)" -eq 0 ] || { cat said; false; }
    none_left
    hold start big --devices 0,1 --out out
    held 2
    kill -TERM "$pid"
    go_on "$(worker_pid 1)" # the other one keeps the first process from ending
    gone "$(worker_pid 1)"
    kill -TERM "$pid"
    ends 143
    none_left
}

@test "signals that were inherited as ignored: workers are stopped all the same, and it is known how they end" {
    exec_tandem() {
        exec env --default-signal=INT --ignore-signal=TERM,CHLD "$TANDEM_NOW" "$@"
    }
    hold start big --devices 0,1 --out out
    held 2
    kill -KILL "$(worker_pid 1)"
    started 1 2
    held 2
    kill -INT "$pid"
    go_on
    ends 75
    grep -q 'worker 1 (null:1) died by signal 9' said || { cat said; false; }
    [ ! -e out ]
    none_left
}

@test "a signal that comes when OUT is there already: complete" {
    for i in 1 2 3; do
        start generate --n 2000 --devices 0,1 --json --out out.$i
        until [ -e out.$i ]; do kill -0 "$pid"; done
        kill -STOP "$pid" || true # it has not heard of it; or it has, and is gone
        kill -TERM "$pid" || true
        kill -CONT "$pid" || true
        ends 0
        [[ $(< printed) == *'"state": "complete", "in": 2000, '* ]] || { cat printed said; false; }
        [ ! -e out.$i.job ]
    done
}

@test "the first process is killed: its workers end with it, and the job goes on" {
    big --out want
    hold start big --devices 0,1,2 --out out
    held 3
    kill -KILL "$pid"
    ends 137
    none_left
    big --devices 0,1,2 --out out
    same want out
}

@test "workers are killed, one after the other and two at once: the same bytes, and they are started again" {
    big --out want
    hold start big --devices 0,1,2,3 --out out --json
    for worker in 0 2; do
        held 4
        kill -KILL "$(worker_pid $worker)"
        started $worker 2
    done
    held 4
    kill -KILL "$(worker_pid 1)" "$(worker_pid 3)"
    started 1 2 && started 3 2
    held 4
    kill -KILL "$(worker_pid 0)"
    started 0 3
    held 4
    release $(for worker in 0 1 2 3; do worker_pid $worker; done)
    ends 0
    same want out
    [ "$(grep -c 'died by signal 9; its chunks go back (fault [12], 3 are too many)' said)" -eq 5 ] || { cat said; false; }
    [[ $(< printed) == *'"in": 20000, "ok": 20000, "bad": 0'*'"before": 0,'*'"workers": [{"devices": [0], "chunks": '* ]]
    [[ $(< printed) == *'{"devices": [0], "chunks": '*', "faults": 2}, {"devices": [1], '*'"faults": 1}]'* ]] || { cat printed; false; }
}

@test "a device that dies whenever it begins is left out, and the others do its work; where all do, 75" {
    big --out want
    hold_at pread:30 start big --devices 0,1,2 --out out --json # it reads the weights: the job is open, and no chunk granted
    for i in 1 2 3; do
        started 1 $i
        held 3
        kill -KILL "$(worker_pid 1)"
    done
    release "$(worker_pid 0)" "$(worker_pid 2)"
    ends 0
    same want out
    grep -q 'worker 1 (null:1) died by signal 9; its chunks go back; with 3 faults it is left out' said
    [[ $(< printed) == *'{"devices": [1], "chunks": '*', "faults": 3}'* ]]
    hold_at pread:30 start big --devices 7 --out other
    for i in 1 2 3; do
        started 0 $i
        held 1
        kill -KILL "$(worker_pid 0)"
    done
    ends 75
    grep -q 'no device is left, each had 3 faults or more; worker 0 (null:7) died by signal 9 (stopped)' said
    big --out other
    same want other
}

@test "a worker that gives no sign any more is killed, and its chunks are done by others" {
    [ -n "${TANDEM_HASTY:-}" ] || skip "there is no tandem_hasty"
    bigger --out want
    TANDEM=$TANDEM_HASTY
    start bigger --devices 0,1 --out out
    until [ -e out.job/0.journal ]; do kill -0 "$pid"; done
    kill -STOP "$(worker_pid 0)"
    ends 0
    same want out
    grep -q 'worker 0 (null:0) died without a sign for 1 seconds; its chunks go back' said
}

@test "who was stopped together with its workers, as by Ctrl-Z, takes none of them for hung" {
    [ -n "${TANDEM_HASTY:-}" ] || skip "there is no tandem_hasty"
    TANDEM=$TANDEM_HASTY
    start_group big --n 1000000 --devices 0,1 --out out
    committed out 20
    kill -STOP -- -"$pid"
    sleep 1.2 # longer than it waits for a sign
    kill -CONT -- -"$pid"
    committed out $(($(cat out.job/*.journal | wc -l) + 20))
    kill -TERM "$pid"
    ends 75
    [ "$(grep -c died said)" -eq 0 ] || { cat said; false; }
}

@test "bad records of all workers are judged together" {
    { many_texts 100; echo 5; many_texts 200; echo 6; many_texts 200; echo 7; } > in.jsonl
    detect --max-errors 3 --out want in.jsonl || [ $? -eq 3 ]
    run --separate-stderr detect --devices 0,1,2,3 --max-errors 3 --json --out out in.jsonl
    [ "$status" -eq 3 ]
    [[ $output == *'"in": 508, "ok": 500, "bad": 3, "skipped": 5'* ]] || { echo "$output"; false; }
    [[ $stderr == *"3 of 503 records are bad: 3 not-object; see out.errors.jsonl"* ]] || { echo "$stderr"; false; }
    same want out
    for limit in 2 0.5%; do
        run --separate-stderr detect --devices 0,1,2,3 --max-errors $limit --out out.$limit in.jsonl
        [ "$status" -eq 65 ] || { echo "exit $status: $stderr"; false; }
        [ "$(grep -c 'bad format' <<< "$stderr")" -eq 1 ] || { echo "$stderr"; false; }
        [[ $stderr == *"--max-errors $limit"* ]]
        [ ! -e out.$limit ]
        detect --devices 0,1 --max-errors 3 --out out.$limit in.jsonl || [ $? -eq 3 ]
        same want out.$limit
    done
}

@test "processes with workers each: the ranks of the job" {
    big --out want
    big --shard 1/2 --devices 0,1 --out out --json > printed 2> said
    [[ $(< printed) == *'"state": "waiting"'* ]] || { cat printed; false; }
    grep -q 'rank 1 of 2 is done, the others have [0-9]* chunks left' said
    [ "$(cat out.job/[01].journal 2> /dev/null | wc -l)" -eq 0 ]
    big --shard 0/2 --devices 0,1 --out out --json > printed
    [[ $(< printed) == *'"state": "complete", "in": 20000'* ]]
    same want out
}

@test "complete: said once; --restart discards; other options: 78, one line" {
    generate --n 100 --devices 0,1 --out out
    cp out want
    run --separate-stderr generate --n 100 --devices 0,1 --out out
    [ "$status" -eq 0 ]
    [ "$stderr" = "tandem generate: out: complete already, 100 records" ] || { echo "$stderr"; false; }
    run --separate-stderr generate --n 101 --devices 0,1 --out out
    [ "$status" -eq 78 ]
    [[ $stderr == *"n is 101, was 100"* ]]
    [ "$(wc -l <<< "$stderr")" -eq 1 ] || { echo "$stderr"; false; }
    generate --n 101 --devices 0,1 --restart --out out
    [ "$(wc -l < out)" -eq 101 ]
    hold start big --devices 0,1 --out half
    held 2
    kill -TERM "$pid"
    go_on
    ends 75
    generate --n 100 --devices 0,1,2 --restart --out half
    cmp want half
    # not while others are at work
    hold start big --devices 0,1 --out half2
    held 2
    run --separate-stderr generate --n 20000 --devices 0,1 --restart --out half2
    [ "$status" -eq 73 ] || { echo "$status $stderr"; false; }
    kill -TERM "$pid"
    go_on
    ends 75
}

# Exit code $1, one line on stderr that holds $2.
refused() {
    local code=$1 says=$2
    shift 2
    run --separate-stderr "$@"
    [ "$status" -eq "$code" ] || { echo "exit $status: $stderr"; false; }
    [[ $stderr == *"$says"* ]] || { echo "$stderr"; false; }
    [ "${#stderr_lines[@]}" -eq 1 ] || { echo "$stderr"; false; }
    [ -z "$(ls)" ] || { ls; false; }
}

@test "what is refused, with one line and nothing made" {
    rm -rf ./*
    model=$TDM_SOURCE_DIR/tools/demo/writer
    refused 2 "--devices wants --out FILE: stdout is a stream" generate --devices 0,1
    refused 2 "device 0 is listed twice" generate --devices 0,2,0 --out out
    refused 2 '"x" is no device' generate --devices 0,x --out out
    refused 2 '"" is no device' generate --devices 0, --out out
    refused 2 '"00000" is no device' generate --devices 00000 --out out
    refused 2 "no number of null devices" generate --devices all --out out
    refused 2 "3 devices, --tp 2 wants a multiple of 2" generate --devices 0,1,2 --tp 2 --out out
    refused 2 "--tp auto with --devices" generate --devices 0,1 --tp auto --out out
    refused 2 "--dry-run with --devices" generate --devices 0,1 --dry-run --out out
    refused 2 "the CPU is one device" "$TANDEM" generate --model "$model" --device cpu --devices 0,1 --out out
    refused 2 "--devices alone" "$TANDEM" generate --model "$model" --device cuda:1 --devices 0,1 --out out
    refused 2 "--device tpu: want auto, cuda or null" "$TANDEM" generate --model "$model" --device tpu --devices 0 --out out
    refused 2 "--shard 3/2" generate --devices 0,1 --shard 3/2 --out out
    refused 2 "--restart with 2 processes" generate --quiet --devices 0,1 --shard 0/2 --restart --out out
    refused 2 "stdin: the workers of --devices cannot read a stream" detect --devices 0 --out out -
    refused 66 "nothere" generate --devices 0,1 --model nothere --out out
    refused 66 "nothere" detect --devices 0,1 --out out nothere.jsonl
    refused 73 "nothere" generate --devices 0,1 --out nothere/out
}

@test "what cannot be written ends all workers, with one line" {
    run --separate-stderr generate --n 100 --devices 0,1 --metrics-file nothere/run.prom --quiet --out out
    [ "$status" -eq 73 ]
    [[ $stderr == *"nothere/run.prom"* ]]
    [ "${#stderr_lines[@]}" -eq 1 ] || { echo "$stderr"; false; }
    mkdir out.errors.jsonl
    run --separate-stderr generate --n 100 --devices 0,1 --quiet --out out
    [ "$status" -eq 74 ] || { echo "$status $stderr"; false; }
    [ "${#stderr_lines[@]}" -eq 1 ] || { echo "$stderr"; false; }
}

@test "progress, metrics and events are those of all workers" {
    start big --devices 0,1 --progress json --metrics-file run.prom --json --out out
    ends 0
    [ "$(grep -o '"records": [0-9]*' printed | awk '{ n += $2 } END { print n }')" -eq 20000 ] # none was done twice
    [ "$(grep -c '"event": "start"' said)" -eq 1 ]
    grep -q '"event": "finish".*"ranks": 1, "before": 0, "done": 20000, "total": 20000, ' said
    grep -qx 'tandem_records_total{command="generate",rank="0"} 20000' run.prom
    grep -qx 'tandem_finished{command="generate",rank="0"} 1' run.prom
    [ "$(ls run*)" = run.prom ]
}
