#!/bin/sh
# Makes an authority and what it signs, for trying TLS out: make-test-certs.sh FOLDER
set -eu
folder=${1:?a folder is needed}
mkdir -p "$folder"
cd "$folder"

make() { # NAME SUBJECT EXTENSION [OPTION...]
    name=$1 subject=$2 extension=$3
    shift 3
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "$subject" \
        -addext "$extension" -keyout "$name.key" -out "$name.pem" "$@" 2>/dev/null
}
make ca "/CN=test authority" basicConstraints=critical,CA:true
for name in www api origin; do
    make $name "/CN=$name.test" "subjectAltName=DNS:$name.test" -CA ca.pem -CAkey ca.key
done
make client "/CN=somebody" subjectAltName=URI:spiffe://test/somebody -CA ca.pem -CAkey ca.key
echo "in $(pwd): ca.pem, and www, api, origin, client (.pem and .key)"
