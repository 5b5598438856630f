"""What a container's arguments change of what its image has: all that decides it, and nothing else."""

import shlex

import pytest

from agentpipe.place import args_body, args_words, deciding


def of(text: str, **image):
    return deciding.of(args_body.of(args_words.parse(shlex.split(text))), {"Config": image})


@pytest.mark.parametrize("text", [
    "", "-e EPOCHS=3", "-e PYTHONUNBUFFERED=1 -e PYTHONHASHSEED=4", "--memory 1g --gpus all -p 80:80 --name n",
    "--network host --ipc host --label a=b --hostname h",
    "-v /data/1:/data -v named:/workspace/out:ro -v /anonymous --mount type=bind,src=/a,dst=/mnt/a --tmpfs /t:size=1g"])
def test_what_changes_nothing_of_an_image_shares_its_memory(text):
    assert of(text, Env=["PATH=/usr/bin:/bin", "WHERE=/data"], WorkingDir="/workspace/code") == ""


@pytest.mark.parametrize("image", [
    {"Env": ["PATH=/sw/conda/bin:/usr/bin"]}, {"Env": ["PYTHONPATH=/sw/conda"]}, {"WorkingDir": "/sw/conda/"},
    {"Env": ["PYTHONPATH=a:/sw"]}])
def test_a_mount_counts_where_the_image_looks_for_programs_or_packages(image):
    assert of("-v /a:/sw/conda", **image) not in ("", of("-v /b:/sw/conda", **image))
    assert of("-v /a:/other", **image) == ""
    assert of("-v /a://sw/./conda", **image) != ""


CHANGES = ["-e PATH=/a", "-e PYTHONPATH=/a", "-e VIRTUAL_ENV=/a", "-e CONDA_PREFIX=/a", "-e PYENV_VERSION=3.12",
           "-e LD_LIBRARY_PATH=/a", "-e LOCAL_PYTHON=/a", "-e HOME=/a", "--user 7", "--workdir /a",
           "--platform linux/arm64", "--runtime crun", "-v /a:/usr/local", "-v /b:/usr/local", "-v named:/usr/local",
           "-v /usr/local", "--mount type=bind,src=/a,dst=/opt", "--mount type=volume,src=a,dst=/opt",
           "--tmpfs /usr/local", "-e PATH=/b"]


def test_each_change_has_a_name_of_its_own():
    names = [of(text) for text in CHANGES]
    assert all(names) and len(set(names)) == len(CHANGES)
    assert of("-e PATH=/a") == names[0]


def test_of_a_file_of_variables_counts_what_stands_in_it_now(tmp_path):
    file = tmp_path / "env"
    file.write_text("EPOCHS=3\nPATH=/a\n")
    before = of(f"--env-file {file}")
    assert before == of("-e PATH=/a")
    file.write_text("PATH=/b\n")
    assert of(f"--env-file {file}") not in ("", before)


def test_what_another_container_has_mounted_nobody_knows():
    assert of("--volumes-from other") is None
    assert deciding.name("sha256:1", {"decides": None}) == deciding.name("sha256:1", {}) == ""


def test_a_name_has_the_image_the_arguments_and_what_the_entrypoint_has_changed():
    names = {deciding.name(image, {"decides": decides, "entered": entered})
             for image in ("sha256:1", "sha256:2") for decides in ("", "a") for entered in ("", "b")}
    assert len(names) == 8 and "sha256:1" in names
