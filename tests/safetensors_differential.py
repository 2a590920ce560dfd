"""Mutated safetensors files: what tandem accepts, the reference library must accept too.

    python3 tests/safetensors_differential.py build/libtandem.a [--files 100000] [--seed 0]

Needs gcc, libcjson and the Python package safetensors. Headers are mutated as text and as structure;
each file goes through tdm_safetensors_parse and through safetensors.deserialize. Prints the counts,
and exits with 1 when a file is accepted here and refused there, or is read differently.
"""
import argparse
import collections
import ctypes
import json
import os
import random
import re
import struct
import subprocess
import sys
import tempfile

import safetensors

MAX_RANK = 8
SHIM = r"""
#include <stdio.h>
#include <string.h>
#include "host/safetensors.h"
/* One line per tensor: name, type, shape, begin, end. Returns the status, or -1 when out is small. */
int parse(const char *header, size_t len, size_t data_bytes, char *out, size_t cap)
{
    tdm_safetensors st;
    tdm_err err = {0};
    const int status = (int)tdm_safetensors_parse(header, len, data_bytes, 0, &st, &err);
    size_t n = 0;
    out[0] = 0;
    if (status != TDM_OK)
        snprintf(out, cap, "%s", err.msg);
    for (size_t i = 0; i < st.n && n < cap; i++) {
        const tdm_tensor *t = &st.tensors[i];
        char shape[TDM_SHAPE_TEXT];
        tdm_tensor_shape(t, shape, sizeof shape);
        const size_t begin = t->offset - 8 - len;
        n += (size_t)snprintf(out + n, cap - n, "%s\x1f%s\x1f%s\x1f%zu\x1f%zu\n", t->name, t->type_name,
                              shape, begin, begin + t->bytes);
    }
    tdm_safetensors_close(&st);
    return n < cap ? status : -1;
}
"""


def load(archive):
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    folder = tempfile.mkdtemp()
    source, library = os.path.join(folder, "shim.c"), os.path.join(folder, "shim.so")
    with open(source, "w") as f:
        f.write(SHIM)
    subprocess.run(["gcc", "-O1", "-fPIC", "-shared", "-D_GNU_SOURCE", "-I", root, "-o", library,
                    source, archive, "-lcjson", "-lm", "-lpthread"], check=True)
    lib = ctypes.CDLL(library)
    lib.parse.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_char_p,
                          ctypes.c_size_t]
    return lib


# ---- files ----

ITEM = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1,
        "BOOL": 1, "U16": 2, "U32": 4, "U64": 8, "F8_E4M3": 1, "F8_E5M2": 1, "C64": 8}
ODD_NUMBERS = ("-1", "1.0", "1e0", "-0", "01", "9007199254740992", "9007199254740993",
               "18446744073709551615", "18446744073709551616", "1e400", "null", "\"1\"", "[]",
               "true", "{}")
ODD_NAMES = ("", "a", "A", "\u00e9", "\U0001f600", "a.b", "__metadata__", "x" * 300, "\\", "\"", "a\nb")
PIECES = (b"{", b"}", b"[", b"]", b",", b":", b"\"", b"\\", b"\\u0000", b"\\ud800", b"\\u0061",
          b"\x00", b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\t", b"\n", b" ", b"\x0b", b"//",
          b"NaN", b"1e5", b"-", b"0", b"9", b"\"dtype\":\"F32\"", b"\"a\":", b"\xef\xbb\xbf")


def base(rng):
    """A valid header as a list of (name, entry), and the bytes of its data."""
    at, entries = 0, []
    for i in range(rng.randrange(0, 5)):
        dtype = rng.choice(list(ITEM))
        shape = [rng.choice((0, 1, 2, 3)) for _ in range(rng.randrange(0, 4))]
        size = ITEM[dtype]
        for d in shape:
            size *= d
        name = rng.choice(ODD_NAMES) if rng.random() < 0.1 else f"t{i}"
        entries.append((name, {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}))
        at += size
    if rng.random() < 0.3:
        entries.insert(0, ("__metadata__", {"format": "pt"}))
    rng.shuffle(entries)
    return entries, at


def nudge(rng, entries):
    """Change one thing of one entry."""
    i = rng.randrange(len(entries))
    name, entry = entries[i]
    entry = json.loads(json.dumps(entry))
    what = rng.randrange(8)
    if what == 0:
        entries.append((rng.choice([e[0] for e in entries]), entry))
    elif what == 1:
        entries[i] = (rng.choice(ODD_NAMES), entry)
    elif what == 2:
        entry[rng.choice(("x", "dtype", "shape", "data_offsets"))] = rng.choice((0, "F32", [], [0, 4]))
        entries[i] = (name, entry)
    elif what == 3:
        entry.pop(rng.choice(list(entry)), None)
        entries[i] = (name, entry)
    elif "data_offsets" in entry:
        if what <= 5:
            entry["data_offsets"][rng.randrange(2)] += rng.choice((-1, 1, 4, 8))
        elif what == 6:
            entry["shape"].insert(0, rng.choice((0, 1, 2, 1 << 32, 1 << 53, (1 << 64) - 1)))
        else:
            entry["dtype"] = rng.choice(list(ITEM) + ["f32", "F4", "Q8", ""])
        entries[i] = (name, entry)


def text_of(entries):
    return "{" + ",".join(json.dumps(n, ensure_ascii=len(n) % 2 == 0) + ":" + json.dumps(e)
                          for n, e in entries) + "}"


def mutate_bytes(rng, text):
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(text) + 1)
        kind = rng.randrange(5)
        if kind == 0:
            text = text[:at] + rng.choice(PIECES) + text[at:]
        elif kind == 1:
            text = text[:at] + text[at + rng.randrange(1, 6):]
        elif kind == 2 and at < len(text):
            text = text[:at] + bytes([rng.randrange(256)]) + text[at + 1:]
        elif kind == 3:
            numbers = list(re.finditer(rb"\d+", text))
            if numbers:
                m = rng.choice(numbers)
                text = text[:m.start()] + rng.choice(ODD_NUMBERS).encode() + text[m.end():]
        else:
            text += rng.choice((b" ", b"   ", b"\n", b"\x00", b"}", b" x"))
    return text


def make(rng):
    entries, size = base(rng)
    if entries and rng.random() < 0.6:
        nudge(rng, entries)
    text = text_of(entries).encode("utf-8", "surrogatepass")
    if rng.random() < 0.5:
        text = mutate_bytes(rng, text)
    if rng.random() < 0.1:
        size += rng.choice((-1, 1, 8))
    return text, max(0, size)


# ---- verdicts ----

def ours(lib, text, size, out):
    status = lib.parse(text, len(text), size, out, len(out))
    if status != 0:
        return None, out.value.decode()
    rows = out.value.decode().split("\n")[:-1]
    return sorted(tuple(r.split("\x1f")) for r in rows), ""


def reference(text, size):
    """The same rows, or None. The library gives names, types, shapes and bytes, but no offsets: the
    data is numbered, so that the bytes tell where they come from."""
    data = b"".join(struct.pack("<B", i % 251) for i in range(size))
    try:
        tensors = safetensors.deserialize(struct.pack("<Q", len(text)) + text + data)
    except Exception as e:  # SafetensorError is no subclass of anything narrower
        return None, str(e)
    return sorted((n, t["dtype"], str(list(t["shape"])), bytes(t["data"])) for n, t in tensors), ""


def same(mine, theirs, size):
    data = bytes(i % 251 for i in range(size))
    return [(n, d, s, data[int(b):int(e)]) for n, d, s, b, e in mine] == theirs


def stricter(text):
    """Why we may refuse what the reference takes; see host/safetensors.h."""
    return re.sub(r'"(?:[^"\\]|\\.)*"|\d+', "_", text)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("archive", help="libtandem.a of a build without sanitizers")
    p.add_argument("--files", type=int, default=100000)
    p.add_argument("--seed", type=int, default=0)
    o = p.parse_args()
    lib, rng, out = load(o.archive), random.Random(o.seed), ctypes.create_string_buffer(1 << 16)
    counts, reasons, bad = collections.Counter(), collections.Counter(), 0
    for _ in range(o.files):
        text, size = make(rng)
        mine, why = ours(lib, text, size, out)
        theirs, _ = reference(text, size)
        counts[mine is not None, theirs is not None] += 1
        if mine is not None and (theirs is None or not same(mine, theirs, size)):
            bad += 1
            if bad <= 10:
                print(f"accepted here, {'refused' if theirs is None else 'different'} there:",
                      text, size)
        if mine is None and theirs is not None:
            reasons[stricter(why)] += 1
    print(f"safetensors {safetensors.__version__}, {o.files} files, seed {o.seed}")
    for (here, there), n in sorted(counts.items(), reverse=True):
        print(f"{n:8} {'accepted' if here else 'refused '} here, "
              f"{'accepted' if there else 'refused'} there")
    for reason, n in reasons.most_common():
        print(f"{n:8} stricter here: {reason}")
    print(f"{bad:8} accepted here and refused or read differently there")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
