"""bfloat16 is refused where a processor would take hours for it, before any work."""

import pytest

from stages.check import parallel, processor

AVX2 = "processor : 0\nflags\t\t: fpu sse avx avx2 fma\nbogomips : 1\n"
AMX = AVX2.replace("fma", "fma avx512bw avx512_bf16 amx_bf16")
ARM = "processor : 0\nFeatures : fp asimd\n"
BF16 = {"model": {"precision": "bf16"}}


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine without a GPU that has a given /proc/cpuinfo; None for no Linux."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("MENDMRI_DEVICE", raising=False)

    def has(cpuinfo):
        path = tmp_path / "cpuinfo"
        monkeypatch.setattr(processor, "CPUINFO", path)
        if cpuinfo is not None:
            path.write_text(cpuinfo)

    return has


def test_avx2_alone_is_refused_bf16_and_told_what_to_do(machine):
    machine(AVX2)
    (line,) = processor.problems(BF16)
    assert "'model.precision' = 'bf16'" in line
    assert "Set it to fp32 in params.yaml" in line
    assert not processor.problems({"model": {"precision": "fp32"}})
    assert not processor.problems({})


@pytest.mark.parametrize("cpuinfo", [AMX, ARM, None])
def test_other_processors_are_not(machine, cpuinfo):
    machine(cpuinfo)
    assert not processor.problems(BF16)


@pytest.mark.parametrize(
    ("name", "value"), [("CUDA_VISIBLE_DEVICES", "0"), ("MENDMRI_DEVICE", "mps")]
)
def test_nor_is_a_machine_that_computes_elsewhere(machine, monkeypatch, name, value):
    machine(AVX2)
    monkeypatch.setenv(name, value)
    assert not processor.problems(BF16)


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_the_runner_ends_before_it_starts_anything(
    machine, monkeypatch, tmp_path, caplog, jobs
):
    """There is no pipeline here: whatever it did first would fail otherwise."""
    machine(AVX2)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("model: {precision: bf16}\n")
    with pytest.raises(SystemExit) as ended:
        parallel.main(["--jobs", jobs])
    assert ended.value.code == 2
    assert "'model.precision' = 'bf16'" in caplog.text
