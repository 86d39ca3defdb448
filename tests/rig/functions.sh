# shellcheck shell=bash
# Shared by the scripts of the rig and of tools/demo, which begin with: . "$(dirname "$0")/functions.sh"

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=tests/rig/settings.sh
. tests/rig/settings.sh
mkdir -p "$DEMO_CACHE"
# Who speaks: tools/demo says "demo".
RIG_NAME=${RIG_NAME:-rig}
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

die() {
    printf '%s: %s\n' "$RIG_NAME" "$*" >&2
    exit 1
}

# step TEXT COMMAND...: run a long command; one line says what and, in the end, how many seconds it took. The command's
# output goes to a log, whose end is shown when it fails.
step() {
    local text=$1 start=$SECONDS log ticker='' status
    log=$DEMO_CACHE/$(basename "$0").log
    shift
    printf '%s: %s ... ' "$RIG_NAME" "$text"
    if [ -t 1 ]; then
        while sleep 1 && kill -0 $$; do printf '\r%s: %s ... %s s ' "$RIG_NAME" "$text" "$((SECONDS - start))"; done &
        ticker=$!
    fi
    # In a subshell whose errors end it: a function called in front of "||" would run on after an error.
    set +e
    (set -e; "$@") >"$log" 2>&1
    status=$?
    set -e
    if [ -n "$ticker" ]; then
        kill "$ticker"
        printf '\r%s: %s ... ' "$RIG_NAME" "$text"
    fi
    if [ "$status" -ne 0 ]; then
        printf 'failed after %s s\n' "$((SECONDS - start))"
        tail -n 20 "$log" >&2
        die "\"$text\" failed with exit status $status; its output is in $log."
    fi
    rm -f "$log"
    printf '%s s\n' "$((SECONDS - start))"
}

# as_root COMMAND...: run it with root's rights, or say that they are lacking.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "this step needs root's rights, and there is no sudo: run it once as root."
    fi
}

# apt_install PACKAGE...: from the distribution's own archive.
apt_install() {
    command -v apt-get >/dev/null ||
        die "cannot install $*: this is neither Debian nor Ubuntu. Install it by hand, then run this again."
    # Before any output is redirected: it may ask for a password, or fail.
    as_root true
    # Two scripts side by side may both lack a package, and not every apt-get waits for another one's lists.
    exec 8>"$DEMO_CACHE/apt.lock"
    flock 8
    step "Updating the package lists" as_root apt-get -q -o DPkg::Lock::Timeout=300 update
    step "Installing the distribution's packages: $*" as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "$@"
    exec 8>&-
}

# alone NAME: wait until no other run of the same script works, in this checkout. The lock ends with this process and its
# children, so that what a killed run still had going comes to its end first.
alone() {
    lock_file "$DEMO_CACHE/$1.lock"
}

# alone_on_machine NAME: the same, over all checkouts and users of this machine.
alone_on_machine() {
    lock_file "/tmp/gpufleet-$1.lock"
}

lock_file() {
    [ -e "$1" ] || (umask 0 && : >>"$1")
    # For reading: another user's file in /tmp may not be opened for writing.
    exec 9<"$1"
    if ! flock --nonblock 9; then
        echo "$RIG_NAME: Waiting for another run of this script to end."
        flock 9
    fi
}

trap 'die "interrupted; run it again to go on."' INT TERM
