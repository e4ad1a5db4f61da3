#!/usr/bin/env bash
# The first journeys with Tollgate, step by step, with nothing but bash and curl.
#
# Start a Tollgate in another terminal and give this script what it printed:
#
#   tollgate demo
#   TOKEN=... examples/journeys.sh
#
# Environment:
#   GATEWAY   where the gateway is           (http://127.0.0.1:8080)
#   PLATFORM  where the platform is          (http://127.0.0.1:8081)
#   TOKEN     an access token of the platform with every scope (TOLLGATE_TOKEN where it is empty)
#   API       the API to call                (widgets)
#   CALL      a path of it without a scope   (/v1/widgets)
#
# It makes an organization, plans, subscriptions and keys of its own, and removes them at the end.
# Exit status: 0 when every step went as told, 1 at the first surprise.
set -euo pipefail

GATEWAY=${GATEWAY:-http://127.0.0.1:8080}
PLATFORM=${PLATFORM:-http://127.0.0.1:8081}
API=${API:-widgets}
CALL=${CALL:-/v1/widgets}
TOKEN=${TOKEN:-${TOLLGATE_TOKEN:-}}
if [ -z "$TOKEN" ]; then
    echo "No token: run this as TOKEN=... $0 with the token that the demo printed as 'operator'." >&2
    exit 1
fi

work=$(mktemp -d)
run="tour-$$-$RANDOM"
made=()

# --- small tools -------------------------------------------------------------------------------

step() { printf '\n== %s\n' "$*"; }
note() { printf '   %s\n' "$*"; }
fail() {
    printf '\nSURPRISE: %s\n' "$*" >&2
    if [ -s "$work/head" ]; then cat "$work/head" "$work/body" >&2; fi
    exit 1
}

# fail_plainly SENTENCE: what the person who runs this did not know.
fail_plainly() {
    printf '%s\n' "$1" >&2
    exit 1
}

# gateway [KEY]: calls the API; leaves $status, and head and body in files.
gateway() {
    local key=()
    if [ $# -gt 0 ]; then key=(-H "X-API-Key: $1"); fi
    note "curl $GATEWAY$CALL${1:+ -H 'X-API-Key: ${1:0:6}...'}"
    status=$(curl -sS -m 20 -o "$work/body" -D "$work/head" -w '%{http_code}' \
        "${key[@]}" "$GATEWAY$CALL") || fail "no answer from the gateway at $GATEWAY"
}

# platform METHOD PATH [JSON]: asks the platform; leaves $status, and head and body in files.
platform() {
    local data=()
    if [ $# -gt 2 ]; then data=(-H 'Content-Type: application/json' --data "$3"); fi
    status=$(curl -sS -m 20 -o "$work/body" -D "$work/head" -w '%{http_code}' -X "$1" \
        -H "Authorization: Bearer $TOKEN" "${data[@]}" "$PLATFORM$2") ||
        fail "no answer from the platform at $PLATFORM"
}

# header NAME: its value in the last answer; empty where it is not there.
header() {
    tr -d '\r' <"$work/head" | sed -n "s/^$1: *//Ip" | sed -n 1p
}

# field NAME: the first text or number of that name in the last JSON body; empty without one.
field() {
    tr -d '\n' <"$work/body" |
        { grep -o "\"$1\" *: *\(\"[^\"]*\"\|[0-9.]*\)" || true; } | sed -n 1p |
        sed 's/^[^:]*: *//; s/^"//; s/"$//'
}

# expect WHAT WANTED GOT
expect() {
    [ "$2" = "$3" ] || fail "$1 should be '$2' and is '$3'"
    note "$1: $3"
}

# make KIND ID FIELDS: a catalog object, removed at the end (the last one first).
make() {
    platform POST "/api/v1/$1" "{\"id\":\"$2\",$3}"
    [ "$status" = 201 ] || fail "POST /api/v1/$1 was answered $status"
    made=("/api/v1/$1/$2" "${made[@]}")
}

# new_key SUBSCRIPTION: leaves $key and $key_id.
new_key() {
    platform POST /api/v1/keys "{\"subscription_id\":\"$1\",\"name\":\"tour\"}"
    [ "$status" = 201 ] || fail "a key for $1 was answered $status"
    key=$(field key)
    key_id=$(field id)
}

tidy_up() {
    local path
    for path in "${made[@]}"; do
        curl -sS -m 20 -o /dev/null -X DELETE -H "Authorization: Bearer $TOKEN" \
            "$PLATFORM$path" || true
    done
    rm -rf "$work"
}
trap tidy_up EXIT

# --- the journeys ------------------------------------------------------------------------------

platform GET /api/v1/plans
case $status in
    401) fail_plainly "The platform at $PLATFORM does not know this TOKEN: take the one that the running demo printed as 'operator'." ;;
    403) fail_plainly "This TOKEN may not do what the journeys do: take one with every scope." ;;
esac

step "Somebody without a key calls the API"
platform GET "/api/v1/apis/$API"
[ "$status" = 200 ] || fail "the API $API is not there ($status); set API and CALL"
anonymous=$(field anonymous_plan)
prefix=$(field key_prefix)
gateway
if [ -n "$anonymous" ]; then
    case $status in
        200 | 429) note "answered $status by the plan '$anonymous' for callers without a key" ;;
        *) fail "a call without a key was answered $status" ;;
    esac
    expect X-Demo-Mode true "$(header X-Demo-Mode)"
    expect X-User-Id anonymous "$(header X-User-Id)"
else
    note "this API has no plan for callers without a key"
    expect status 401 "$status"
fi

step "A customer appears: an organization, two plans, two subscriptions"
make organizations "$run" '"name":"Tour"'
make plans "$run-small" '"name":"Small","limits":[{"max":5,"per":"minute"}]'
make plans "$run-large" \
    '"name":"Large","quota":{"units":500,"every":"month","on_exceeded":"block"}'
for size in small large; do
    make subscriptions "$run-$size" \
        "\"organization\":\"$run\",\"apis\":[\"$API\"],\"plan\":\"$run-$size\""
done
note "5 calls a minute on the small plan, 500 a month on the large one"

step "They get a key; it is shown this once"
new_key "$run-small"
expect "what it begins with" "${prefix}_" "${key:0:$((${#prefix} + 1))}"
expect "characters after that" 32 "$((${#key} - ${#prefix} - 1))"
small_key=$key
small_key_id=$key_id

step "They call with it: every answer says where they stand"
gateway "$small_key"
expect status 200 "$status"
expect X-User-Id "$run-small" "$(header X-User-Id)"
expect X-RateLimit-Limit 5 "$(header X-RateLimit-Limit)"
expect X-RateLimit-Used 1 "$(header X-RateLimit-Used)"
expect X-RateLimit-Remaining 4 "$(header X-RateLimit-Remaining)"
for name in X-RateLimit-Reset RateLimit-Policy RateLimit X-Request-Id X-Response-Time; do
    [ -n "$(header $name)" ] || fail "$name is missing"
    note "$name: $(header $name)"
done

step "Somebody guesses a key"
gateway "${prefix}_00000000000000000000000000000000"
expect status 401 "$status"
expect code key_invalid "$(field code)"

step "Five calls a minute: the sixth is refused, and told when to come back"
for number in 2 3 4 5; do
    gateway "$small_key"
    expect "status of call $number" 200 "$status"
done
gateway "$small_key"
expect "status of call 6" 429 "$status"
expect code rate_limited "$(field code)"
retry=$(header Retry-After)
case $retry in
    '' | *[!0-9]*) fail "Retry-After is no number of seconds: '$retry'" ;;
esac
[ "$retry" -ge 1 ] && [ "$retry" -le 61 ] || fail "Retry-After of $retry s for a minute's window"
note "Retry-After: $retry s"

step "Another plan, another limit in the headers"
new_key "$run-large"
gateway "$key"
expect status 200 "$status"
expect X-RateLimit-Limit 500 "$(header X-RateLimit-Limit)"
expect X-RateLimit-Remaining 499 "$(header X-RateLimit-Remaining)"

step "What did they use, day by day, in the last seven days?"
platform POST /api/v1/usage/flush '{}'
[ "$((status / 100))" = 2 ] || fail "the flush was answered $status"
platform GET "/api/v1/usage/trends?every=day&days=7&subscription_id=$run-small"
expect status 200 "$status"
days=$(grep -o '"start"' "$work/body" | wc -l)
[ "$days" -ge 7 ] || fail "$days days instead of seven"
calls=0
for number in $(grep -o '"requests" *: *[0-9]*' "$work/body" | grep -o '[0-9]*$'); do
    calls=$((calls + number))
done
expect "calls in $days points" 6 "$calls"

step "The key is revoked: from that moment it opens nothing"
platform DELETE "/api/v1/keys/$small_key_id"
expect "status of the revocation" 204 "$status"
gateway "$small_key"
expect status 401 "$status"
expect code key_revoked "$(field code)"

printf '\nAll well: every step went as told.\n'
