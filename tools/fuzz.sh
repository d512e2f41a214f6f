#!/usr/bin/env bash
# Runs every fuzz target of Weir for the time given as argument, such as 30s,
# two at a time with one worker each, so that two processors are enough. Every
# target is run; those that failed are told at the end, each with the path of
# the input that it failed on.
#
# How many inputs a target tries depends on the machine. What it found worth
# keeping stays in Go's cache; what is checked in lies in testdata/fuzz.
set -euo pipefail

for_time=${1:?how long each target runs, such as 30s}
module=$(go list -m)
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# one target: DIR NAME
fuzz() {
	local dir=$1 name=$2 log="$logs/${1//\//_}.$2" status=0
	go test -run '^$' -fuzz "^$name\$" -fuzztime "$for_time" -fuzzminimizetime 5s -parallel 1 "$module/$dir" >"$log" 2>&1 || status=$?
	local tried
	tried=$(grep -o 'execs: [0-9]*' "$log" | tail -1 || true)
	if [ "$status" -eq 0 ]; then
		echo "ok    $dir $name ${tried}"
		return
	fi
	local input
	input=$(grep -oE 'Failing input written to testdata/fuzz/[^ ]+' "$log" | sed 's/.* //' | head -1 || true)
	[ -n "$input" ] || input=$(grep -oE "^ *--- FAIL: $name/[^ ]+" "$log" | sed "s|.*$name/|testdata/fuzz/$name/|" | head -1 || true)
	# Go's fuzzer may take the end of its time for a failure: golang/go#75804.
	# It has no input then, and nothing else to say.
	if [ -z "$input" ] && grep -qx ' *context deadline exceeded' "$log" && ! grep -qE 'panic|_test\.go:' "$log"; then
		echo "ok    $dir $name ${tried} (ended late)"
		return
	fi
	echo "FAIL  $dir $name ${input:+$dir/$input}"
	{
		echo "$dir $name: ${input:+$dir/$input}"
		grep -vE '^fuzz: (elapsed|minimizing)' "$log" | head -40
	} >"$log.failed"
}
export -f fuzz
export for_time module logs

grep -rhoE --include='*_test.go' -H '^func Fuzz[A-Za-z0-9_]*' hostabi plugins proxy | sort |
	sed -E 's|^(.*)/[^/]*:func (.*)$|\1 \2|' |
	xargs -P 2 -L 1 bash -euc 'fuzz "$@"' fuzz

if compgen -G "$logs/*.failed" >/dev/null; then
	echo
	cat "$logs"/*.failed
	exit 1
fi
