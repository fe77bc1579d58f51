#!/usr/bin/env bash
# Makes sure that the system brings what Casewalk cannot install itself: `python`, `java`, `kafka`, `curl`,
# `nginx` or `faketime` is the one argument.
set -euo pipefail

# Installs Debian packages when it may, else says in one sentence what is missing.
install_or_say() {
    local sentence=$1
    shift
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Installing $* through apt-get." >&2
        apt-get update -qq >&2
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >&2
    else
        echo "$sentence" >&2
        exit 1
    fi
}

# Prints the name of a Python that is new enough and can make virtual environments; fails when there is none.
find_python() {
    local name
    for name in "${PYTHON:-python3.11}" python3 python3.12 python3.13; do
        if "$name" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return 0
        fi
    done
    return 1
}

java_is_new_enough() {
    local major
    major=$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1)
    [ "${major:-0}" -ge 17 ]
}

case "${1:-}" in
python)
    find_python || {
        install_or_say "Casewalk needs Python 3.11 or newer with venv; on Debian: apt-get install python3 python3-venv" \
            python3 python3-venv
        find_python || { echo "The Python of this system is older than 3.11; install Python 3.11 or newer." >&2; exit 1; }
    }
    ;;
java | kafka) # java runs Kafka, kafka fetches its jars too
    sentence="The tests on Apache Kafka need a Java runtime (17 or newer) and Maven; on Debian: apt-get install default-jre-headless maven (or run: make test ENGINE=embedded)"
    java_is_new_enough || install_or_say "$sentence" default-jre-headless
    [ "$1" = java ] || command -v mvn >/dev/null || install_or_say "$sentence" maven
    java_is_new_enough || { echo "$sentence" >&2; exit 1; }
    ;;
curl) # the README's first example is run as it stands
    command -v curl >/dev/null || install_or_say "The README's examples need curl; on Debian: apt-get install curl" curl
    ;;
nginx) # the proxy's configuration is run as it stands; RUNLEVEL keeps Debian from starting a server of its own
    command -v nginx >/dev/null || RUNLEVEL=1 install_or_say \
        "The test of the proxy's configuration needs nginx; on Debian: apt-get install nginx" nginx
    ;;
faketime) # the tests that move the database's clock
    compgen -G "/usr/lib/*/faketime/libfaketime.so.1" >/dev/null || install_or_say \
        "The tests that move clocks need libfaketime; on Debian: apt-get install libfaketime" libfaketime
    ;;
*)
    echo "usage: deploy/setup.sh python|java|kafka|curl|nginx|faketime" >&2
    exit 2
    ;;
esac
