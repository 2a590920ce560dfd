# Sourced by demo.sh and test.sh: go to the top of the tree and install missing Debian packages.
#
#   . "$(dirname "$0")/setup.sh"
#   tdm_install gcc cmake ...     # says what it installs; does nothing where all is there
#
# With --no-install among the script's arguments nothing is installed and what is missing is named.
set -eu
cd "$(dirname "$0")/.."
export LC_ALL=C.UTF-8

BUILD_PACKAGES="gcc libc6-dev cmake ninja-build pkg-config libcjson-dev libutf8proc-dev zlib1g-dev libzstd-dev libssl-dev libxxhash-dev"
TEST_PACKAGES="libcmocka-dev bats zstd g++ openmpi-bin" # g++ for CUDA kernels, real and emulated
# Slurm's packages start daemons where systemd runs. There its test is skipped unless they are installed already.
[ -d /run/systemd/system ] || TEST_PACKAGES="$TEST_PACKAGES slurmctld slurmd slurm-client munge"

tdm_install=yes
for argument in "$@"; do
    case $argument in
    --no-install) tdm_install=no ;;
    --help) sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "$0: unknown argument $argument (try --help)" >&2; exit 2 ;;
    esac
done

tdm_install() {
    missing=
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' ||
            missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    if [ $tdm_install = no ] || ! command -v apt-get >/dev/null; then
        echo "$0: not installed as Debian packages:$missing (going on without)" >&2
        return 0
    fi
    sudo=
    if [ "$(id -u)" != 0 ]; then
        sudo=$(command -v sudo) || {
            echo "$0: please install as root:$missing" >&2
            exit 69
        }
    fi
    echo "$0: installing$missing"
    $sudo apt-get update -qq
    # shellcheck disable=SC2086 # the list is words
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
}
