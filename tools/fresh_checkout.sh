# To be sourced: a clone of the last commit in $work/cxent, and in $work/env what its build and its tests need. Both are
# removed at the end. $python is the interpreter, python3 if it is not set; $environment a virtual environment that has
# all of that, if there is one.
# shellcheck shell=bash
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git clone --quiet "$root" "$work/cxent"
cd "$work/cxent" || exit
if [ -n "${environment:-}" ]; then
    ln -s "$environment" "$work/env"
    return
fi
"${python:-python3}" -m venv "$work/env"
"$work/env/bin/python" > "$work/needs.txt" << 'END'
import tomllib
with open("pyproject.toml", "rb") as file:
    declared = tomllib.load(file)
needs = declared["build-system"]["requires"] + declared["project"]["optional-dependencies"]["test"]
print(*needs, sep="\n")
END
"$work/env/bin/pip" install --quiet --requirement "$work/needs.txt"
