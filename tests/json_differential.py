"""Mutated JSON texts and random strings: tandem's verdicts and spelling beside Python's json.

    python3 tests/json_differential.py build/libtandem.a [--texts 100000] [--seed 0]

Needs gcc and libcjson. Exits with 1 when a text is accepted here and refused by Python, refused here
for a reason that Python does not share and that is not one of the documented ones, or when a string
is written differently from json.dumps.
"""
import argparse
import collections
import ctypes
import json
import os
import random
import subprocess
import sys
import tempfile

SHIM = r"""
#include <string.h>
#include "host/json.h"
/* -1: fine, else the fault; message receives the sentence. */
int verdict(const char *text, size_t len, char *message)
{
    tdm_json *doc = NULL;
    tdm_json_error why = {0};
    tdm_err err = {0};
    const tdm_status st = tdm_json_parse(text, len, 1000000, &doc, &why, &err);
    strcpy(message, err.msg);
    tdm_json_close(doc);
    return st == TDM_OK ? -1 : st == TDM_EFORMAT ? (int)why.fault : 99;
}
size_t spell(const char *text, size_t len, char *out)
{
    tdm_buf b = {0};
    tdm_json_put_string(&b, text, len, NULL);
    memcpy(out, b.p, b.len);
    const size_t n = b.len;
    tdm_buf_free(&b);
    return n;
}
"""
FAULTS = ("syntax", "utf8", "nul", "control", "duplicate", "too big")
PIECES = [s.encode("utf-8", "surrogatepass") for s in (
    "{", "}", "[", "]", ",", ":", '"', "\\", "\\n", "\\u0000", "\\u0041", "\\ud800", "\\udc00",
    "\\ud83d\\ude00", "\\uZZZZ", "\\x", "\x00", "\x01", "\t", "\n", "\r", " ", "\x0b", "\x7f", "\u00e9",
    "\u4e2d", "\U0001f600", "\ufeff", "true", "null", "NaN", "-Infinity", "0", "-0", "01", "1.", ".5",
    "1e5", "1E+05", "1e", "9" * 70, "1.5e-3", '"a":', '"a":1,', "//")] + [
    b"\xff", b"\xc0\xaf", b"\xe2\x82", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"]


def load(archive):
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    folder = tempfile.mkdtemp()
    source, library = os.path.join(folder, "shim.c"), os.path.join(folder, "shim.so")
    with open(source, "w") as f:
        f.write(SHIM)
    subprocess.run(["gcc", "-O1", "-fPIC", "-shared", "-D_GNU_SOURCE", "-I", root, "-o", library,
                    source, archive, "-lcjson", "-lm", "-lpthread"], check=True)
    lib = ctypes.CDLL(library)
    lib.verdict.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p]
    lib.spell.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p]
    lib.spell.restype = ctypes.c_size_t
    return lib


def random_text(rng):
    kinds = ((0x20, 0x7F), (0, 0x20), (0x7F, 0x800), (0x800, 0xD800), (0xE000, 0x110000))
    return "".join(chr(rng.randrange(*rng.choice(kinds))) for _ in range(rng.randrange(12)))


def value(rng, depth=0):
    kind = rng.randrange(8 if depth < 3 else 5)
    if kind == 0:
        return rng.choice((None, True, False))
    if kind == 1:
        return rng.randrange(-10 ** 20, 10 ** 20)
    if kind == 2:
        return rng.uniform(-1, 1) * 10.0 ** rng.randrange(-300, 300)
    if kind <= 4:
        return random_text(rng)
    if kind == 5:
        return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {random_text(rng): value(rng, depth + 1) for _ in range(rng.randrange(12))}


def mutate(rng, text):
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(text) + 1)
        kind = rng.randrange(4)
        if kind == 0:
            text = text[:at] + rng.choice(PIECES) + text[at:]
        elif kind == 1:
            text = text[:at] + text[at + rng.randrange(1, 5):]
        elif kind == 2:
            text = text[:at] + bytes([rng.randrange(256)]) + text[at + 1:]
        else:
            end = min(len(text), at + rng.randrange(1, 30))
            text = text[:end] + text[at:end] + text[end:]
    return text


class Refused(Exception):
    """What Python's json takes and tandem does not, by choice."""


def strict_pairs(pairs):
    keys = [k for k, _ in pairs]
    if len(keys) != len(set(keys)):
        raise Refused("duplicate")
    for k in keys:
        strict_string(k)
    for _, v in pairs:
        strict_string(v)
    return dict(pairs)


def strict_string(v):
    """Also through lists, which have no hook of their own."""
    if isinstance(v, str):
        if "\x00" in v:
            raise Refused("nul")
        if any(0xD800 <= ord(c) <= 0xDFFF for c in v):
            raise Refused("utf8")
    elif isinstance(v, list):
        for x in v:
            strict_string(x)
    return v


def constant(_):
    raise Refused("constant")


def python(text):
    """'fine', 'refused', or the documented reason for which only tandem refuses."""
    try:
        strict_string(json.loads(text.decode("utf-8"), object_pairs_hook=strict_pairs,
                                 parse_constant=constant))
    except Refused as e:
        return str(e)
    except (ValueError, RecursionError):
        return "refused"
    return "fine"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("archive", help="libtandem.a of a build without sanitizers")
    p.add_argument("--texts", type=int, default=100000)
    p.add_argument("--seed", type=int, default=0)
    o = p.parse_args()
    lib, rng = load(o.archive), random.Random(o.seed)
    message, out = ctypes.create_string_buffer(1024), ctypes.create_string_buffer(4096)
    counts, bad = collections.Counter(), 0
    for _ in range(o.texts):
        text = mutate(rng, json.dumps(value(rng), ensure_ascii=rng.random() < 0.5).encode())
        fault = lib.verdict(text, len(text), message)
        mine = "fine" if fault < 0 else FAULTS[fault] if fault < len(FAULTS) else "other"
        theirs = python(text)
        counts[mine, theirs] += 1
        if (mine == "fine") != (theirs == "fine"):
            bad += 1
            print("differs:", text, mine, message.value.decode(), "| Python:", theirs)
        s = random_text(rng)
        n = lib.spell(s.encode(), len(s.encode()), out)
        if out.raw[:n].decode() != json.dumps(s):
            bad += 1
            print("spelled differently:", ascii(s), out.raw[:n])
    for (mine, theirs), n in sorted(counts.items()):
        print(f"{n:8} here {mine:10} Python {theirs}")
    print(f"{bad:8} differences in {o.texts} texts and {o.texts} strings, seed {o.seed}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
