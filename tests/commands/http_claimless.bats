# The commands over HTTP: the tests of other files again, against a server that knows no claims.

bats_require_minimum_version 1.5.0

setup() { load ../helpers; fresh; }

@test "pull, run and report over HTTP, a server that knows no claims" {
  again clearml '!store,!local' pull.bats run.bats report.bats
}
