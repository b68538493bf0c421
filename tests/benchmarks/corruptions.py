"""Distances and ELBO falls of corrupted and of honest data, for the drift page.

`make corruptions` scores the model that is served below a root. If there is none, it
makes a run first. All data are made from the data set of that run: its train split,
without the images that the run held out, and its test split.
"""

import argparse
import pathlib
import sys
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_data_validation as tfdv
import tensorflow_datasets as tfds

from components.datasets import prepare
from components.evaluation import drift, measure
from components.evaluation.elbo_fall import ElboFall, compute_mean
from components.registry import listing
from model import fixed_noise
from model.config import IMAGE_SHAPE
from pipeline.cli import main as command_line
from pipeline.config.loading import resolve
from tests.support import corruptions, transformed
from tests.support.corruptions import Pair

SIZES = (500, 2_000, 10_000)  # images of an honest resample's splits
RESAMPLES = 100  # of each size
_OTHER_TRAIN = (
    1_297  # of the 1,797 images of the other data set; 500 are its test split
)
_BATCH = 1_000  # images whose statistics are computed at a time
_FOLDER = str(pathlib.Path("~/vae-pipeline/corruptions").expanduser())
_SCHEMA = pathlib.Path(command_line.__file__).parents[1] / "schema.pbtxt"

Splits = tuple[Pair, Pair]  # train and test


def read_splits(dataset: str, data_dir: str) -> Splits:
    """Returns the train split without the held-out images, and the test split."""
    name = prepare.prepare(dataset, "auto", data_dir=data_dir).name
    config = resolve("demo").data

    def read(split: str) -> Pair:
        found = tfds.load(name, split=split, data_dir=data_dir, batch_size=-1)
        arrays = tfds.as_numpy(found)
        return arrays["image"].reshape(-1, *IMAGE_SHAPE[:2]), arrays["label"]

    return read(f"train[:-{config.eval_images}]"), read("test")


def compute_statistics(pair: Pair) -> drift.Statistics:
    """Returns the statistics of a split as DataGate computes them."""
    images, labels = pair
    flat = images.reshape(len(images), -1)
    starts = range(0, len(flat), _BATCH)
    return drift.compute_statistics(
        (flat[start:][:_BATCH], labels[start:][:_BATCH]) for start in starts
    )


class Scorer:
    """The served model's signature `elbo_examples`, for images."""

    def __init__(self, version: listing.Version):
        signatures = measure.load_signatures(version.path, "elbo_examples")
        self._elbo_examples = signatures["elbo_examples"]
        self._seed = version.manifest.seed or 0

    def score(self, images: np.ndarray) -> np.ndarray:
        """Returns the ELBO of each image, binarized as by Transform.

        Args:
          images: uint8 [N, 28, 28].

        Returns:
          float64 [N], nats.
        """
        batches = []
        for start in range(0, len(images), measure.BATCH):
            grey = images[start : start + measure.BATCH, ..., np.newaxis] / 255.0
            bits = fixed_noise.binarize(tf.constant(grey, tf.float32), self._seed)
            pairs = zip(grey, bits.numpy())
            examples = tf.constant([transformed.example(*pair) for pair in pairs])
            batches.append(self._elbo_examples(examples=examples)["elbo"].numpy())
        return np.concatenate(batches).astype(np.float64)


def make_corrupted(clean: Splits) -> Iterator[tuple[str, Splits]]:
    """Yields the name and the splits of each corrupted data set."""
    for name, corrupt in {**corruptions.MUST_STOP, **corruptions.REPORTED}.items():
        if name == "blurred":
            images, labels = corruptions.load_other_digits()
            train, test = slice(_OTHER_TRAIN), slice(_OTHER_TRAIN, None)
            yield (
                "another data set",
                ((images[train], labels[train]), (images[test], labels[test])),
            )
        train_pair, test_pair = (corrupt(*split) for split in clean)
        yield name, (train_pair, test_pair)


def resample(clean: Splits, size: int, number: int) -> tuple[Splits, np.ndarray]:
    """Returns splits whose images are drawn with replacement from the clean splits.

    Args:
      clean: the clean splits.
      size: the number of images to draw from each split.
      number: the number of this resample, a part of the seed.

    Returns:
      The splits, and the positions of the test split's images in the clean one.
    """
    rng = np.random.default_rng([size, number])
    train, test = (rng.integers(len(labels), size=size) for _, labels in clean)
    (images, labels), (test_images, test_labels) = clean
    return (
        (images[train], labels[train]),
        (test_images[test], test_labels[test]),
    ), test


class Measured(NamedTuple):
    """The distances of a data set, and the fall of the served model's ELBO."""

    distances: list[drift.Distance]
    fall: float  # in standard errors

    def find(self, kind: str) -> dict[str, drift.Distance]:
        """Returns the distances of a kind by their titles in the tables."""
        return {
            f"{each.feature}, {each.measure}": each
            for each in self.distances
            if each.kind == kind
        }


class Bench:
    """The clean data, the served model's scores of them, and the reviewed schema."""

    def __init__(self, clean: Splits, version: listing.Version):
        self.clean = clean
        self.scorer = Scorer(version)
        self.clean_elbo = self.scorer.score(clean[1][0])
        self._mean = compute_mean(self.clean_elbo)
        self._before = compute_statistics(clean[0])
        self._schema = tfdv.load_schema_text(str(_SCHEMA))

    def measure(self, splits: Splits, elbo: np.ndarray) -> Measured:
        """Measures splits as DataGate does.

        Args:
          splits: the train and the test split.
          elbo: the ELBO of each image of the test split, float64 [N].
        """
        train, test = (compute_statistics(split) for split in splits)
        distances = drift.measure_distances(
            self._schema, train, test=test, baseline=self._before
        )
        fall = ElboFall(before=self._mean, now=compute_mean(elbo))
        return Measured(distances, fall.standard_errors)

    def measure_drift(self, train: Pair) -> list[drift.Distance]:
        """Returns the drift of a train split."""
        statistics = compute_statistics(train)
        return drift.measure_distances(
            self._schema, statistics, test=None, baseline=self._before
        )


def print_row(*cells: str) -> None:
    """Prints a row of a table in Markdown."""
    print(f"| {' | '.join(cells)} |", flush=True)


def print_head(first: str, found: Measured) -> None:
    """Prints the head of a table, with a column for each distance and for the ELBO."""
    titles = [first, *found.find(drift.DRIFT), "ELBO fall"]
    print_row(*titles)
    print_row(*("---" for _ in titles))


def print_corrupted(bench: Bench) -> None:
    """Measures and prints the drift and the ELBO fall of corrupted data sets.

    Distances above their thresholds are bold.
    """
    clean = bench.measure(bench.clean, bench.clean_elbo)
    print_head("Corruption", clean)
    for name, splits in make_corrupted(bench.clean):
        found = bench.measure(splits, bench.scorer.score(splits[1][0]))
        cells = (
            f"**{each.distance:.5f}**" if each.is_too_far else f"{each.distance:.5f}"
            for each in found.find(drift.DRIFT).values()
        )
        print_row(name, *cells, f"{found.fall:.1f}")


def print_honest(bench: Bench, *, count: int) -> None:
    """Measures and prints the largest distances and ELBO falls of honest resamples.

    Args:
      bench: the clean data.
      count: the number of resamples of each size.
    """
    print_head("Images", bench.measure(bench.clean, bench.clean_elbo))
    stopped = 0
    for size in SIZES:
        found = []
        for number in range(count):
            splits, positions = resample(bench.clean, size, number)
            found.append(bench.measure(splits, bench.clean_elbo[positions]))
        stopped += sum(any(d.is_too_far for d in each.distances) for each in found)
        fall = f"{max(each.fall for each in found):.1f}"
        for kind in (drift.DRIFT, drift.SKEW):
            columns = zip(*(each.find(kind).values() for each in found))
            largest = [
                max(column, key=lambda each: each.distance) for column in columns
            ]
            print_row(
                f"{size:,}, {kind}", *(f"{each.distance:.5f}" for each in largest), fall
            )
            ratios = (each.threshold / each.distance for each in largest)
            print_row("threshold / largest", *(f"{ratio:.1f}" for ratio in ratios), "")
    print(f"{stopped} of {count * len(SIZES)} honest resamples stop by a distance")


def print_power(bench: Bench, *, count: int) -> None:
    """Measures and prints how many small corrupted train splits stop by a distance.

    Args:
      bench: the clean data.
      count: the number of resamples to corrupt in each way.
    """
    size = SIZES[0]
    for name, corrupt in corruptions.MUST_STOP.items():
        stopped = 0
        for number in range(count):
            ((images, labels), _), _ = resample(bench.clean, size, number)
            distances = bench.measure_drift(corrupt(images, labels))
            stopped += any(each.is_too_far for each in distances)
        print(
            f"{name}: {stopped} of {count} resamples of {size} images stop", flush=True
        )


def main() -> None:
    """Measures both tables and prints them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default=_FOLDER, help="root of the run")
    parser.add_argument("--data-dir", default=f"{_FOLDER}/data", help="data sets")
    parser.add_argument("--preset", default="demo", help="preset of the run")
    parser.add_argument("--dataset", default="mnist", help="name of the data set")
    parser.add_argument("--resamples", type=int, default=RESAMPLES, help="of each size")
    args = parser.parse_args()
    destination = str(pathlib.Path(args.root, "serving", "vae"))
    version = listing.find_served_version(destination)
    if version is None:
        folders = ["--root", args.root, "--data-dir", args.data_dir]
        code = command_line.main(
            ["run", "--preset", args.preset, "--dataset", args.dataset, *folders]
        )
        version = listing.find_served_version(destination)
        if code or version is None:
            sys.exit(f"the run ended with exit code {code}: see its lines above")
    bench = Bench(read_splits(args.dataset, args.data_dir), version)
    train, test = (len(labels) for _, labels in bench.clean)
    print(
        f"{train:,} train and {test:,} test images; version {version.number}: ELBO "
        f"{bench.clean_elbo.mean():.2f}, in its manifest {version.manifest.elbo:.2f}"
    )
    print_corrupted(bench)
    print_honest(bench, count=args.resamples)
    print_power(bench, count=args.resamples)


if __name__ == "__main__":
    main()
