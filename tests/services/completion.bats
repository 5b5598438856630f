# What zsh and fish offer at the cursor, in the shells themselves (bash's is in tests/commands/completion.bats).

bats_require_minimum_version 1.5.0

setup() { load ../helpers; fresh; id=$(enqueue_shell 'true'); call queues.create '{"name": "two words"}' >/dev/null; }

in_fish() { fish --no-config -c "source $ROOT/lib/agentpipe/completions/fish/agent-task.fish; complete -C '$1'" | cut -f1; }

@test "fish: verbs, options, values and names" {
  [ "$(in_fish 'agent-task mo')" = move ]
  [ "$(in_fish 'agent-task list --stat')" = --status ]
  [ "$(in_fish 'agent-task list --status setup')" = setup_failed ]
  [ "$(in_fish 'agent-task move --queue tw')" = "two words" ]
  [ "$(in_fish "agent-task why ${id:0:5}")" = "$id" ]
  [ "$(in_fish 'agent-run --on-drain re')" = requeue ]
}

@test "zsh: verbs, options, values and names" {
  cat >drive.py <<'PY'
import os, pty, re, select, sys, time

pid, fd = pty.fork()
if not pid:
    os.environ.update(TERM="xterm", PS1="> ")
    os.execvp("zsh", ["zsh", "-f"])

def until(mark, seconds=20):
    """What is shown until `mark` is there."""
    out, end = b"", time.monotonic() + seconds
    while mark not in out and time.monotonic() < end:
        if select.select([fd], [], [], 0.2)[0]:
            out = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", out + os.read(fd, 65536))
    assert mark in out, (mark, out)

folder = os.path.join(sys.argv[1], "lib/agentpipe/completions/zsh")
os.write(fd, f"fpath=({folder} $fpath); autoload -Uz compinit; compinit -u -D; print -r ready''y\n".encode())
until(b"readyy")
for line, wanted in zip(sys.argv[2::2], sys.argv[3::2]):
    os.write(fd, line.encode() + b"\t")
    until(wanted.encode())
    os.write(fd, b"\x15")  # the line is taken away
os.write(fd, b"exit\n")
os.waitpid(pid, 0)
PY
  python3 drive.py "$ROOT" 'agent-task mo' 'move ' 'agent-task list --stat' '--status ' \
    'agent-task list --status setup' 'setup_failed ' 'agent-task move --queue tw' 'two\ words ' \
    "agent-task why ${id:0:5}" "$id" 'agent-run --on-drain re' 'requeue '
}
