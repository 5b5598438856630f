# The commands over HTTP: the tests of other files again, against both.

bats_require_minimum_version 1.5.0

setup() { load ../helpers; fresh; }

@test "the supervisor over HTTP" {
  again ours '!store,!local' supervisor.bats
  again clearml polls supervisor.bats
}
