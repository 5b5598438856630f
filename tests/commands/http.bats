# The commands over HTTP: the same tests again, against a server that knows our claims and one that does not.

bats_require_minimum_version 1.5.0

setup() { load ../helpers; fresh; }

# again TRANSPORT FILE…: those files over that transport; what failed is shown
again() {
  local transport=$1; shift
  AGENT_TESTS_TRANSPORT=$transport bats "${@/#/$ROOT/tests/commands/}" >again.log 2>&1 && return
  grep -A 20 '^not ok' again.log
  return 1
}

@test "pull, run and task over HTTP, agent-server's way" {
  again ours pull.bats run.bats task.bats
}

@test "pull, run and report over HTTP, a server that knows no claims" {
  again clearml pull.bats run.bats report.bats
}

@test "the supervisor over HTTP" {
  again ours supervisor.bats
  again clearml supervisor.bats
}

