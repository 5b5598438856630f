"""Whether the kernel killed something for lack of memory, and what it says about it (cgroups, /proc/vmstat)."""



def mark() -> int:
    """How many processes this kernel has killed for lack of memory so far (since Linux 4.13)."""
    try:
        with open("/proc/vmstat", encoding="ascii") as file:
            for line in file:
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0


def evidence_of_kill(before: int) -> str:
    """The limit and the peak, when the kernel has killed something since mark() gave `before`; else empty."""
    killed = mark() - before
    if killed <= 0:
        return ""
    import resource
    lines = [f"the kernel killed {killed} process(es) for lack of memory while the script ran"]
    limit, peak = _cgroup("memory.max", "memory.limit_in_bytes"), _cgroup("memory.peak", "memory.max_usage_in_bytes")
    if limit is not None:
        lines.append(f"limit {limit} bytes" + (f", peak {peak} bytes" if peak is not None else ""))
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    if children:
        lines.append(f"largest process: {children} bytes resident")
    return "\n".join(lines)


def _cgroup(v2: str, v1: str) -> int | None:
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            for line in file:
                _, controllers, path = line.rstrip("\n").split(":", 2)
                if controllers == "":
                    found = _number(f"/sys/fs/cgroup{path}/{v2}")
                elif "memory" in controllers.split(","):
                    found = _number(f"/sys/fs/cgroup/memory{path}/{v1}")
                else:
                    continue
                if found is not None:
                    return found
    except OSError:
        pass
    return None


def _number(path: str) -> int | None:
    try:
        with open(path, encoding="ascii") as file:
            text = file.read().strip()
    except OSError:
        return None
    # "max", and v1's figure for no limit, are none
    return int(text) if text.isdigit() and int(text) < 1 << 62 else None
