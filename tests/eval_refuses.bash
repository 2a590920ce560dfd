# For the tests of tandem eval, by `load`.

# Exit code $1, nothing on stdout, and one line on stderr that holds $2.
refuses() {
    local code=$1 says=$2
    shift 2
    run --separate-stderr "$TANDEM" eval "$@"
    [ "$status" -eq "$code" ] || { echo "exit $status: $stderr"; false; }
    [ "${#stderr_lines[@]}" -eq 1 ] || { echo "$stderr"; false; }
    [[ $stderr == "tandem eval: "*"$says"* ]] || { echo "$stderr"; false; }
    [ -z "$output" ]
}
