#!/usr/bin/env bash
# Takes pictures of every page of the console, light and dark, at the widths of a desktop and of a telephone, into
# bin/screenshots, with a contact sheet; and checks each page on the way.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/lib.sh

have_browser
# Japanese pages need a font that has the letters.
if command -v fc-list >/dev/null && [ -z "$(fc-list :lang=ja)" ]; then
  install_packages "pictures of Japanese pages need a font" fonts-ipafont-gothic
fi
out=$PWD/bin/screenshots
rm -rf "$out"
mkdir -p "$out"
status=0
(cd test/e2e && CERTLOOM_SCREENSHOTS=$out go test -mod=readonly -count=1 -timeout 20m -run '^TestPages$' ./browser "$@") || status=$?
say "$(find "$out" -name '*.png' | wc -l) pictures; look at $out/index.html"
exit $status
