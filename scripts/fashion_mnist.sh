#!/usr/bin/env bash
# fashion_mnist.sh FOLDER: puts Fashion-MNIST where data.train_path=FOLDER finds it, from Debian's
# package (30 MB, MIT licence), for machines that reach Debian's archive and not torchvision's.
set -euo pipefail
folder=${1:?usage: fashion_mnist.sh FOLDER}
raw="$folder/FashionMNIST/raw"
mkdir -p "$raw"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$work" && apt-get --quiet download dataset-fashion-mnist) ||
    { echo "no such package: run 'apt-get update' as root first" >&2; exit 1; }
dpkg-deb --extract "$work"/dataset-fashion-mnist_*.deb "$work/package"
for packed in "$work"/package/usr/share/datasets/fashion-mnist/*-ubyte.gz; do
    gunzip --stdout "$packed" > "$raw/$(basename "$packed" .gz)"
done
ls -l "$raw"
