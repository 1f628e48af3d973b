"""``python -m cxent compare``: its lines, its JSON, bad files and interrupts."""

import json
import signal
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

from cxent import __main__ as command
from cxent import compare_logits

pytestmark = pytest.mark.once

# As tools/perplexity/perplexity.cpp of llama.cpp prints them, in this order.
LINES = """\
====== Perplexity statistics ======
Mean PPL(Q)                   : %10.6lf ± %10.6lf
Mean PPL(base)                : %10.6lf ± %10.6lf
Cor(ln(PPL(Q)), ln(PPL(base))): %6.2lf%%
Mean ln(PPL(Q)/PPL(base))     : %10.6lf ± %10.6lf
Mean PPL(Q)/PPL(base)         : %10.6lf ± %10.6lf
Mean PPL(Q)-PPL(base)         : %10.6lf ± %10.6lf

====== KL divergence statistics ======
Mean    KLD: %10.6lf ± %10.6lf
Maximum KLD: %10.6f
99.9%%   KLD: %10.6f
99.0%%   KLD: %10.6f
95.0%%   KLD: %10.6f
90.0%%   KLD: %10.6f
Median  KLD: %10.6f
10.0%%   KLD: %10.6f
 5.0%%   KLD: %10.6f
 1.0%%   KLD: %10.6f
 0.1%%   KLD: %10.6f
Minimum KLD: %10.6f

====== Token probability statistics ======
Mean    Δp: %6.3lf ± %5.3lf %%
Maximum Δp: %6.3lf%%
99.9%%   Δp: %6.3lf%%
99.0%%   Δp: %6.3lf%%
95.0%%   Δp: %6.3lf%%
90.0%%   Δp: %6.3lf%%
75.0%%   Δp: %6.3lf%%
Median  Δp: %6.3lf%%
25.0%%   Δp: %6.3lf%%
10.0%%   Δp: %6.3lf%%
 5.0%%   Δp: %6.3lf%%
 1.0%%   Δp: %6.3lf%%
 0.1%%   Δp: %6.3lf%%
Minimum Δp: %6.3lf%%
RMS Δp    : %6.3lf ± %5.3lf %%
Same top p: %6.3lf ± %5.3lf %%
"""


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Logits of two models, and ids, in the working directory."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x = 3 * rng.standard_normal((300, 70), np.float32)
    y = x + np.float32(0.2) * rng.standard_normal((300, 70), np.float32)
    ids = rng.integers(0, 70, 300)
    np.save("base.npy", x)
    np.save("other.npy", y)
    np.save("ids.npy", ids)
    return x, y, ids


def printed_by(capsys, *arguments):
    assert command.main(["compare", *arguments]) == 0
    return capsys.readouterr().out


def failure(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        command.main(["compare", *arguments])
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err


FRACTIONS = [1, 0.999, 0.99, 0.95, 0.9, 0.5, 0.1, 0.05, 0.01, 0.001, 0]


def test_the_lines_of_llama_cpp(files, capsys):
    found = compare_logits(*files, quantiles=FRACTIONS)
    changes = compare_logits(*files, quantiles=[*FRACTIONS[:5], 0.75, 0.5, 0.25, *FRACTIONS[6:]]).prob_change_quantiles
    numbers = [
        *found.other_perplexity,
        *found.reference_perplexity,
        100 * found.correlation,
        *found.log_ratio,
        *found.perplexity_ratio,
        *found.perplexity_difference,
        *found.kl_mean,
        *found.kl_quantiles,
        *(100 * np.array([*found.prob_change_mean, *changes, *found.prob_change_rms, *found.same_top_mean])),
    ]
    printed = printed_by(capsys, "base.npy", "other.npy", "--ids", "ids.npy")
    assert printed == LINES.replace("lf", "f") % tuple(numbers)


def test_without_ids(files, capsys):
    printed = printed_by(capsys, "base.npy", "other.npy")
    labels = [line.split(":")[0] for line in printed.splitlines()]
    expected = [line.replace("%%", "%").split(":")[0] for line in LINES.splitlines()]
    assert labels == [label for label in expected[8:] if "Δp" not in label]


@pytest.mark.parametrize("arguments", [["compare", "--json"], ["--json", "compare"]], ids=" ".join)
def test_json(files, capsys, arguments):
    x, y, ids = files
    ids[:9] = -100
    np.save("ids.npy", ids)
    options = "base.npy other.npy --ids ids.npy --ignore-index -100 --temperature 2 --workers 2 --chunk-bytes 9000"
    assert command.main([*arguments, *options.split()]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = compare_logits(x, y, ids, temperature=2, ignore_index=-100, quantiles=found["quantiles"])
    assert found["tokens"] == expected.tokens == 291
    assert found["kl_quantiles"] == expected.kl_quantiles.tolist()
    assert found["log_ratio"] == expected.log_ratio._asdict()
    assert found["correlation"] == expected.correlation
    assert "kl" not in found and found.keys() - {"quantiles"} < {*expected._fields}


def test_json_of_what_is_infinite(files, capsys):
    _, y, _ = files
    y[0, 5] = -np.inf
    np.save("other.npy", y)
    found = json.loads(printed_by(capsys, "base.npy", "other.npy", "--json"))
    assert found["kl_mean"] == {"value": None, "error": None}
    assert found["kl_quantiles"][0] is None and found["kl_quantiles"][-1] > 0
    assert found["correlation"] is None


@pytest.mark.parametrize("stored", [np.uint16, np.int16, "V2"], ids=str)
def test_bfloat16(files, capsys, stored):
    """As numpy.save writes it (V2), and its bits."""
    x, y, ids = files
    halves = [a.astype(ml_dtypes.bfloat16) for a in (x, y)]
    for name, a in zip(("base.npy", "other.npy"), halves, strict=True):
        np.save(name, a.view(stored))
    printed = printed_by(capsys, "base.npy", "other.npy", "--ids", "ids.npy", "--dtype", "bfloat16", "--json")
    expected = compare_logits(*halves, ids)
    assert json.loads(printed)["kl_mean"]["value"] == expected.kl_mean.value
    assert "are these the bits of --dtype bfloat16?" in failure(capsys, "base.npy", "other.npy")


def test_bfloat16_without_ml_dtypes(files, capsys, monkeypatch):
    np.save("base.npy", np.zeros((2, 3), np.uint16))
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    message = failure(capsys, "base.npy", "base.npy", "--dtype", "bfloat16")
    assert "--dtype bfloat16 needs ml_dtypes" in message


def write(name, contents):
    with open(name, "wb") as file:
        file.write(contents)


BAD_FILES = {
    "ends within the numbers": lambda whole: whole[:-1],
    "ends within the header": lambda whole: whole[:50],
    "is empty": lambda whole: b"",
    "is text": lambda whole: b"1.0 2.0 3.0\n" * 9,
    "is an archive": lambda whole: b"PK\x03\x04" + whole,
}


@pytest.mark.parametrize("change", BAD_FILES.values(), ids=BAD_FILES)
def test_files_that_are_no_arrays(files, capsys, change):
    with open("base.npy", "rb") as file:
        write("bad.npy", change(file.read()))
    for arguments in (["bad.npy", "other.npy"], ["base.npy", "bad.npy"], ["base.npy", "other.npy", "--ids", "bad.npy"]):
        assert "cannot read bad.npy: it is no .npy file, or ends too soon" in failure(capsys, *arguments)


def test_other_bad_input(files, capsys):
    assert "cannot read none.npy: No such file" in failure(capsys, "none.npy", "other.npy")
    np.save("objects.npy", np.array([None, {}]), allow_pickle=True)
    assert "cannot read objects.npy" in failure(capsys, "objects.npy", "other.npy")
    np.save("short.npy", files[0][:-1])
    assert "other must have the shape of reference" in failure(capsys, "base.npy", "short.npy")
    found = failure(capsys, "base.npy", "other.npy", "--dtype", "bfloat16")
    assert "with --dtype bfloat16, base.npy must have dtype uint16, got float32" in found
    np.save("integers.npy", files[2])
    assert "integers.npy must have dtype float16, float32 or float64, got int64" in failure(
        capsys, "integers.npy", "other.npy"
    )
    np.save("ids.npy", files[2] + 1)
    assert "must be a class index from 0 to 69" in failure(capsys, "base.npy", "other.npy", "--ids", "ids.npy")
    assert "chunk_bytes must be" in failure(capsys, "base.npy", "other.npy", "--chunk-bytes", "0")
    assert "temperature must be" in failure(capsys, "base.npy", "other.npy", "--temperature", "-1")
    assert "invalid choice" in failure(capsys, "base.npy", "other.npy", "--dtype", "int4")
    assert "required: base.npy" in failure(capsys)


def test_a_bar_on_a_terminal_alone(files, capsys, monkeypatch):
    pytest.importorskip("tqdm")
    printed_by(capsys, "base.npy", "other.npy")
    assert command.main(["compare", "base.npy", "other.npy"]) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert command.main(["compare", "base.npy", "other.npy"]) == 0
    assert "300/300" in capsys.readouterr().err


def test_a_process(files):
    """As it is called: results on one stream, messages on the other."""
    call = [sys.executable, "-W", "error", "-m", "cxent", "compare", "base.npy"]
    done = subprocess.run([*call, "other.npy", "--json"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tokens"] == 300 and done.stderr == ""
    done = subprocess.run([*call, "none.npy"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stdout == "" and "cannot read none.npy" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signal for one process that it can catch so")
def test_ctrl_c(tmp_path):
    large = np.lib.format.open_memmap(tmp_path / "large.npy", "w+", np.float32, (20_000, 100_000))  # (takes no room)
    del large
    program = """if True:
        import signal
        import sys
        from cxent import __main__, _command
        signal.signal(signal.SIGINT, signal.default_int_handler)  # (a shell's background ignores it)
        compare = _command.compare_logits
        def compare_logits(*arguments, **options):
            report = lambda done, total: done < 500 and print("started", file=sys.stderr, flush=True)
            return compare(*arguments, **{**options, "progress": report})
        _command.compare_logits = compare_logits
        sys.exit(__main__.main(["compare", "large.npy", "large.npy", "--json"]))
    """
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr.readline() == "started\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert out == "" and err.endswith("interrupted\n") and "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["large.npy"]
