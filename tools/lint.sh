#!/bin/sh
# Every check that reads sources; run by `./dev lint`, which has brought the tools and built build/.
# All checks run, then one exit status; --fix lets the formatters rewrite.
set -u
cd "$(dirname "$0")/.." || exit 1
fix=
[ "${1:-}" = --fix ] && fix=yes

failed=
check() {
    name=$1
    shift
    printf '== %s\n' "$name"
    "$@" || failed="$failed $name"
}

c_files() { find src tests bench -name '*.[ch]' -not -path '*/corpus/*' | sort; }

clang_format() {
    if [ -n "$fix" ]; then
        c_files | xargs clang-format -i
    else
        c_files | xargs clang-format --dry-run -Werror
    fi
}

# gcc's flags come from the build; clang-tidy does not know all of them. Files of a tree without
# sources yet would make it fail, so nothing to check is a success.
clang_tidy() {
    files=$(sed -n 's/^ *"file": "\.\.\/\(.*\.c\)",*$/\1/p' build/compile_commands.json | sort -u)
    [ -n "$files" ] || return 0
    printf '%s\n' "$files" | xargs -P "$(nproc)" -n 4 \
        clang-tidy --quiet -p build --extra-arg=-Wno-unknown-warning-option 2>/dev/null
}

python_check() {
    python=.venv/bin/python
    if [ -n "$fix" ]; then $python -m ruff check -q --fix .; else $python -m ruff check -q .; fi
}

go_modules() {
    bad=0
    mods=$(find examples tests tools bench -name go.mod -not -path '*/.*')
    for mod in $mods; do
        folder=$(dirname "$mod")
        if [ -n "$fix" ]; then gofmt -w "$folder"; fi
        unformatted=$(gofmt -l "$folder")
        if [ -n "$unformatted" ]; then
            printf 'gofmt: %s\n' "$unformatted"
            bad=1
        fi
        (cd "$folder" && go vet ./...) || bad=1
    done
    return $bad
}

# An outgrown file has usually taken in a second concept. A warning: the reader decides.
long_files() {
    find src tests tools examples bench \( -name '*.[chS]' -o -name '*.py' -o -name '*.go' \) \
        -exec wc -l {} + | awk '$2 != "total" && $1 > 700 { print "warning: " $2 " has " $1 " lines" }'
}

config_docs() {
    build/sluice --print-config-docs 2>/dev/null | diff -u docs/config.md - ||
        { echo 'docs/config.md is stale: build/sluice --print-config-docs >docs/config.md'; return 1; }
}

check layers python3 tools/check_layers.py
check clang-format clang_format
check clang-tidy clang_tidy
check borrows .venv/bin/python tools/check_borrows.py build
check borrow-rules .venv/bin/python tools/test_check_borrows.py
check python python_check
check go go_modules
check shellcheck shellcheck dev .ci/run tools/lint.sh
[ ! -f docs/config.md ] || check docs config_docs
check 'long files' long_files

if [ -n "$failed" ]; then
    printf 'lint failed:%s\n' "$failed"
    exit 1
fi
echo 'lint passed'
