"""Places without a daemon: what arguments of `docker run` come to, and the command lines of Charliecloud and Apptainer.

Both run for real in tests/services; here Apptainer's command line is held against the options that all its versions
document.
"""

import os
import re
import shlex
import signal
import stat
import subprocess
import sys
import time

import pytest

from agentpipe import errors, paths, place, processes, tools
from agentpipe.claim import attempt
from agentpipe.job import Job
from agentpipe.place import (
    apptainer,
    args_without_daemon,
    args_words,
    charliecloud,
    container_args,
    image_root,
    images,
    unprivileged,
)
from agentpipe.place.decide import Container

# the flags that its action_flags.go registers for `exec` (1.1 to 1.4): with a value, and without
VALUED = re.findall(r"--\S+", """--add-caps --app --apply-cgroups --bind --blkio-weight --blkio-weight-device
--cpu-shares --cpus --cpuset-cpus --cpuset-mems --cwd --dns --docker-host --drop-caps --env --env-file --fusemount
--home --hostname
--memory --memory-reservation --memory-swap --mount --network --network-args --overlay --pem-path --pids-limit --pwd
--scratch --security --workdir""")
ALONE = re.findall(r"--\S+", """--allow-setuid --cleanenv --compat --contain --containall --disable-cache --docker-login
--fakeroot --ipc --keep-privs --net --no-eval --no-home --no-https --no-init --no-privs --no-umask --nv --nvccli
--oom-kill-disable --passphrase --pid --rocm --underlay --unsquash --userns --uts --writable --writable-tmpfs""")


@pytest.fixture
def job(tmp_path, monkeypatch):
    for name in ("NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "SSH_AUTH_SOCK"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "task").mkdir()
    found = Job({"task": {"id": "t1"}}, str(tmp_path / "task"))
    yield found
    found.close()


def said(job: Job) -> str:
    with open(job.path("setup.log")) as file:
        return file.read()


def asked(text: str, notes: list | None = None) -> args_without_daemon.Asked:
    return args_without_daemon.translated(args_words.parse(shlex.split(text)), [] if notes is None else notes)


def documented(words: list[str]) -> str:
    """Every option of this command line is one that is documented, and has a value where it wants one; the image."""
    rest = list(words)
    while rest[0].startswith("-"):
        option = rest.pop(0)
        if option in VALUED:
            assert not rest.pop(0).startswith("--"), option
        else:
            assert option in ALONE, option
    assert len(rest) == 1
    return rest[0]


def test_arguments_that_mean_something_here(tmp_path):
    (tmp_path / "env").write_text("A=file\nB=file\n")
    notes: list[str] = []
    found = asked(f"-e A=1 --env-file {tmp_path}/env -v /a:/b:ro -v named:/c --mount type=bind,src=/d,dst=/e,ro "
                  "-v /f:/g:ro,z -v /h:/i:Z --mount type=tmpfs,dst=/t --user 7:8 --gpus all --memory 1g --rm", notes)
    assert found.env == {"A": "1", "B": "file"}
    assert found.binds == [("/a", "/b", "ro"), ("/d", "/e", "ro"), ("/f", "/g", "ro"), ("/h", "/i", "")]
    assert (found.user, found.gpus) == ("7:8", True)
    assert [option.name for option in found.other] == ["memory", "rm"]
    assert len(notes) == 2 and "named:/c" in notes[0] and "type=tmpfs" in notes[1]


def test_of_two_files_with_variables_the_later_one_counts_and_words_before_both(tmp_path):
    (tmp_path / "one").write_text("A=1\nB=1\n")
    (tmp_path / "two").write_text("A=2\nB=2\n")
    assert asked(f"-e B=word --env-file {tmp_path}/one --env-file {tmp_path}/two").env == {"A": "2", "B": "word"}


def test_where_the_agent_has_been_given_gpus_a_tasks_variables_name_no_others(job, monkeypatch, tmp_path):
    (tmp_path / "env").write_text("CUDA_VISIBLE_DEVICES=0,1\n")
    text = f"-e NVIDIA_VISIBLE_DEVICES=all -e A=1 --env-file {tmp_path}/env"
    assert set(asked(text).env) == {"A", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    notes: list[str] = []
    assert asked(text, notes).env == {"A": "1"}
    assert [note.split(" ")[1] for note in notes] == ["CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"]


@pytest.mark.parametrize("text", ["-v relative:path", "--mount type=cow,dst=/b", "--env-file /no/such"])
def test_what_docker_would_refuse_is_refused(text):
    with pytest.raises(errors.Failure):
        asked(text)


@pytest.mark.parametrize("text", ["-v /etc:/a -v {}:/b:ro", "--mount type=bind,src={},dst=/b"])
def test_a_mount_of_what_is_not_there_is_told_by_its_option(tmp_path, text):
    missing = tmp_path / "none"
    options = args_words.parse(shlex.split(text.format(missing)))
    container = Container("charliecloud", "i:1")
    for container.own, exit in ((True, errors.BAD_DATA), (False, errors.BAD_CONFIG)):
        with pytest.raises(errors.Failure) as caught:
            args_without_daemon.check_sources(options, container)
        assert caught.value.exit == exit
        assert caught.value.reason == f"{options[-1]!r}: there is no {missing} on this machine".replace("=", " ", 1)
    missing.touch()
    args_without_daemon.check_sources(options, container)
    args_without_daemon.check_sources(args_words.parse(["-v", "named:/c", "-v", "/only-inside"]), container)


def test_what_has_no_meaning_is_said_and_what_is_so_anyway_is_not(job):
    found = asked("--network host --ipc=host --shm-size 1g --privileged -it --network none --cap-add SYS_ADMIN")
    args_without_daemon.say_what_is_left(job, found.other, "charliecloud")
    assert said(job) == "charliecloud has no such thing: --network, --cap-add\n"


# --- Apptainer ----------------------------------------------------------------------------------------------------


def test_apptainers_command_line_is_of_documented_options(job):
    found = asked("-e 'A=it is' -v /a:/b:ro -v /c:/d --memory 1g --cpus 2 --pids-limit 9 --hostname me "
                  "--cap-add A --cap-add B --cap-drop MKNOD --dns 1.1.1.1 --dns 8.8.8.8 "
                  "--gpus all --user 7 --network host --sysctl a=b --init")
    words = apptainer.words("/usr/bin/apptainer", job, unprivileged.Image("/images/a.sif", "k"), found, False, False)
    at = words.index("sh")
    assert words[:at] == ["env", *apptainer.LEFT_OUT, f"PYTHONUSERBASE={job.path('user-packages')}"]
    assert words[at + 1:at + 4] == ["-c", 'cd / && PATH=$0 exec "$@"', tools.search_path()]
    assert words[at + 4:at + 6] == ["/usr/bin/apptainer", "exec"]
    assert documented(words[at + 6:]) == "/images/a.sif"
    line = shlex.join(words)
    assert "--bind /a:/b:ro --bind /c:/d" in line and "--memory 1g --cpus 2 --pids-limit 9" in line
    assert "--add-caps A,B --drop-caps MKNOD --dns 1.1.1.1,8.8.8.8" in line
    assert "--nv" in words and "--writable-tmpfs" in words and "--no-home" in words
    assert "it is" not in line  # variables go by file
    apptainer.say(job, found)
    assert "apptainer has no such thing: --sysctl\n" in said(job)


@pytest.mark.parametrize(("engine", "text", "left_out"), [
    (apptainer, "A='it is'\nB='x\ny'\n", "'X;rm=1'"), (charliecloud, "A=it is\nX;rm=1=2\n", "'B'")])
def test_variables_go_by_a_file_and_what_that_cannot_say_is_said(job, engine, text, left_out):
    found = asked("")
    found.env = {"A": "it is", "B": "x\ny", "X;rm=1": "2"}
    unprivileged.write_environment(job, found, engine)
    with open(job.path("place.env")) as file:
        assert file.read() == text
    assert os.stat(job.path("place.env")).st_mode & 0o777 == 0o600
    assert f"--env {left_out} cannot be passed on here" in said(job)


@pytest.mark.parametrize(("value", "line"), [
    ("'a b'", "A=''a b''\n"), ("''", "A=''''\n"), ("'", "A='\n"), ('"a"', 'A="a"\n'), (" a ", "A= a \n")])
def test_ch_run_takes_one_pair_of_quotes_away(value, line):
    assert charliecloud.line("A", value) == line


def test_a_path_with_a_comma_is_one_mount(job):
    found = asked("""-v '/a,b:/c:ro' --mount 'type=bind,src=/d:e,"dst=/f"'""")
    words = apptainer.words("apptainer", job, unprivileged.Image("/a.sif", "k"), found, False, False)
    assert documented(words[words.index("exec") + 1:]) == "/a.sif"
    assert 'type=bind,"source=/a,b","destination=/c",ro' in words
    assert 'type=bind,"source=/d:e","destination=/f"' in words


def test_a_set_up_changes_an_overlay_of_root_and_a_copy_of_a_plain_user(job, monkeypatch):
    words = apptainer.words("apptainer", job, unprivileged.Image("/a.sif", "k"), asked(""), True, True)
    assert documented(words[words.index("exec") + 1:]) == "/a.sif"
    assert words[words.index("--overlay") + 1] == job.path("root")
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    copy = unprivileged.Image(job.path("root"), "k")
    words = apptainer.words("apptainer", job, copy, asked("-v /a:/root/b"), True, True)
    assert documented(words[words.index("exec") + 1:]) == job.path("root")
    assert "--fakeroot" in words and "--writable" in words and "--overlay" not in words
    assert "/a:" + os.path.expanduser("~/b") in words


@pytest.mark.parametrize(("name", "value"), [("NVIDIA_VISIBLE_DEVICES", "none"), ("CUDA_VISIBLE_DEVICES", "")])
def test_gpus_that_are_hidden_stay_hidden(job, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    words = apptainer.words("apptainer", job, unprivileged.Image("/a.sif", "k"), asked("--gpus all"), False, False)
    assert "--nv" not in words and "--rocm" not in words


@pytest.fixture
def program(tmp_path):
    """An `apptainer` that does what `pull --force FILE ADDRESS` documents, and counts."""
    path = tmp_path / "apptainer"
    path.write_text('#!/bin/sh\n[ "$1 $2" = "pull --force" ] || exit 2\n'
                    f'echo "$4" >>{tmp_path}/pulled\necho "$4" >"$3"\n')
    path.chmod(0o755)
    return str(path)


def test_images_of_a_registry_are_pulled_once(job, program, tmp_path, monkeypatch):
    first = apptainer.image(job, "python:3.12", program, [], False)
    again = apptainer.image(job, "docker://python:3.12", program, [], False)
    assert first.path == again.path and first.key == again.key
    assert first.path.endswith(".sif")
    apptainer.image(job, "oras://host/image:1", program, [], False)
    assert (tmp_path / "pulled").read_text() == "docker://python:3.12\noras://host/image:1\n"
    monkeypatch.setenv("CLEARML_AGENT__AGENT__DOCKER_FORCE_PULL", "true")
    assert apptainer.image(job, "python:3.12", program, [], False).path != first.path
    monkeypatch.setenv("AGENT_OFFLINE", "1")
    assert apptainer.image(job, "python:3.12", program, [], False).path == first.path
    with pytest.raises(errors.Failure, match="is not here, and AGENT_OFFLINE forbids the network") as caught:
        apptainer.image(job, "python:3.13", program, [], False)
    assert caught.value.exit == errors.UNAVAILABLE
    apptainer.image(job, "docker-archive:///shared/image.tar", program, [], False)  # which asks no network
    assert (tmp_path / "pulled").read_text().endswith("\ndocker-archive:///shared/image.tar\n")


@pytest.mark.parametrize(("told", "exit", "remedy"), [
    ("FATAL: Unable to get library client configuration: remote has no library client (see https://apptainer.org)",
     errors.UNAVAILABLE, "{} remote add --no-login SylabsCloud cloud.sycloud.io && {} remote use SylabsCloud"),
    ("FATAL: while performing library pull: unauthorized", errors.NO_PERMISSION, "{} remote login, as the user"),
    ("FATAL: dial tcp: lookup library.example: no such host", errors.UNAVAILABLE, "the library of `{} remote list`")])
def test_an_image_that_a_library_does_not_give_sends_nobody_to_a_registry_of_dockers(job, program, told, exit, remedy):
    with open(program, "w") as file:
        file.write(f"#!/bin/sh\necho '{told}'; exit 255\n")
    with pytest.raises(errors.Failure) as caught:
        apptainer.image(job, "library://lolcow", program, [], False)
    assert caught.value.exit == exit and remedy.replace("{}", program) in caught.value.remedy
    assert caught.value.of_machine == ("has no library" in told)
    assert "docker.io" not in str(caught.value)


def test_a_sif_is_used_where_it_is_and_one_that_is_not_there_is_66(job, program, tmp_path):
    (tmp_path / "a.sif").touch()
    assert apptainer.image(job, str(tmp_path / "a.sif"), program, [], False).path == str(tmp_path / "a.sif")
    with pytest.raises(errors.Failure) as caught:
        apptainer.image(job, "/no/such.sif", program, [], False)
    assert caught.value.exit == errors.NOT_FOUND


def test_without_the_program_it_is_69_and_says_what_to_do(job, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    for kind, remedy in (("apptainer", "module load apptainer"), ("charliecloud", "Debian: charliecloud")):
        with pytest.raises(errors.Failure) as caught:
            unprivileged.start(job, Container(kind, "i:1"))
        assert caught.value.exit == errors.UNAVAILABLE and remedy in caught.value.remedy


# --- Charliecloud ----------------------------------------------------------------------------------------------------


def test_mount_points_are_made_in_the_image_and_not_through_its_links(tmp_path):
    root, source = tmp_path / "image", tmp_path / "file"
    (root / "usr").mkdir(parents=True)
    (root / "lib").symlink_to("/usr/lib")
    (root / "out").symlink_to("../../..")
    source.touch()
    image_root.prepare(str(root), [(str(tmp_path), "/lib/a", ""), (str(source), "/etc/b", "")])
    assert (root / "usr" / "lib" / "a").is_dir() and (root / "etc" / "b").is_file()
    with pytest.raises(errors.Failure) as caught:
        image_root.prepare(str(root), [(str(tmp_path), "/out/x", "")])
    assert "leads out of it" in caught.value.reason


def test_no_link_of_an_image_leads_to_this_machine(tmp_path):
    root, outside = tmp_path / "image", tmp_path / "outside"
    (root / "etc").mkdir(parents=True)
    (outside / "x" / "apt.conf.d").mkdir(parents=True)
    (root / "etc" / "apt").symlink_to("../away/x")  # whose first part is a link itself
    (root / "away").symlink_to(outside)
    image_root.single_user(str(root))
    image_root.prepare(str(root), [(str(tmp_path), "/etc/apt/a", "")])
    assert os.listdir(outside / "x") == ["apt.conf.d"] and os.listdir(outside / "x" / "apt.conf.d") == []
    assert os.path.isdir(f"{root}{outside}/x/a")
    (root / "etc" / "apt").unlink()
    (root / "etc" / "apt" / "apt.conf.d").mkdir(parents=True)
    (root / "etc" / "apt" / "apt.conf.d" / "zz-one-user").symlink_to(outside / "file")
    image_root.single_user(str(root))
    assert "root" in (root / "etc" / "apt" / "apt.conf.d" / "zz-one-user").read_text()
    assert os.listdir(outside) == ["x"]
    for number in range(12):
        (root / f"chain{number}").symlink_to(f"chain{number + 1}")
    (root / "chain12").symlink_to(outside)
    assert image_root.within(str(root), "chain0/y") == f"{root}{outside}/y"
    (root / "circle").symlink_to("circle")
    with pytest.raises(errors.Failure, match="circle of links"):
        image_root.within(str(root), "circle/y")


def test_a_folder_is_unpacked_once_until_it_changes(job, tmp_path):
    source = tmp_path / "source"
    (source / "usr").mkdir(parents=True)
    (source / "usr" / "a").write_text("1")
    first = charliecloud.image(job, str(source), "ch-run", [(str(tmp_path), "/deep/inside", "")], False)
    assert os.path.isdir(first.path + "/deep/inside") and os.path.isdir(first.path + "/proc")
    assert not (source / "deep").exists()
    assert charliecloud.image(job, str(source), "ch-run", [], False).path == first.path
    deep = source / "usr" / "lib" / "python3" / "site-packages" / "module.py"
    deep.parent.mkdir(parents=True)
    seen = {first.path}
    for text in ("one", "two", "three!"):  # also one that is written in place
        deep.write_text(text)
        found = charliecloud.image(job, str(source), "ch-run", [], False)
        assert found.path not in seen
        seen.add(found.path)
        with open(found.path + "/usr/lib/python3/site-packages/module.py") as file:
            assert file.read() == text
    (deep.parent / "__pycache__").mkdir()
    (deep.parent / "__pycache__" / "module.pyc").touch()
    assert charliecloud.image(job, str(source), "ch-run", [], False).path == found.path


def test_a_folder_that_is_no_image_is_not_copied_first(job, tmp_path):
    (tmp_path / "data" / "images").mkdir(parents=True)
    with pytest.raises(errors.Failure, match="is no image: it has none of bin, etc, usr"):
        charliecloud.image(job, str(tmp_path / "data"), "ch-run", [], False)


@pytest.mark.parametrize("engine", [charliecloud, apptainer])
def test_a_pipe_is_not_waited_for_and_this_machines_own_root_is_not_copied_into_itself(job, tmp_path, engine):
    os.mkfifo(tmp_path / "pipe.tar")
    with pytest.raises(errors.Failure, match="is no image: it is neither a file nor a folder") as caught:
        engine.image(job, str(tmp_path / "pipe.tar"), "program", [], False)
    assert caught.value.exit == errors.BAD_DATA
    for name in ("/", os.path.dirname(paths.cache("images"))):
        with pytest.raises(errors.Failure, match="is no image: the images of this agent are kept in it"):
            engine.image(job, name, "program", [], False)


def test_apptainer_is_given_no_archive_and_what_to_do_with_it_is_said(job, tmp_path):
    (tmp_path / "a.tar.gz").touch()
    with pytest.raises(errors.Failure, match="is an archive, which Apptainer does not enter") as caught:
        apptainer.image(job, str(tmp_path / "a.tar.gz"), "apptainer", [], False)
    assert f"docker-archive://{tmp_path}/a.tar.gz" in caught.value.remedy


@pytest.mark.parametrize("engine", [charliecloud, apptainer])
def test_devices_of_a_folder_that_root_made_stay_out_of_a_copy(job, tmp_path, monkeypatch, engine):
    source = tmp_path / "source"
    for folder in ("dev", "etc", "var/chroot"):
        (source / folder).mkdir(parents=True)
    for name in ("dev/null", "var/chroot/null") if os.getuid() == 0 else ():  # who else can make one
        os.mknod(source / name, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (source / "etc" / "two\nlines").write_text("kept")
    (source / "etc" / "link").symlink_to("nowhere")
    monkeypatch.setattr(os, "getuid", lambda: 1000)  # root of Apptainer's has an overlay
    found = engine.image(job, str(source), "program", [], True).path
    assert os.path.isdir(found + "/var/chroot") and not os.path.lexists(found + "/var/chroot/null")
    assert os.listdir(found + "/dev") == []
    with open(found + "/etc/two\nlines") as file:
        assert file.read() == "kept"
    assert os.readlink(found + "/etc/link") == "nowhere"


def test_the_programs_of_our_own_virtual_environment_are_not_those_of_a_place(job, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{sys.prefix}/bin:{tmp_path}:/usr/bin:/bin")
    for engine in (charliecloud, apptainer):
        (tmp_path / "engine").write_text('#!/bin/sh\necho "$PATH"\n')
        (tmp_path / "engine").chmod(0o755)
        image = unprivileged.Image(str(tmp_path), "k")
        words = engine.words(str(tmp_path / "engine"), job, image, asked(""), False, False)
        assert subprocess.run(words, capture_output=True, text=True).stdout == f"{tmp_path}:/usr/bin:/bin\n"


def test_what_is_left_out_is_said_once_also_where_a_limit_is_left_out_too(job, tmp_path):
    program = tmp_path / "apptainer"
    program.write_text('#!/bin/sh\ncase " $* " in *" --memory "*)\n  printf "no cgroup\\n\\033[0m\\n" >&2; exit 255\n'
                       "esac\n")
    program.chmod(0o755)
    unprivileged._entered(job, Container("apptainer", "/a.sif"), apptainer, str(program),
                          unprivileged.Image("/a.sif", "k"), asked("--memory 1g --sysctl a=b --user 7"), False)
    assert said(job).count("apptainer has no such thing: --sysctl\n") == 1
    assert said(job).count("apptainer: --user has no effect") == 1
    assert "apptainer cannot limit a task on this machine, left out: --memory (no cgroup)\n" in said(job)


def test_a_squashfs_with_devices_is_unpacked_by_a_plain_user_and_why_one_is_not_is_said(job, tmp_path, monkeypatch):
    (tmp_path / "unsquashfs").write_text('#!/bin/sh\nmkdir -p "$6/etc"\ncase "$2 $7" in\n  -no-prog*good) exit 2;;\n'
                                         '  *) echo no superblock; exit 1\nesac\n')
    (tmp_path / "unsquashfs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name in ("good", "bad"):
        (tmp_path / name).touch()
    assert os.path.isdir(charliecloud.image(job, str(tmp_path / "good"), "ch-run", [], False).path + "/etc")
    with pytest.raises(errors.Failure, match="no superblock"):
        charliecloud.image(job, str(tmp_path / "bad"), "ch-run", [], False)


def test_an_image_whose_folders_are_links_to_what_is_not_there_yet(job, tmp_path):
    """As Yocto's: /tmp is a link to /var/volatile/tmp, which only the running system has."""
    source = tmp_path / "source"
    (source / "etc").mkdir(parents=True)
    (source / "tmp").symlink_to("/var/volatile/agentpipe-test")
    found = charliecloud.image(job, str(source), "ch-run", [], False)
    assert os.path.isdir(found.path + "/var/volatile/agentpipe-test")


def test_an_image_that_takes_longer_to_make_than_it_is_kept_is_not_swept_at_once(job, tmp_path, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT__AGENT__DOCKER_FORCE_PULL", "true")

    def make(fresh):
        os.mkdir(fresh)
        os.utime(fresh.removesuffix(".new") + images.ASKED, (1, 1))
    found = images.cached(job, "apptainer", images.key_of("docker://a"), make)
    assert os.path.isdir(found)


def test_what_stands_beside_the_attempts_fails_no_set_up_and_what_was_kept_goes(job, agent_home):
    kept, odd = (agent_home / "state" / "tasks" / f"{name}.1" for name in ("kept", "odd"))
    for each in (kept, odd):
        each.mkdir(parents=True)
        place.journal(str(each), {"kind": "charliecloud", "prefix": []})
        attempt.decide(str(each), "script_failed")
    (odd / "lock").mkdir()
    (kept.parent / "notes.txt").touch()
    unprivileged.sweep(job)
    assert not (kept / place.JOURNAL).exists() and (odd / place.JOURNAL).exists()
    assert place.journalled(str(kept.parent / "notes.txt")) is None


def test_its_processes_are_this_machines(job):
    with subprocess.Popen(["sh", "-c", "sleep 600 & wait"]) as script:
        os.symlink(processes.identity(script.pid), job.path("pid"))
        where = unprivileged.Unprivileged({"kind": "apptainer", "prefix": ["x"]}, job.directory)
        until = time.monotonic() + 10
        while len(found := where.processes()) < 2:
            assert time.monotonic() < until
        assert found[0] == script.pid
        where.tell([each.name for each in where.family(processes.identity(script.pid))], signal.SIGKILL)
    assert script.returncode == -signal.SIGKILL


def test_a_name_is_pulled_without_a_user_in_the_environment_and_again_where_that_is_asked(job, tmp_path, monkeypatch):
    """As ch-image and ch-convert do: "can't get username: $USER not set"."""
    for name, text in (("ch-image", f'[ "$1" = list ] || echo "$1 $2" >>{tmp_path}/pulled'),
                       ("ch-convert", 'mkdir "$2"')):
        (tmp_path / name).write_text(f'#!/bin/sh\n[ -n "$USER" ] || exit 1\n{text}\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("USER", raising=False)
    first = charliecloud.image(job, "docker://a/b:1", "ch-run", [], False)
    assert charliecloud.image(job, "a/b:1", "ch-run", [], False).path == first.path
    monkeypatch.setenv("CLEARML_AGENT__AGENT__DOCKER_FORCE_PULL", "true")
    assert charliecloud.image(job, "a/b:1", "ch-run", [], False).path != first.path
    assert (tmp_path / "pulled").read_text() == "pull a/b:1\npull a/b:1\n"


@pytest.mark.parametrize("kind", ["charliecloud", "apptainer"])
def test_a_copy_of_ones_own_goes_with_the_place(job, tmp_path, monkeypatch, kind):
    source = tmp_path / "source"
    (source / "etc" / "apt" / "apt.conf.d").mkdir(parents=True)
    (source / "shut").mkdir()
    (source / "shut" / "x").touch()
    found = charliecloud.image(job, str(source), "ch-run", [], True)
    assert found.path == job.path("root")
    os.chmod(job.path("root", "shut"), 0o500)
    # what entered it may be gone meanwhile: module unload
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    value = {"kind": kind, "as_root": ["/nonexistent/program", "--"]}
    assert unprivileged.Unprivileged(value, job.directory).remove() == ""
    assert not os.path.exists(job.path("root"))


def test_charlieclouds_command_line(job, tmp_path):
    (tmp_path / "image" / "ch").mkdir(parents=True)
    (tmp_path / "image" / "ch" / "environment").touch()
    found = asked("-v /a:/b --user 7:8")
    words = charliecloud.words("ch-run", job, unprivileged.Image(str(tmp_path / "image"), "k"), found, False, False)
    assert words[:3] == ["env", "-u", "TMPDIR"] and re.fullmatch(r"USER=\S+", words[3])
    assert words[4] == f"PATH={tools.search_path()}"
    assert words[5:-2] == ["ch-run", "--no-passwd", "--uid=7", "--gid=8", "--bind=/a:/b",
                           *(f"--unset-env={each}" for each in charliecloud.LEFT_OUT),
                           f"--set-env=PATH={charliecloud.PATH}",
                           f"--set-env=PYTHONUSERBASE={job.path('user-packages')}",
                           f"--set-env={tmp_path}/image/ch/environment", "--env-no-expand",
                           f"--set-env={job.path('place.env')}"]
    words = charliecloud.words("ch-run", job, unprivileged.Image(str(tmp_path), "k"), found, True, True)
    assert words[7:10] == ["--write", "--uid=0", "--gid=0"]
    found = asked("--mount type=bind,source=/a:b,target=/c")  # which it would take for /a at b:/c
    with pytest.raises(errors.Failure, match="no path with a colon: /a:b") as caught:
        charliecloud.words("ch-run", job, unprivileged.Image(str(tmp_path), "k"), found, False, False)
    assert caught.value.exit == errors.BAD_DATA
    with pytest.raises(errors.Failure, match="is not the name of an image"):
        charliecloud.image(job, "docker://--help", "ch-run", [], False)


def test_images_that_nobody_asks_for_any_more_are_removed_and_those_in_use_are_not(job, tmp_path, agent_home):
    from agentpipe import paths, place

    def image(name):
        (tmp_path / name / "etc").mkdir(parents=True)
        return charliecloud.image(job, str(tmp_path / name), "ch-run", [], False)
    old, used, young = image("old"), image("used"), image("young")
    for each in (old, used):
        os.utime(each.path + ".asked", (1, 1))
    task = paths.state("tasks", "t.1")
    os.makedirs(task)
    place.journal(task, {"kind": "charliecloud", "image_id": used.key})
    os.makedirs(paths.state("tasks", "hostile.1"))
    place.journal(paths.state("tasks", "hostile.1"), {"image_id": []})
    image("new")
    assert not os.path.exists(old.path) and os.path.isdir(used.path) and os.path.isdir(young.path)
    assert os.path.isdir(tmp_path / "old")


def test_environments_are_there_wherever_their_cache_is(job, tmp_path, monkeypatch):
    monkeypatch.setenv("AGENT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CLEARML_AGENT_VENV_CACHE_PATH", str(tmp_path / "venvs"))
    found = asked("")
    unprivileged._add_ours(found, job, Container("apptainer"), container_args.Args([], []))
    assert (str(tmp_path / "venvs"),) * 2 + ("",) in found.binds


@pytest.mark.parametrize("lock", ["running", "exit.0"])
def test_what_reads_the_scripts_last_words_for_its_shim_is_not_ended_with_the_script(job, lock):
    """Also once the status is there: the log would lack them."""
    with open(job.path(lock), "w") as running:
        shim = subprocess.Popen(["sh", "-c", """sleep 600 & echo $!
            (exec setsid sh -c 'echo $$; sleep 601 & echo $!; wait') & wait"""], stdin=running, stdout=subprocess.PIPE,
            text=True, env={**os.environ, "AGENT_TASK_DIR": job.directory}, start_new_session=True)
    reader, script, below = (int(shim.stdout.readline()) for _ in range(3))
    try:
        where = unprivileged.Unprivileged({"kind": "apptainer", "prefix": ["x"]}, job.directory)
        assert where.signal(processes.identity(script), signal.SIGKILL) == 2
        until = time.monotonic() + 10
        while any(processes.start_time(pid) for pid in (script, below)):
            assert time.monotonic() < until
            time.sleep(0.01)
        assert processes.start_time(reader) and shim.poll() is None
    finally:
        os.killpg(shim.pid, signal.SIGKILL)
        shim.communicate()


@pytest.mark.parametrize(("sign", "refused"), [(":", True), ("=", True), (",", False)])
def test_a_home_that_no_mount_or_variable_can_name_is_no_tasks_fault(job, tmp_path, monkeypatch, sign, refused):
    monkeypatch.setenv("AGENT_HOME", str(tmp_path / f"a{sign}home"))
    (tmp_path / "image" / "etc").mkdir(parents=True)
    wanted = Container("charliecloud", str(tmp_path / "image"))

    def look() -> None:
        unprivileged._add_ours(asked(""), job, wanted, container_args.arguments(job, wanted))
        charliecloud.image(job, wanted.image, "ch-run", [], False)
    if refused:
        with pytest.raises(errors.Failure, match=f"a{sign}home/.* has a '{sign}' in its path") as failure:
            look()
        assert failure.value.exit == errors.BAD_CONFIG and "AGENT_HOME" in failure.value.remedy
    else:
        look()


@pytest.mark.parametrize(("words", "of_machine", "remedy"), [
    ("fuse: failed to open /dev/fuse: Permission denied", True, "open /dev/fuse"),
    ("FATAL: Couldn't determine user account information: user: unknown userid 4321", True, "/etc/passwd"),
    ("sh: no such file", False, "needs a shell")])
def test_what_a_machine_or_its_user_lacks_is_not_the_images_fault(job, words, of_machine, remedy):
    with pytest.raises(errors.Failure) as failure:
        unprivileged._check(job, ["sh", "-c", 'echo "$0" >&2; exit 255', words], Container("apptainer", "/a.sif"))
    assert getattr(failure.value, "of_machine", False) is of_machine and remedy in failure.value.remedy
