"""What Linux tells of the CPUs that this process may use; what it does not tell is None."""

import platform
import re
from pathlib import Path

from ..contracts.environment import CpuIdentity
from ..core.cores import allowed
from ..core.files import text_of

ROOT = Path("/")
FOLDER = "sys/devices/system/cpu"
# What kernels of the runtimes choose their code by: 8-bit and 16-bit arithmetic, and how wide vectors are.
FEATURES = (
    "avx", "avx2", "fma", "f16c", "avx_vnni", "avx_vnni_int8",
    "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16",
    "asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2", "sme",
)  # fmt: skip
# The same by the names that x86 and ARM have for it.
VENDOR, FAMILY = ("vendor_id", "CPU implementer"), ("cpu family", "CPU architecture")
MODEL, STEPPING = ("model", "CPU part"), ("stepping", "CPU revision")
FLAGS = ("flags", "Features")
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def name(root: Path = ROOT) -> str:
    """As its maker sells it."""
    return _facts(root).get("model name") or platform.processor()


def describe(root: Path = ROOT) -> CpuIdentity | None:
    """Of the first that this process may use; None where the system does not tell."""
    facts = _facts(root)
    if not facts:
        return None
    flags = set((_first(facts, FLAGS) or "").split())
    return CpuIdentity(
        vendor=_first(facts, VENDOR),
        family=_first(facts, FAMILY),
        model=_first(facts, MODEL),
        stepping=_first(facts, STEPPING),
        microcode=facts.get("microcode"),
        features=tuple(feature for feature in FEATURES if feature in flags),
        caches_bytes=_caches(root / FOLDER / f"cpu{facts['processor']}/cache"),
        hypervisor=_hypervisor(root) if "hypervisor" in flags else None,
    )


def governor(root: Path = ROOT) -> str | None:
    """What sets the clocks, of all that this process may use."""
    files = [root / FOLDER / f"cpu{number}/cpufreq/scaling_governor" for number in sorted(allowed())]
    return ", ".join(sorted({text for path in files if (text := text_of(path))})) or None


def _facts(root: Path) -> dict[str, str]:
    """What /proc/cpuinfo has of the first CPU that this process may use; nothing where it has no numbers."""
    for block in (text_of(root / "proc/cpuinfo") or "").split("\n\n"):
        pairs = (line.partition(":") for line in block.splitlines())
        facts = {key.strip(): value.strip() for key, _, value in pairs}
        if facts.get("processor") in set(map(str, allowed())):
            return facts
    return {}


def _first(facts: dict[str, str], names: tuple[str, ...]) -> str | None:
    return next((facts[name] for name in names if name in facts), None)


def _caches(folder: Path) -> dict[str, int]:
    """Bytes by level and kind: L1d, L1i, L2, L3."""
    found = {}
    for place in sorted(folder.glob("index*")):
        level, kind, size = (text_of(place / part) or "" for part in ("level", "type", "size"))
        if fields := re.fullmatch(r"(\d+)([KMG]?)", size):
            letter = {"Data": "d", "Instruction": "i"}.get(kind, "")
            found[f"L{level}{letter}"] = int(fields[1]) * UNITS.get(fields[2], 1)
    return found


def _hypervisor(root: Path) -> str:
    """What names itself as the maker of this machine."""
    parts = [text_of(root / "sys/class/dmi/id" / part) for part in ("sys_vendor", "product_name")]
    return " ".join(filter(None, parts)) or text_of(root / "sys/hypervisor/type") or "one without a name"
