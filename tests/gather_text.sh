#!/bin/sh
# Gather real text in many languages from Debian packages, for tests/tokenizer_parity.py.
#
#   sh tests/gather_text.sh /tmp/texts          # about 500 MB; nothing is installed
#
# Packages are downloaded with apt-get and unpacked in a scratch folder. Every file that is text
# (also gzipped, and the translations inside .mo files) goes to FOLDER/PACKAGE.txt, with bytes that
# are not UTF-8 left out. Needs apt-get, dpkg-deb, python3.
set -eu

[ $# -eq 1 ] || { echo "usage: gather_text.sh FOLDER" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)

packages="
bible-kjv-text linux-doc-6.1 python3.11-doc iso-codes unicode-cldr-core gnome-user-docs
installation-guide-amd64 debian-reference-common debian-faq
manpages-cs manpages-da manpages-de manpages-es manpages-fr manpages-it manpages-nl manpages-pl
manpages-pt-br manpages-ro manpages-ru manpages-zh manpages-ja manpages-hu manpages-tr
libreoffice-l10n-ar libreoffice-l10n-hi libreoffice-l10n-th libreoffice-l10n-ka
wbritish wfrench wngerman wspanish witalian wpolish wportuguese wukrainian
fortunes-ru fortunes-de fortunes-it
gimp-help-ko gimp-help-ru gimp-help-ja coreutils debconf-i18n apt gettext vim-runtime
"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
for package in $packages; do
    [ -s "$out/$package.txt" ] && continue
    rm -rf tree ./*.deb
    if ! apt-get download -q "$package" >/dev/null 2>&1; then
        echo "$package: not available, skipped" >&2
        continue
    fi
    dpkg-deb -x ./*.deb tree
    python3 - tree "$out/$package.txt" <<'PY'
import gzip, os, struct, sys

def translations(data):
    """The translated strings of a .mo file."""
    order = "<" if data[:4] == b"\xde\x12\x04\x95" else ">"
    count, _, table = struct.unpack(order + "III", data[8:20])
    for i in range(count):
        size, at = struct.unpack(order + "II", data[table + 8 * i:table + 8 * i + 8])
        yield data[at:at + size]

with open(sys.argv[2], "wb") as out:
    for root, folders, names in os.walk(sys.argv[1]):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(root, name)
            if os.path.islink(path) or not os.path.isfile(path):
                continue
            with open(path, "rb") as f:
                data = f.read()
            try:
                if name.endswith(".gz"):
                    data = gzip.decompress(data)
                if name.endswith(".mo"):
                    data = b"\n".join(translations(data))
            except (OSError, EOFError, struct.error):
                continue
            if data[:4] == b"\x7fELF" or b"\0" in data.replace(b"\0\n", b"\n")[:65536]:
                continue
            out.write(data.decode("utf-8", "ignore").encode() + b"\n")
PY
    echo "$package: $(stat -c %s "$out/$package.txt") bytes"
done
du -sh "$out"
