# The commands over HTTP: the tests of other files again, against agent-server.

bats_require_minimum_version 1.5.0

setup() { load ../helpers; fresh; }

@test "pull, run and task over HTTP, agent-server's way" {
  again ours '!store,!local' task.bats
  again ours claims pull.bats run.bats
}
