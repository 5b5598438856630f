# The README's day, block by block: each command is run as it stands there, and prints what stands below it.

bats_require_minimum_version 1.5.0

setup() { load ../helpers; fresh; }

@test "the blocks of the README do what they say" {
  make_repo digits requirements.txt 'six==1.99.0' train.py 'import argparse
import six
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=3)
for epoch in range(parser.parse_args().epochs):
    print(f"epoch {epoch + 1}: loss {1 / (epoch + 1):.2f}")'
  git clone -q --bare digits origin.git
  git -C digits remote add origin "$PWD/origin.git"
  git -C digits fetch -q
  cd digits
  run -0 python3 "$ROOT/tests/e2e/readme_blocks.py" "$ROOT/README.md"
  [[ $output == "14 commands" ]]
}
