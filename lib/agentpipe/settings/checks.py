"""Settings of this machine that are refused before a task is taken, and that whoever has one in hand looks at."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial

from agentpipe import errors
from agentpipe.settings import config, forms

# read when a request is made, or made again
OF_REQUESTS = ("http.max_req_size", "auth.token_expiration_threshold_sec", "auth.request_token_expiration_sec",
               *(f"http.retries.{name}" for name in ("total", "connect", "read", "redirect", "status",
                                                     "backoff_factor", "backoff_max")))
OF_CACHE = (("max_entries", 0.0), ("free_space_threshold_gb", config.NO_LEAST), ("lock_timeout", config.NO_LEAST))
FLAGS: tuple[tuple[str, ...], ...] = (
    *(("agent." + name,) for name in (
        "apply_environment", "apply_files", "cpu_only", "disable_task_docker_override", "docker_allow_host_environ",
        "docker_args_extra_precedes_task", "docker_force_pull", "docker_install_opencv_libs",
        "docker_use_activated_venv", "enable_task_env", "files_outside_home", "force_git_root_python_path",
        "force_git_ssh_protocol", "git_host_match_prefix", "git_use_azure_pat", "git_use_ms_entra_token",
        "ignore_requested_python_version", "suppress_carriage_return", "translate_ssh",
        "default_docker.update_back_task", "pip_download_cache.enabled", "vcs_cache.clone_on_pull_fail",
        "vcs_cache.enabled", "hide_docker_command_env_vars.enabled",
        "hide_docker_command_env_vars.parse_embedded_urls")),
    *(("agent.package_manager." + name,) for name in (
        "conda_env_as_base_docker", "conda_full_env_update", "force_original_requirements",
        "force_repo_requirements_txt", "force_upgrade", "poetry_files_from_repo_working_dir", "system_site_packages",
        "torch_nightly", "use_conda_base_env", "uv_files_from_repo_working_dir", "uv_sync_locked_if_lock_file")),
    ("api.http.wait_on_maintenance_forever",), ("agent.disable_ssh_mount", "CLEARML_AGENT_DISABLE_SSH_MOUNT"),
    ("agent.crash_on_exception", "CLEARML_AGENT_CRASH_ON_EXCEPTION"),
    *(("", name) for name in ("AGENT_OFFLINE", "CLEARML_AGENT_FORCE_POETRY", "CLEARML_AGENT_FORCE_TASK_INIT",
                              "CLEARML_AGENT_FORCE_UV", "CLEARML_AGENT_FORCE_SYSTEM_SITE_PACKAGES",
                              "CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL")))
OF_STAGES = ("AGENT_CLAIM_GRACE", "AGENT_HOOK_TIMEOUT", "AGENT_KEEP_DAYS", "AGENT_ENVS_MAX_GB", "AGENT_ENVS_MAX_DAYS")


def check_values() -> None:
    """Failure 78 for a wrong number, a yes or no that is neither, or what has not its form, among what is read when a
    task is in hand; for whoever is about to take it."""
    for wrong in wrong_values():
        raise wrong


def wrong_values() -> Iterator[errors.Failure]:
    """That Failure for each of them."""
    reports = (config.STATUS_REPORT, config.TASK_PING, config.ABORT_CALLBACK)
    looks: tuple[Callable[[], object], ...] = (
        *(partial(config.number, *each) for each in reports),
        *(partial(config.number, "api." + name, 0) for name in OF_REQUESTS),
        *(partial(config.number, "agent.venvs_cache." + name, 0, least=least) for name, least in OF_CACHE),
        *(partial(config.variable, name, 0) for name in OF_STAGES),
        *(partial(config.flag, key, False, *variables) for key, *variables in FLAGS), forms.cuda, forms.ssh_port,
        forms.fetch_args, forms.web_scheme)
    for look in looks:
        try:
            look()
        except errors.Failure as failure:
            yield failure


def lost_policy(option: str | None) -> str:
    """What becomes of a lost task, `fail` or `requeue`: --on-lost (Failure 64 for another word), AGENT_ON_LOST (78)."""
    told = option if option is not None else os.environ.get("AGENT_ON_LOST") or "fail"
    if told.lower() in ("fail", "requeue"):
        return told.lower()
    if option is not None:
        raise errors.Failure(f"--on-lost is fail or requeue, not {told!r}", errors.USAGE)
    raise errors.Failure(f"AGENT_ON_LOST is fail or requeue, not {told!r}", errors.BAD_CONFIG, remedy="correct it")


def check_user(ahead: bool = False) -> None:
    """Failure 78 where CLEARML_AGENT_EXEC_USER names another user than the one that we are: agent-run is not to.

    `ahead`: for whoever is about to take a task, which another command may run (AGENT_STAGE_RUN).
    """
    from agentpipe import paths
    user = os.environ.get("CLEARML_AGENT_EXEC_USER")
    if user and user != paths.user() and not (ahead and os.environ.get("AGENT_STAGE_RUN")):
        raise errors.Failure(f"CLEARML_AGENT_EXEC_USER: a task runs as whoever starts agent-run, not as {user}",
                             errors.BAD_CONFIG, remedy=f"start the pipeline as {user}, or unset it")
