#!/bin/sh
# sh rank.sh COMMAND OPTIONS...: tandem for launchers that end all ranks when one ends with anything but 0
#
# Bad records within --max-errors (3) are no failure here. Of the signals that a launcher sends to whole groups,
# and again, tandem sees one: it stops in order, within 10 s; a second one would end it at once.
setsid "${TANDEM:-tandem}" "$@" &
rank=$!
trap 'trap "" TERM INT HUP USR1; kill -TERM $rank 2>/dev/null' TERM INT HUP USR1
wait $rank
code=$?
while kill -0 $rank 2>/dev/null; do # a signal ended the waiting, not tandem
    wait $rank
    code=$?
done
[ $code -ne 3 ] || code=0
exit $code
