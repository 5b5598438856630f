# agent-status: what a person watches, and what a script reads.

bats_require_minimum_version 1.5.0

setup() { load ../helpers; fresh; }

teardown() { touch "$HOME/go"; }

@test "in a pipe it is one JSON object; --once is text; both see what waits and what runs" {
  # shellcheck disable=SC2016
  id=$(enqueue_shell 'echo "epoch 7"; until [ -e "$HOME/go" ]; do sleep 0.05; done')
  run -0 agent-status
  [ "${#lines[@]}" -eq 1 ]
  [ "$(field '.queues[0].waiting' <<<"$output")" = 1 ]
  run -0 agent-status --once
  [[ $output == *"1 queued, 0 running"*"QUEUES"*"default  1 waiting, the first for "*"nobody serves it"* ]]
  run -73 sh -c 'agent-status --once >/dev/full'
  [ "$output" = "agent-status: cannot write: No space left on device" ]
  { agent-pull default | agent-prepare -q | agent-run -q >receipt.json; } 3>&- & runner=$!
  wait_for 20 sh -c "agent-status | grep -q 'epoch 7'"
  run -0 agent-status --once
  [[ $output == *"RUNNING"*"${id:0:8}"*"epoch 7"* ]]
  touch "$HOME/go"
  wait "$runner"
}

@test "on a terminal it draws again when something happens, and leaves the terminal as it was" {
  cat >drive.py <<'PY'
import os, pty, re, select, subprocess, sys, time

def screen(environment, size, change):
    """What agent-status wrote to a terminal until it had shown `change`, and after q."""
    import fcntl, struct, termios
    pid, fd = pty.fork()
    if not pid:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        os.environ.update(environment, TERM="xterm")
        os.execvp("agent-status", ["agent-status"])
    text, changed, until = b"", False, time.monotonic() + 20
    while time.monotonic() < until:
        if select.select([fd], [], [], 0.1)[0]:
            try:
                text += os.read(fd, 65536)
            except OSError:
                break
        if not changed and b"0 queued" in text:
            changed = True
            subprocess.run(["agent-task", "create", "job.sh"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            subprocess.run(["agent-task", "enqueue", "job.sh"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if change and change in text:
            os.write(fd, b"q")
            change = b""
    os.waitpid(pid, 0)
    return text.decode()

shown = screen({}, (10, 50), b"1 waiting")
assert "1 waiting" in shown, shown
assert shown.startswith("\x1b[?1049h\x1b[?25l") and shown.endswith("\x1b[?25h\x1b[?1049l"), repr(shown[-40:])
assert re.search(r"\x1b\[\d+m", shown)
for frame in shown.split("\x1b[H")[1:]:
    for line in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", frame).split("\r\n"):
        assert len(line) <= 50, ascii(line)
PY
  echo true >job.sh
  python3 drive.py
  sed -i 's/screen({}, (10, 50)/screen({"NO_COLOR": "1"}, (10, 50)/; s/^assert re.search/assert not re.search/' drive.py
  export AGENT_HOME=$BATS_TEST_TMPDIR/second
  python3 drive.py
}

@test "mistakes are one line" {
  run -64 agent-status --interval 0
  [ "${#lines[@]}" -eq 1 ]
  run -64 agent-status --nosuch
  [[ $output == *"(agent-status --help)" ]]
}
