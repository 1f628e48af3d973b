"""Write `cxent/golden.json`, after a change that is meant to change bits: ``python tools/write_golden.py``."""

import sys
from pathlib import Path

import cxent
from cxent import _golden as golden
from cxent.kernels import threads


def main() -> None:
    if cxent.kernels.serving.name not in ("v3", "v4"):
        sys.exit(f"the {cxent.kernels.serving.name} kernels have no fused multiply-add: set CXENT_ISA to v3 or v4")
    threads.set_sizes(golden.PART_SIZE, golden.PART_SIZE)
    found = {
        f"{dtype}, {layout}": golden.hashes(dtype, layout, 1) for dtype in golden.DTYPES for layout in golden.LAYOUTS
    }
    (Path(golden.__file__).parent / "golden.json").write_text(golden.text_of(found))


if __name__ == "__main__":
    main()
