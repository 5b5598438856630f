"""Which build of PyTorch this machine wants: the newest one for its driver's CUDA or its ROCm, else that for CPUs.

uv knows PyTorch's indexes by the names below (--torch-backend). A site with a mirror of them names it in
agent.package_manager.extra_index_url_template (`…/whl/cu{}`), as for clearml-agent.
"""

from __future__ import annotations

import os
import re
import time

from agentpipe import files, paths, units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agentpipe.environment.installers.policy import Policy
    from agentpipe.environment.requirements import Requirements
    from agentpipe.job import Job

CUDA = (132, 130, 129, 128, 126, 125, 124, 123, 122, 121, 120, 118, 117, 116, 115, 114, 113, 112, 111, 110, 102, 101,
        100, 92, 91, 90, 80)
# of CUDA 13.0, 12.0 …: the drivers that its minor versions have in common (Table 2 of CUDA's release notes)
DRIVERS = ((130, "580"), (120, "525.60.13"), (110, "450.80.02"), (102, "440.33"), (101, "418.39"), (100, "410.48"),
           (92, "396.26"), (91, "390.46"), (90, "384.81"), (80, "375.26"))
AUTO = "auto"
ROCM = ("7.1", "7.0", "6.4", "6.3", "6.2.4", "6.2", "6.1", "6.0", "5.7", "5.6", "5.5", "5.4.2", "5.4", "5.3", "5.2",
        "5.1.1", "4.2", "4.1", "4.0.1")
# packages whose builds differ, and well-known ones that bring torch along
TORCH = {"torch", "torchvision", "torchaudio", "torchtext", "torchdata", "torchao", "torchrec", "triton", "xformers",
         "vllm"}
BRINGS = {"accelerate", "bitsandbytes", "deepspeed", "fastai", "flash-attn", "kornia", "lightning", "monai",
          "open-clip-torch", "openai-whisper", "peft", "pytorch-lightning", "sentence-transformers",
          "stable-baselines3", "timm", "torchmetrics", "trl", "ultralytics"}
MANAGER = "agent.package_manager."
LOCAL = re.compile(r"(==\s*[\w.]+)\+(?:cu\d+|cpu|rocm[\d.]+)\b")
OLD_SETUPTOOLS = "setuptools<59"
AWAY_S = 600  # for so long an index that could not be reached is not asked again
_away: set[str] = set()


class Away(Exception):
    """PyTorch's index for this backend cannot be reached; note_away() has it passed over.

    What the other indexes give has a key of its own: it stands in the cache for all tasks of that time.
    """


def settle(job: Job, asked: Requirements, policy: Policy) -> None:
    """Set the policy's `backend` (or an index of a mirror among the list's options), and mend lines about torch."""
    from agentpipe.settings import config
    names = asked.names()
    if not names & (TORCH | BRINGS):
        return
    if asked.exact:
        policy.backend = asked.torch_index
        return
    if asked.has_hashes():
        return  # it says itself which build is meant: another one has another hash
    _needs_old_setuptools(asked, names)
    resolve = (config.get(MANAGER + "pytorch_resolve", None, "CLEARML_AGENT_PACKAGE_PYTORCH_RESOLVE") or "pip").lower()
    if resolve == "none":
        return
    policy.nightly = config.flag(MANAGER + "torch_nightly")
    backend = os.environ.get("UV_TORCH_BACKEND") or here()
    template = _template(backend)
    if template:
        asked.options.append(("--extra-index-url", template))
    elif not any(name in ("--no-index", "--index-url") for name, _ in asked.options) and _indexed():
        policy.backend = backend
    if template or policy.backend:
        # `+cu113` is the other machine's: ours has its own
        asked.packages = [LOCAL.sub(r"\1", line) if is_torch(line) else line for line in asked.packages]
        policy.notes.append(f"PyTorch for {words(backend)}")
    since = _away_since(policy.backend) if policy.backend else None
    if since is not None:
        policy.backend, policy.away = "", backend
        policy.notes.append(f"its index could not be reached {units.duration(since)} ago: the other indexes have to "
                            f"do, and it is asked again after {units.duration(AWAY_S)} "
                            "(never with CLEARML_AGENT_PACKAGE_PYTORCH_RESOLVE=none)")


def note_away(backend: str) -> None:
    """The index of this backend cannot be reached now: no task of this machine asks it for a while."""
    _away.add(backend)
    try:
        files.publish(paths.cache(f"no-torch-index-{backend}"), b"")
    except OSError:  # each process finds out by itself
        pass


def _away_since(backend: str) -> float | None:
    """How many seconds ago its index could not be reached; None where that is too long ago, or it could."""
    if backend in _away:
        return 0.0
    try:
        since = time.time() - os.stat(paths.cache(f"no-torch-index-{backend}")).st_mtime
    except OSError:
        return None
    return since if 0 <= since < AWAY_S else None


def here() -> str:
    """The backend of this machine: "cu121", "rocm6.2" or "cpu"."""
    version = cuda()
    if version:
        return next((f"cu{each}" for each in CUDA if each <= version), "cpu")
    rocm = rocm_version()
    if rocm:
        return next((f"rocm{each}" for each in ROCM if _numbers(each) <= _numbers(rocm)), "cpu")
    return "cpu"


def driver() -> str:
    """The oldest driver that runs every build for this machine's major version of CUDA ("525.60.13"); "" without one.

    What uv wants to know (UV_CUDA_DRIVER_VERSION) before it looks from the newest build down to the oldest (`auto`).
    """
    found = cuda()
    return next((text for first, text in DRIVERS if found >= first), "")


def cuda() -> int:
    """The newest CUDA that this machine can run, 121 for 12.1: as configured, else the driver's; 0 without one."""
    from agentpipe.settings import config, forms
    if config.flag("agent.cpu_only"):
        return 0
    told = forms.cuda()
    if told is not None:
        return told
    if not os.path.exists("/dev/nvidiactl") and not os.path.exists("/proc/driver/nvidia/version"):
        return 0
    try:
        import pynvml
        pynvml.nvmlInit()
        version = int(pynvml.nvmlSystemGetCudaDriverVersion_v2())  # 12010 for 12.1
        pynvml.nvmlShutdown()
        return version // 1000 * 10 + version % 1000 // 10
    except Exception:  # no NVML, or a driver that does not answer: no GPU to build for
        return 0


def rocm_version() -> str:
    """The installed ROCm ("6.2.4") of an AMD host; "" elsewhere."""
    if not os.path.exists("/dev/kfd"):
        return ""
    for folder in filter(None, (os.environ.get("ROCM_PATH"), "/opt/rocm")):
        try:
            with open(os.path.join(folder, ".info", "version"), encoding="ascii", errors="replace") as file:
                return file.read().strip().split("-")[0]
        except OSError:
            continue
    return ""


def is_torch(line: str) -> bool:
    """Whether a line is about a package whose builds differ by backend."""
    from agentpipe.environment.requirements import NAME, normalised
    match = re.match(NAME, line)
    return bool(match and normalised(match[1]) in TORCH)


def nightly_index(backend: str) -> str:
    """Where nightly builds for this backend are."""
    from agentpipe.settings import config
    rocm = backend.startswith("rocm")
    template = config.get(MANAGER + f"nightly_{'rocm_' if rocm else ''}extra_index_url_template")
    if template:
        return _filled(template, backend)
    return f"https://download.pytorch.org/whl/nightly/{backend or 'cpu'}"


def words(backend: str) -> str:
    """The backend for people."""
    if backend == AUTO:
        return "older CUDA"
    if backend.startswith("cu"):
        return f"CUDA {backend[2:-1]}.{backend[-1]}"
    return f"ROCm {backend[4:]}" if backend.startswith("rocm") else "CPUs"


def _template(backend: str) -> str:
    from agentpipe.settings import config
    rocm = "rocm_" if backend.startswith("rocm") else ""
    template = config.get(MANAGER + rocm + "extra_index_url_template")
    return _filled(template, backend) if template else ""


def _filled(template: str, backend: str) -> str:
    number = re.sub(r"^(cu|rocm)", "", backend)
    if backend == "cpu":
        return template.replace("cu{}", "cpu").replace("{}", "cpu")
    return template.replace("{}", number)


def _indexed() -> bool:
    """Whether packages come from indexes at all (a site that works from folders has no PyTorch index either)."""
    from agentpipe.settings import indexes
    return not any(value.lower() in indexes.YES for value in indexes.pip_settings()["no-index"])


def _needs_old_setuptools(asked: Requirements, names: set[str]) -> None:
    """torch before 1.11 imports what setuptools 59 took out (distutils.version)."""
    if "setuptools" in names:
        return
    for line in asked.packages:
        match = re.match(r"torch\s*==\s*1\.(\d+)\b", line)
        if match and int(match[1]) < 11:
            asked.packages.append(OLD_SETUPTOOLS)
            return


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]
