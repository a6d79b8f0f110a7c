#!/usr/bin/env bash
# Brings the console's stylesheet, script and icons from npm into internal/console/static/vendor, so that building needs
# Go only. Run it to raise a version or to add an icon, and commit what it writes; npm verifies each package by the
# integrity that the registry publishes, and the sums below pin what we reviewed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

packages=(
  "@tabler/core@1.6.1"   # CSS kit, MIT, kept by its authors since 2018
  "@tabler/icons@3.52.0" # icons, MIT, of the same authors
  "htmx.org@2.0.11"      # 0BSD, kept by Big Sky Software
)
icons=(
  dashboard certificate certificate-2 stack-2 template file-certificate key bell-ringing building-bank plug-connected
  history settings users user user-circle logout search sun moon language plus download copy check x alert-triangle info-circle
  chevron-right chevron-down chevron-left external-link edit trash player-pause player-play refresh shield-check shield-lock
  circle-check circle-x circle-dashed clock lock lock-open menu-2 filter columns bookmark device-laptop upload hierarchy-2
  brand-docker cloud server terminal-2 api topology-star-3 fingerprint calendar eye link list-check stethoscope qrcode login arrow-right ban
)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$work" && npm pack --silent "${packages[@]}" >/dev/null)
for archive in "$work"/*.tgz; do
  mkdir -p "$work/${archive##*/}.d"
  tar -xzf "$archive" -C "$work/${archive##*/}.d" --strip-components=1
done

out=internal/console/static/vendor
mkdir -p "$out"
cp "$work"/tabler-core-*.d/dist/css/tabler.min.css "$out/tabler.min.css"
sed -i 's|/\*# sourceMappingURL=[^*]*\*/||' "$out/tabler.min.css" # the map is not served
cp "$work"/htmx.org-*.d/dist/htmx.min.js "$out/htmx.min.js"
{
  echo '<svg xmlns="http://www.w3.org/2000/svg">'
  for name in "${icons[@]}"; do
    file=$(echo "$work"/tabler-icons-*.d/icons/outline/"$name".svg)
    [ -f "$file" ] || { echo "no icon $name" >&2; exit 1; }
    printf '<symbol id="%s" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" stroke-linejoin="round">' "$name"
    grep -o '<path [^>]*/>' "$file" | grep -v 'M0 0h24v24H0z' | tr -d '\n'
    echo '</symbol>'
  done
  echo '</svg>'
} >"$out/icons.svg"
for name in tabler-icons htmx.org; do # the stylesheet has its licence, MIT, in its first lines
  printf '## %s\n\n' "$name"
  cat "$work"/"$name"-*.d/LICENSE*
  echo
done >"$out/LICENSES"
printf '%s\n' "${packages[@]}" >"$out/VERSIONS"
(cd "$out" && sha256sum tabler.min.css htmx.min.js icons.svg LICENSES VERSIONS >SHA256SUMS && cat SHA256SUMS)
