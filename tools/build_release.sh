#!/bin/sh
# build_release.sh DIR [MESON-OPTION...]: the build to run in earnest: optimised at link time and by a profile.
#
#   build that counts ─ tools/train.py drives it ─ build that knows what is hot ─ check_parks.py
#
# A request's code runs from cold caches, since the kernel runs between any two stretches of it; laid out by a
# profile it is a fifth cheaper. Link time optimisation sees through the functions that keep thread-locals
# out of others, so what came of it is checked. DIR is built anew when a source changed, else left alone.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
dir=$1
shift
meson=${MESON:-meson}

sources_sum() {
    (cd "$root" && find src meson.build meson_options.txt tools/train.py -type f -exec cksum {} + | sort | cksum)
}

sum="$(sources_sum) $*"
if [ -x "$dir/sluice" ] && [ "$(cat "$dir/.trained" 2>/dev/null || true)" = "$sum" ]; then
    exit 0
fi
rm -rf "$dir/.trained"
# With werror what an optimiser guesses about code that it saw whole would decide whether it builds.
options="-Db_lto=true -Dtests=false -Dwerror=false"
if [ -f "$dir/build.ninja" ]; then
    find "$dir" -name '*.gcda' -delete
    # shellcheck disable=SC2086
    "$meson" configure "$dir" -Db_pgo=generate $options "$@"
else
    # shellcheck disable=SC2086
    "$meson" setup "$dir" "$root" -Db_pgo=generate $options "$@"
fi
ninja -C "$dir" sluice
python3 "$root/tools/train.py" "$dir/sluice"
"$meson" configure "$dir" -Db_pgo=use
ninja -C "$dir" sluice
python3 "$root/tools/check_parks.py" "$dir/sluice"
printf '%s\n' "$sum" >"$dir/.trained"
