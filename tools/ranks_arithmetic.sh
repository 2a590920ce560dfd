#!/bin/sh
# sh tools/ranks_arithmetic.sh [LATENCY LINK [MEMORY FLOPS]]: what --tp gains by arithmetic, for GPT-2 in 16 bits
#
#   sh tools/ranks_arithmetic.sh 8 370              # microseconds a message, GB/s that a GPU receives: NVLink of an H100
#   sh tools/ranks_arithmetic.sh 15 20 1555 250     # PCIe 4; GB/s of memory and TFLOP/s of products: an A100
#
# Nothing is measured. kernels/NOTES.md (Ranks) has the formula in words, and what each figure rests on.
case "$*" in *[!0-9.\ ]*) sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 2 ;; esac
exec awk -v latency="${1:-8}" -v link="${2:-370}" -v memory="${3:-4300}" -v tflops="${4:-780}" '
function most(a, b) { return a > b ? a : b }
function up(a, b) { return int((a + b - 1) / b) }

# Microseconds. Of rows x in x out: the weights once from memory, or the multiply-adds.
function product(weights) { return most(2 * weights / memory / 1e3, 2 * rows * weights / tflops / 1e6) }
function passing(bytes) { return bytes / memory / 1e3 }

# A sum: everything gathered at once, or parts exchanged, added and gathered; then the kernel that adds.
function sum_ranks(bytes, n,    once, twice) {
    if (n == 1)
        return 0
    once = latency + (n - 1) * bytes / link / 1e3 + passing((n + 1) * bytes)
    twice = 2 * latency + 2 * (n - 1) / n * bytes / link / 1e3 + passing((n + 1) * bytes / n)
    return GAP + (once < twice ? once : twice)
}
function join_ranks(bytes, n) {
    return n == 1 ? 0 : GAP + latency + (n - 1) / n * bytes / link / 1e3 + passing(2 * bytes)
}

# A step of `rows` texts with `keys` tokens behind each, or (keys 0) `rows` tokens of texts of 1024 at once.
function step(n,    heads, inner, words, attention, apart) {
    heads = up(H, n) / H; inner = up(4 * H, n) / (4 * H); words = up(up(V, n), 64) * 64 / V
    attention = keys ? most(DECODE, passing(rows * keys * 4 * E * heads)) : 4 * rows * 512.5 * E * heads / PREFILL / 1e6
    apart = product(4 * E * E * heads) + product(8 * E * E * inner) + attention
    return L * (apart + 7 * GAP + 2 * most(NORM, passing(12 * rows * E)) + 2 * sum_ranks(2 * rows * E, n)) \
        + sum_ranks(4 * rows * E, n) + product(V * E * words) + join_ranks(4 * rows * V, n) + passing(8 * rows * V)
}

BEGIN {
    GAP = 1.3; NORM = 2.5; DECODE = 5; PREFILL = 290 # us between kernels of a graph; least of add_norm, attend_decode; TFLOP/s
    V = 50257
    split("124M 355M 774M 1558M", name); split("12 16 20 25", heads_of); split("12 24 36 48", layers_of)
    split("1 64 512 8192", rows_of)
    printf "speed-up of N GPUs over one, by arithmetic: %g us and %g GB/s between GPUs, %g GB/s of memory, %g TFLOP/s\n\n", \
        latency, link, memory, tflops
    printf "| model | rows | one GPU, ms | MB received, N = 2 | N = 2 | 4 | 8 |\n|---|---|---|---|---|---|---|\n"
    for (m = 1; m <= 4; m++)
        for (r = 1; r <= 4; r++) {
            H = heads_of[m]; E = 64 * H; L = layers_of[m]; rows = rows_of[r]; keys = rows > 1024 ? 0 : 512
            one = step(1)
            printf "| %s | %d%s | %.2f | %.1f |", name[m], rows, keys ? "" : " read", one / 1e3, \
                rows * ((4 * L + 4) * E + 2 * V) / 1e6
            for (n = 2; n <= 8; n *= 2)
                printf " %.2f |", one / step(n)
            printf "\n"
        }
}'
