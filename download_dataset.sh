#!/usr/bin/env bash
# Downloads the files that the authors of Oscar and VinVL published (see --help). Needs curl and Python 3.10 or newer.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
own="$here/.venv/bin/python"  # where `make install` has made one: it can also check the files at the end
python="${PYTHON:-$([[ -x "$own" ]] && echo "$own" || echo python3)}"
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    echo "download_dataset.sh: $python is no Python 3.10 or newer; name one with PYTHON=/path/to/python3" >&2
    exit 2
fi
exec "$python" "$here/tools/fetch_files.py" "$@"
