"""Versions that figures hold for."""

from __future__ import annotations

import platform
import re
import sysconfig

from revstep.engine.system.machine import package_version


def python_series() -> str:
    """As ``3.11``."""
    return ".".join(platform.python_version_tuple()[:2])


def python_build() -> str:
    """Version, compiler, and how it was optimised: each makes other instructions."""
    arguments = str(sysconfig.get_config_var("CONFIG_ARGS") or "")
    how = [word for word in ("enable-optimizations", "with-lto") if word in arguments]
    return ", ".join([platform.python_version(), platform.python_compiler(), *(how or ["plain"])])


def c_library() -> str:
    """As ``glibc 2.36``."""
    return " ".join(platform.libc_ver()).strip() or "unknown"


def version_of(name: str) -> str:
    """A distribution's version; empty where it isn't installed."""
    return package_version(name) or ""


def compiler_of(library: bytes) -> str:
    """What compiled a shared library, as its bytes say: ``GCC: (Debian 12.2.0-14) 12.2.0``."""
    found = re.findall(rb"(?:GCC: \([^)]*\)|clang version) [\d.]+", library)
    return ", ".join(sorted({text.decode() for text in found})) or "unknown"
