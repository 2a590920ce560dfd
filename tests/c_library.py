"""The C library for the scripts beside this one: libtandem.a as a shared object, and its structs for ctypes.

Wants a build without CUDA: cmake -B build-cpu -DTDM_CUDA=OFF -DBUILD_TESTING=OFF && cmake --build build-cpu
"""
import ctypes as C
import os
import subprocess

INTS = C.POINTER(C.c_int32)
PACKAGES = ["libcjson", "libutf8proc", "zlib", "libzstd", "libcrypto", "libxxhash"]  # as in CMakeLists.txt


class Backend(C.Structure):
    _fields_ = [("ops", C.c_void_p), ("self", C.c_void_p), ("dtype", C.c_int), ("device", C.c_char_p),
                ("identity", C.c_char_p), ("stop", C.c_void_p), ("rank", C.c_int32), ("n_ranks", C.c_int32),
                ("ranks", C.c_void_p)]


class Mat(C.Structure):
    _fields_ = [("p", C.c_void_p), ("rows", C.c_int64), ("cols", C.c_int32), ("dtype", C.c_int),
                ("stride", C.c_int32)]


class Err(C.Structure):
    _fields_ = [("status", C.c_int), ("msg", C.c_char * 512)]


class Config(C.Structure):
    _fields_ = [(n, C.c_int) for n in ("arch", "n_layer", "n_head", "n_embd", "n_inner", "n_vocab",
                                       "n_position", "n_context")] + [
        ("norm_eps", C.c_float), ("tied", C.c_bool)] + [(n, C.c_int) for n in ("eos", "bos", "pad", "unk")]


def ints(values):
    return (C.c_int32 * len(values))(*values)


def open_library(build, folder):
    """Link the archive of a build folder into a shared object in `folder` and load it."""
    archive, shared = os.path.join(build, "libtandem.a"), os.path.join(folder, "libtandem.so")
    libraries = subprocess.run(["pkg-config", "--libs", *PACKAGES], check=True, capture_output=True,
                               text=True).stdout.split()
    subprocess.run(["cc", "-shared", "-o", shared, "-Wl,--whole-archive", archive,
                    "-Wl,--no-whole-archive", *libraries, "-lpthread", "-lm"], check=True)
    return C.CDLL(shared)
