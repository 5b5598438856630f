"""Train a small neural network on scikit-learn's handwritten digits, and draw its learning curve.

The data ships inside scikit-learn, so nothing is downloaded.
"""

import argparse
import csv
import os
import pickle
import sys

import numpy
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

HIDDEN = 16


def options():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20, help="how often to go through the data")
    parser.add_argument("--learning-rate", type=float, default=0.002)
    parser.add_argument("--batch", type=int, default=32, help="images a step")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", default="output", help="directory for the model and the curve")
    return parser.parse_args()


def progress(epoch, epochs, accuracy):
    """A bar that is written over; only its last state stays in the log."""
    done = 30 * epoch // epochs
    print(f"\repoch {epoch:3}/{epochs} [{'#' * done}{'.' * (30 - done)}] accuracy {accuracy:.3f}", end="")
    sys.stdout.flush()


def train(args, images, labels):
    """The model and its accuracy on unseen images after each epoch."""
    seen, unseen, seen_labels, unseen_labels = train_test_split(images, labels, test_size=0.25, random_state=args.seed)
    model = MLPClassifier((HIDDEN,), learning_rate_init=args.learning_rate, random_state=args.seed)
    shuffle = numpy.random.default_rng(args.seed)
    curve = []
    for epoch in range(1, args.epochs + 1):
        order = shuffle.permutation(len(seen))
        for start in range(0, len(order), args.batch):
            batch = order[start:start + args.batch]
            model.partial_fit(seen[batch], seen_labels[batch], classes=range(10))
        curve.append(model.score(unseen, unseen_labels))
        progress(epoch, args.epochs, curve[-1])
    print()
    return model, curve


def as_text(curve, height=10):
    """The curve drawn with characters, the best accuracy on top."""
    low, high = min(curve), max(curve)
    span = (high - low) or 1.0
    rows = [round((value - low) / span * (height - 1)) for value in curve]
    lines = []
    for row in range(height - 1, -1, -1):
        label = f"{low + span * row / (height - 1):.3f}"
        lines.append(f"{label} |" + "".join(" o" if value == row else "  " for value in rows).rstrip())
    return "\n".join([*lines, "      +" + "--" * len(curve), f"       epoch 1 to {len(curve)}"])


def as_svg(curve, width=480, height=240, margin=36):
    """The curve as a picture."""
    low, high = min(curve), max(curve)
    span, steps = (high - low) or 1.0, max(1, len(curve) - 1)
    points = " ".join(f"{margin + index * (width - 2 * margin) / steps:.1f},"
                      f"{height - margin - (value - low) / span * (height - 2 * margin):.1f}"
                      for index, value in enumerate(curve))
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-size="11">
<rect width="100%" height="100%" fill="white"/>
<polyline points="{points}" fill="none" stroke="#2266bb" stroke-width="2"/>
<text x="{margin}" y="{margin - 12}">accuracy on unseen digits, {low:.3f} to {high:.3f}</text>
<text x="{margin}" y="{height - 12}">epoch 1 to {len(curve)}</text>
</svg>
"""


def save(directory, model, curve):
    """The model, and the curve as numbers and as a picture."""
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, "model.pickle"), "wb") as file:
        pickle.dump(model, file)
    with open(os.path.join(directory, "curve.csv"), "w", newline="") as file:
        csv.writer(file).writerows([("epoch", "accuracy"), *enumerate(curve, 1)])
    with open(os.path.join(directory, "curve.svg"), "w") as file:
        file.write(as_svg(curve))
    print(f"saved model.pickle, curve.csv and curve.svg in {os.path.abspath(directory)}")


def main():
    """Everything."""
    args = options()
    images, labels = load_digits(return_X_y=True)
    print(f"{len(images)} digits of 8 x 8 pixels, {HIDDEN} hidden units, {args.epochs} epochs")
    model, curve = train(args, images / 16.0, labels)
    print(as_text(curve))
    print(f"best accuracy {max(curve):.3f}, last {curve[-1]:.3f}")
    save(args.output, model, curve)


if __name__ == "__main__":
    main()
