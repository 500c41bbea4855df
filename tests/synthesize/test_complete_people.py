"""Whoever loses a contrast is left out whole, and nobody else is."""

from pathlib import Path

import numpy as np
import pytest

from stages.synthesize import folder, m4raw
from stages.synthesize.noise import fft2c
from stages.synthesize.scans import Problems, Scan, ScanError
from tests.synthesize.folder_files import write_table
from tests.synthesize.raw_files import (
    coil_images,
    replace,
    rss,
    settings,
    write_m4raw,
)

DAMAGE = ScanError("raw/a_T1w: is damaged")


def scan(subject, contrast, *names):
    names = names or (f"{subject}_{contrast}",)
    paths = tuple(Path("raw") / name for name in names)
    return Scan(f"{subject}_{contrast}_{names[0]}", subject, contrast, None, paths)


A = [scan("a", contrast) for contrast in ("FLAIR", "T1w", "T2w")]
B = [scan("b", contrast) for contrast in ("FLAIR", "T1w")]


def told(problems):
    return {problem.path.name: problem.reason for problem in problems.found}


def test_who_loses_a_contrast_is_left_out_whole():
    problems = Problems("skip")
    problems.add_scan(DAMAGE, A[1])
    assert problems.complete(A + B, [A[0], A[2], *B]) == B
    reason = "left out with a_T1w, the person's only T1w: raw/a_T1w: is damaged"
    assert told(problems) == {
        "a_T1w": "raw/a_T1w: is damaged",
        "a_FLAIR": f"raw/a_FLAIR: {reason}",
        "a_T2w": f"raw/a_T2w: {reason}",
    }


def test_who_has_another_scan_of_it_loses_nothing():
    problems = Problems("skip")
    other = scan("a", "T1w", "a_T1w-02")
    problems.add_scan(DAMAGE, A[1])
    left = [A[0], other, A[2]]
    assert problems.complete([*A, other], left) == left
    assert list(told(problems)) == ["a_T1w"]


def test_who_never_had_a_contrast_loses_none():
    problems = Problems("skip")
    problems.add(DAMAGE, Path("raw/x"))
    assert problems.complete(A + B, A + B) == A + B
    problems.add_scan(DAMAGE, scan("c", "T2w"))
    assert problems.complete(A + B, A + B) == A + B


def test_a_contrast_that_is_not_asked_for_is_not_missed():
    for on_error in ("skip", "stop"):
        problems = Problems(on_error, ["FLAIR", "T2w"])
        problems.add_scan(DAMAGE, A[1])
        assert problems.complete(A, [A[0], A[2]]) == [A[0], A[2]]
        assert problems.found == []


def test_files_that_are_left_out_with_another_are_listed_once():
    """A label that others use is not left out; what is read again is told once."""
    first, second = (scan("a", "T1w", f"{n}_T1w", f"{n}_seg") for n in (1, 2))
    third = scan("a", "T2w", "1_T2w", "1_seg")
    problems = Problems("skip")
    damaged = ScanError("raw/1_T1w: is damaged", path=Path("raw/1_T1w"))
    for _ in range(2):
        problems.add_scan(damaged, first)
    assert problems.complete([first, second, third], [second, third]) == [second, third]
    assert [problem.path.name for problem in problems.found] == ["1_T1w"]
    problems = Problems("skip")
    problems.add_scan(ScanError("raw/1_seg: bad", path=Path("raw/1_seg")), first)
    assert problems.complete([first, second], [second]) == [second]
    assert told(problems)["1_T1w"] == "raw/1_T1w: left out with 1_seg: raw/1_seg: bad"


def repetitions(tmp_path, reader):
    """Three of one scan, for either reader: their files and what they hold."""
    if reader is m4raw:
        paths = [tmp_path / "multicoil_train" / f"1_T10{n}.h5" for n in (1, 2, 3)]
        sizes = {"slices": 2, "size": 32}
        return paths, [write_m4raw(p, seed=n, **sizes) for n, p in enumerate(paths)]
    row = {"kind": "kspace", "subject": "1", "contrast": "T1w", "centred": "yes",
           "axes": "slice coil row column"}  # fmt: skip
    paths = [tmp_path / f"{n}.npy" for n in (1, 2, 3)]
    rows = [row | {"file": p.name, "repetition": p.stem} for p in paths]
    write_table(tmp_path, *rows)
    stored = []
    for seed, path in enumerate(paths):
        images = coil_images((2, 3, 32, 24), seed=seed, share=0.7)
        stored.append(fft2c(images).astype(np.complex64))
        np.save(path, stored[-1])
    return paths, stored


def read_mean(tmp_path, reader):
    given, problems = settings(repetitions="average", on_error="skip"), Problems("skip")
    (one,) = reader.find(tmp_path, given, problems)
    return reader.read(one, given, problems), problems.found


@pytest.mark.parametrize("reader", [m4raw, folder])
@pytest.mark.parametrize("damaged", [0, 1])
def test_the_mean_is_of_the_repetitions_that_are_sound(tmp_path, reader, damaged):
    paths, stored = repetitions(tmp_path, reader)
    paths[damaged].write_bytes(b"nothing")
    found, problems = read_mean(tmp_path, reader)
    sound = [kspace for n, kspace in enumerate(stored) if n != damaged]
    np.testing.assert_allclose(found.kspace, np.mean(sound, axis=0), atol=1e-5)
    assert found.target is None
    (problem,) = problems
    assert (problem.path, problem.contrast) == (paths[damaged], "T1w")
    for path in paths:
        path.write_bytes(b"nothing")
    with pytest.raises(ScanError, match=r"none of 3 repetitions is sound: "):
        read_mean(tmp_path, reader)


@pytest.mark.parametrize("reader", [m4raw, folder])
def test_repetitions_that_disagree_make_no_scan(tmp_path, reader):
    """Which of them is right, nobody knows."""
    paths, stored = repetitions(tmp_path, reader)
    if reader is m4raw:
        replace(paths[1], "kspace", stored[1][:1])
        replace(paths[1], "reconstruction_rss", rss(stored[1])[:1])
    else:
        np.save(paths[1], stored[1][:1])
    with pytest.raises(ScanError, match="must have one shape") as caught:
        read_mean(tmp_path, reader)
    assert caught.value.path == paths[1]
