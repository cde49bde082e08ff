"""Devices are read as a list, a GPU that is certainly not there is refused before torch loads, and memory is shared."""

import os
import subprocess
import sys
import time

import pytest
import torch

from pool.engines import devices
from pool.engines.devices import ReadAhead, SharedPages, known_gpus, one_at_a_time, parse_devices, visible_devices
from pool.engines.resources import device_line
from pool.errors import ConfigError

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="by /proc and memfd")
GPUS = ("GPU-aaaa1111-0", "GPU-bbbb2222-0")


@pytest.fixture
def has(monkeypatch: pytest.MonkeyPatch):
    """Let the machine have these GPUs, all of them to be seen; None if nobody knows."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return lambda gpus: monkeypatch.setattr(devices, "known_gpus", lambda: gpus)


def test_devices_are_read_as_a_list(has) -> None:
    has(GPUS)
    assert parse_devices(None) == () and parse_devices("0, 1") == ("0", "1") and parse_devices("cpu") == ("cpu",)
    assert parse_devices("GPU-bbbb,MIG-x/1/0".replace("/", "-")) == ("GPU-bbbb", "MIG-x-1-0")
    for wrong in ("", "0;1", "-1", "0,,1"):
        with pytest.raises(ConfigError, match="is no list of devices; write 0,1 for two GPUs, or cpu"):
            parse_devices(wrong)


@pytest.mark.parametrize("wanted", ["2", "GPU-c", "0,7"])
def test_a_gpu_that_is_not_there_is_refused(wanted: str, has) -> None:
    has(GPUS)
    with pytest.raises(
        ConfigError, match=f"there is no device '{wanted[-1] if wanted != 'GPU-c' else wanted}'.*0 to 1"
    ):
        parse_devices(wanted)


def test_without_a_gpu_only_cpu_is_a_device(has) -> None:
    has(())
    with pytest.raises(ConfigError, match="has no GPU that PyTorch can use; write cpu for none, or leave --devices"):
        parse_devices("0")
    assert parse_devices("cpu") == ("cpu",)


@pytest.mark.parametrize("gpus", [None, tuple(f"GPU-{number}" for number in range(8))])
def test_numbers_count_the_devices_of_a_mask(gpus: tuple[str, ...] | None, has, monkeypatch) -> None:
    has(gpus)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 5")
    assert parse_devices("0,1") == ("4", "5") and parse_devices("1,cpu") == ("5", "cpu")
    with pytest.raises(
        ConfigError, match="no device '4', as CUDA_VISIBLE_DEVICES shows 4,5, counted from 0; write cpu"
    ):
        parse_devices("4")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-bbbb,-1,3")
    assert parse_devices("0") == ("GPU-bbbb",)
    with pytest.raises(ConfigError, match="shows GPU-bbbb, counted from 0"):
        parse_devices("1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(ConfigError, match="shows none, counted from 0"):
        parse_devices("0")
    assert parse_devices("cpu") == ("cpu",)


def test_where_nobody_knows_torch_decides_later(has) -> None:
    has(None)
    assert parse_devices("3") == ("3",)


def test_gpus_are_found_without_torch() -> None:
    code = "import sys; from pool.engines.devices import known_gpus; print(known_gpus(), 'torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == f"{known_gpus()} False\n"


def test_the_device_is_said_and_why_a_gpu_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def driver(message: str | None) -> None:
        def init() -> None:
            if message is not None:
                raise RuntimeError(message)

        monkeypatch.setattr("torch.cuda.init", init)

    assert device_line("float32") == "computing on the CPU, in float32"
    driver("Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU")
    assert device_line("tf32") == "computing on the CPU, in tf32"
    driver("The NVIDIA driver on your system is too old (found version 11040).\nPlease update your GPU driver")
    assert device_line("float32") == (
        "computing on the CPU, in float32: PyTorch cannot use a GPU here (The NVIDIA driver on your system is too old "
        "(found version 11040).)"
    )


def test_float32_on_a_gpu_is_said_to_be_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, answer in {"is_available": True, "device_count": 2, "get_device_name": "NVIDIA H100"}.items():
        monkeypatch.setattr(f"torch.cuda.{name}", lambda answer=answer: answer)
    assert device_line("bfloat16") == "computing on NVIDIA H100, one of 2 GPUs, in bfloat16"
    assert device_line("float32") == (
        'computing on NVIDIA H100, one of 2 GPUs, in float32; precision = "bfloat16" takes about a fifth of the time '
        "there (estimated), and changes losses"
    )


def test_tests_without_the_mark_see_no_gpu() -> None:
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "", "their expectations are a CPU's; `make gpu` runs the others"


@pytest.mark.gpu
def test_nvml_lists_what_torch_sees() -> None:
    found = known_gpus()
    assert found is not None and len(found) >= torch.cuda.device_count() == len(visible_devices())
    if found:
        assert device_line("bfloat16").startswith(f"computing on {torch.cuda.get_device_name()}")
        assert parse_devices("0") == visible_devices()[:1]


SEE = (
    "import sys; from pool.engines.devices import SharedPages\n"
    "pages = SharedPages(sys.argv[1], 4096); print(pages.is_new, int(pages.bytes_of[7]), flush=True)\n"
    "if len(sys.argv) > 2: pages.bytes_of.fill_(int(sys.argv[2])); pages.complete()\n"
    "print('ready', flush=True); sys.stdin.read()"
)


def _other(*arguments: str) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", SEE, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.said = [process.stdout.readline().split(), process.stdout.readline().split()]
    return process


@LINUX
def test_pages_are_filled_once_and_outlive_the_process_that_filled_them() -> None:
    name = f"test-{os.getpid()}"
    first = _other(name, "42")
    assert first.said == [["True", "0"], ["ready"]]
    ours = SharedPages(name, 4096)
    assert not ours.is_new and SharedPages.exist(name)
    first.kill()
    first.wait()
    second = _other(name)
    assert second.said[0] == ["False", "42"], "they are ours now, and still to be found"
    second.kill()
    second.wait()
    del ours
    assert not SharedPages.exist(name), "nothing is left behind"


@LINUX
def test_pages_half_filled_are_not_found() -> None:
    name = f"half-{os.getpid()}"
    begun = SharedPages(name, 64)
    assert begun.is_new and not SharedPages.exist(name)
    begun.complete()
    assert SharedPages.exist(name)


def test_a_block_has_one_process_at_a_time() -> None:
    code = "from pool.engines.devices import one_at_a_time\nwith one_at_a_time('a test'): print('in', flush=True)"
    with one_at_a_time("a test"):
        other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        time.sleep(1)
        assert other.poll() is None
    assert other.communicate()[0] == "in\n"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_copies_from_shared_pages() -> None:
    pages = SharedPages(f"gpu-{os.getpid()}", 3 * 2**20)
    pages.bytes_of.copy_(torch.arange(3 * 2**20) % 251)
    there = pages.bytes_of.to("cuda", non_blocking=True)
    torch.cuda.synchronize()
    assert torch.equal(there.cpu(), pages.bytes_of)
    assert pages.bytes_of.is_pinned()


class Recorded:
    """Rows in memory; notes what is read and let go."""

    def __init__(self) -> None:
        self.values = torch.arange(40.0).view(4, 10)
        self.said: list[str] = []

    def row(self, number: int, part: slice) -> torch.Tensor:
        self.said.append(f"row {number}")
        return self.values[number, part]

    def done(self, number: int, part: slice) -> None:
        self.said.append(f"done {number}")


def _read(device: str) -> None:
    array = Recorded()
    ahead = ReadAhead(array, torch.device(device))
    parts = [(number, part) for part in (slice(0, 4), slice(4, 10)) for number in range(4)]
    found = []
    for number, part in parts:
        found.append(ahead.row(number, part))
        ahead.done(number, part)
    for (number, part), values in zip(parts, found, strict=True):
        assert torch.equal(values.cpu(), array.values[number, part]), "a buffer is not written while it is read"
    assert array.said[:3] == ["row 0", "done 0", "row 1"] and ahead.whole() is None


def test_a_file_is_read_through_two_buffers() -> None:
    _read("cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_reads_a_file_through_two_buffers() -> None:
    _read("cuda")
