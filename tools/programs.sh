#!/bin/sh
# Installs the programs that some tests need: a browser for the report and the site, a font with Chinese characters, and
# ONNX Runtime for browsers, which is put where `clan export --web` looks for it.
# Where that is not possible it says so and goes on; the tests concerned then skip, or fail if CI is set.
set -u

packages=
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || packages="$packages chromium"
command -v chromedriver >/dev/null || packages="$packages chromium-driver"
[ -n "$(fc-list :lang=zh-cn file 2>/dev/null)" ] || packages="$packages fontconfig fonts-wqy-microhei"
source=${0%/*}/../src/clan/serving/offline.py
web=$(sed -n 's/^PACKAGE, VERSION = "\(.*\)", "\(.*\)"$/\1@\2/p' "$source" 2>/dev/null)
cache=${HOME-}/.cache/clan/$(echo "$web" | tr @ - 2>/dev/null)
[ -d "$cache" ] || command -v npm >/dev/null || packages="$packages npm"

# Fetches ONNX Runtime for browsers; its checksums are compared when it is used.
fetch() {
    [ -d "$cache" ] && return
    scratch=$(mktemp -d)
    if command -v npm >/dev/null && (cd "$scratch" && npm pack --silent "$web" >/dev/null && tar -xzf ./*.tgz); then
        mkdir -p "$cache"
        (cd "$scratch/package/dist" && mv ort.wasm.bundle.min.mjs ort-wasm-simd-threaded.wasm "$cache")
    else
        echo "npm cannot fetch $web: the test of the page without a server will skip" >&2
    fi
    rm -rf "$scratch"
}
[ -n "$packages" ] || { fetch; exit 0; }

if ! command -v apt-get >/dev/null; then
    echo "there is no apt-get here: install by other means what the packages$packages hold" >&2
    exit 0
fi
root=
if [ "$(id -u)" != 0 ]; then
    if ! sudo -n true 2>/dev/null; then
        echo "no right to install packages: run 'apt-get install$packages' as root" >&2
        exit 0
    fi
    root="sudo -n"
fi
export DEBIAN_FRONTEND=noninteractive
$root apt-get update -qq
for package in $packages; do # one by one: what is lacking on one system must not keep the others away
    $root apt-get install -qq -y --no-install-recommends "$package" >/dev/null ||
        echo "apt-get cannot install $package: install it by other means" >&2
done
fetch
exit 0
