"""What decides the outcome of a build from source beside the source itself, for the cache's key.

Nobody knows beforehand what will be built, so these count for every environment: they are seldom set, and on one
machine always alike. agent-env(1) lists them.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from agentpipe.job import Job

NAMES = frozenset((
    # compilers
    "CC", "CXX", "FC", "AR", "LD", "CPP", "CFLAGS", "CXXFLAGS", "CPPFLAGS", "FFLAGS", "FCFLAGS", "LDFLAGS", "ARCHFLAGS",
    "RUSTFLAGS", "CARGO_BUILD_TARGET",
    # what they find
    "CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "LIBRARY_PATH", "PKG_CONFIG_PATH", "PKG_CONFIG_LIBDIR",
    "PKG_CONFIG_SYSROOT_DIR", "OPENBLAS", "MKLROOT",
    # how they are called
    "CMAKE_ARGS", "CMAKE_GENERATOR", "CMAKE_TOOLCHAIN_FILE", "CMAKE_PREFIX_PATH", "CMAKE_BUILD_TYPE",
    "CMAKE_CUDA_ARCHITECTURES", "SETUPTOOLS_USE_DISTUTILS", "SOURCE_DATE_EPOCH",
    # for which GPUs
    "CUDA_HOME", "CUDA_PATH", "CUDACXX", "CUDAARCHS", "NVCC_APPEND_FLAGS", "NVCC_PREPEND_FLAGS", "TORCH_CUDA_ARCH_LIST",
    "TORCH_NVCC_FLAGS", "FORCE_CUDA", "ROCM_HOME", "ROCM_PATH", "PYTORCH_ROCM_ARCH", "HIP_PATH"))
# of builds, and of packages that people build
BEGINNINGS = ("SKBUILD_", "SETUPTOOLS_SCM_PRETEND_VERSION", "NPY_", "HOROVOD_", "FLASH_ATTENTION_", "DS_BUILD_")


def deciding(job: Job) -> list[str]:
    """NAME=VALUE of those that builds of this task see; on a host also its C library, by which wheels are chosen."""
    own = (f"{name}={value}" for name, value in os.environ.items())
    if not job.prefix:
        return [libc(), *_of(own)]
    from agentpipe.environment import image_packages
    from agentpipe.place import inside
    return _of(image_packages.variables(job) if inside.isolated(job) else own)


def libc() -> str:
    """This machine's C library ("glibc 2.36"); "" for one that does not say."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):  # musl
        return ""


def _of(pairs: Iterable[str]) -> list[str]:
    return sorted(pair for pair in pairs
                  if pair.partition("=")[0] in NAMES or pair.startswith(BEGINNINGS))
