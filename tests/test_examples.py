"""The example programs run, in a short form. (That of the README, train_digits.py, runs as a whole in .ci/run.)"""

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"

pytestmark = [
    pytest.mark.once,
    pytest.mark.slow,
    pytest.mark.skipif(not EXAMPLES.exists(), reason="tested away from the source"),
]


@pytest.fixture
def printed_by(tmp_path):
    """A function that runs an example in an empty folder, and returns what it prints."""
    pytest.importorskip("matplotlib")
    pytest.importorskip("tqdm")

    def run(*command):
        program, *arguments = command
        command = [sys.executable, "-W", "error", EXAMPLES / program, *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def numbers(pattern, text):
    return [float(number.replace(",", "")) for number in re.findall(pattern, text)]


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG")


def test_a_language_model_learns(printed_by, tmp_path):
    printed = printed_by("train_language_model.py", "--steps", "10")
    (types,) = numbers(r"of ([\d,]+) types", printed)
    assert types >= 20_000
    perplexities = numbers(r"perplexity ([\d.]+)", printed)
    assert len(perplexities) == 11  # the first is that of word frequencies alone
    assert all(b <= a for a, b in pairwise(perplexities))
    assert perplexities[-1] < 0.8 * perplexities[0]
    assert is_png(tmp_path / "language_model.png")


def test_two_processes_share_a_vocabulary(printed_by, tmp_path):
    printed = printed_by("parallel_vocabulary.py", "--steps", "20")
    losses = numbers(r"loss ([\d.]+)", printed)
    assert len(losses) == 10
    assert losses[-1] < losses[0]
    sizes, differences = (numbers(pattern, printed) for pattern in (r"of up to (\S+)", r"by at most (\S+)"))
    assert len(sizes) == len(differences) == 3
    assert all(difference < 1e-5 * size for size, difference in zip(sizes, differences, strict=True))
    assert is_png(tmp_path / "parallel_vocabulary.png")


def test_boosted_trees_find_a_rare_digit(printed_by, tmp_path):
    pytest.importorskip("lightgbm")
    pytest.importorskip("xgboost")
    printed = printed_by("train_boosted.py", "--rounds", "40")
    losses, recalls = (numbers(pattern, printed) for pattern in (r"loss ([\d.]+)", r"recall ([\d.]+)"))
    assert len(losses) == len(recalls) == 4
    assert max(losses) < 0.2  # that of the frequencies alone
    for plain, focal in (losses[:2], losses[2:]):
        assert plain < focal  # after so few rounds
    assert min(numbers(r"average precision ([\d.]+)", printed)) > 0.7
    assert is_png(tmp_path / "boosted.png")


def test_a_classifier_is_calibrated(printed_by, tmp_path):
    pytest.importorskip("sklearn")
    printed = printed_by("calibrate.py")  # (with fewer steps it is not overconfident)
    assert len(numbers(r"step +\d+: loss ([\d.]+)", printed)) == 10
    (temperature,) = numbers(r"temperature ([\d.]+)", printed)
    assert temperature > 1
    for pattern in (r"(?:before|after) *: loss ([\d.]+)", r"ECE ([\d.]+)", r"Brier score ([\d.]+)"):
        before, after = numbers(pattern, printed)
        assert after < before
    assert is_png(tmp_path / "calibration.png")


def check_scores(printed, largest_rank):
    perplexities = numbers(r"perplexity ([\d.]+)", printed)
    assert len(perplexities) == 4
    assert min(perplexities) > 1
    shares = numbers(r"([\d.]+)%", printed)
    assert len(shares) == 3
    assert all(0 < share <= 100 for share in shares)
    (rank,) = numbers(r"largest rank: ([\d,]+)", printed)
    assert 1 < rank <= largest_rank


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not say how much memory a process had")
def test_a_text_is_scored(printed_by, tmp_path):
    check_scores(printed_by("score_large_vocabulary.py", "--tokens", "120"), 128_256)
    assert is_png(tmp_path / "scores.png")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not say how much memory a process had")
def test_given_logits_are_scored(printed_by, tmp_path):
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((70, 1000), np.float32)
    ids = logits.argmax(axis=1)
    ids[::2] = 7
    np.save(tmp_path / "logits.npy", logits)
    np.save(tmp_path / "ids.npy", ids)
    check_scores(printed_by("score_large_vocabulary.py", "logits.npy", "ids.npy"), 1000)
    assert is_png(tmp_path / "scores.png")


def test_quantized_weights_are_compared(printed_by, tmp_path):
    printed = printed_by("compare_quantized.py", "--steps", "5", "--tokens", "100", "--bits", "4")
    of_float32, of_integers = numbers(r"perplexity ([\d.]+) with", printed)
    assert 1 < of_float32 < 20_000
    (ratio,) = numbers(r"ratio ([\d.]+)", printed)
    assert ratio == pytest.approx(of_integers / of_float32, abs=1e-4)
    ((largest,), (smallest,)) = (
        numbers(pattern, printed) for pattern in (r"largest divergence (\S+),", r"smallest (\S+)")
    )
    assert 0 < smallest < largest
    assert is_png(tmp_path / "quantized.png")
