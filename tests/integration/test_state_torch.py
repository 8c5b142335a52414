"""PyTorch: tensors, modules and optimizers arrive sharing what they shared, and training goes on where it stopped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.state import Notebook, carry, moved, packed

pytestmark = [
    pytest.mark.needs("torch"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*"),
    pytest.mark.timeout(300),
]

MODEL = """
    import torch
    from torch import nn
    torch.manual_seed(0)
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm, self.last = nn.Linear(200, 300), nn.BatchNorm1d(300), nn.Linear(300, 200)
            self.tied = self.first.weight
            self.register_buffer("seen", torch.zeros(1))
        def forward(self, x):
            self.seen += len(x)
            return self.last(self.norm(self.first(x)).relu())
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    def step():
        optimizer.zero_grad()
        loss = net(torch.randn(8, 200)).square().mean()
        loss.backward()
        optimizer.step(); schedule.step()
        return loss.item()
    losses = [step() for _ in range(3)]
    weight = net.first.weight
"""


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums alike to the last bit: shared among threads, whose number may change, they round otherwise."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_training_goes_on_where_it_stopped() -> None:
    notebook = Notebook().cell(MODEL)
    there = carry(notebook)
    assert (there.lost, there.failed) == ({}, {})
    import torch

    assert there["net"].first.weight is there["weight"] is there["net"].tied
    assert any(p is there["weight"] for group in there["optimizer"].param_groups for p in group["params"])
    assert there["schedule"].optimizer is there["optimizer"]
    assert torch.equal(there["weight"].grad, notebook["weight"].grad)
    back = carry(there.notebook)
    # One random state for the process: drawn from in turns, it must be set alike before each.
    expected, got = [], []
    for way, results in ((notebook, expected), (back.notebook, got)):
        torch.manual_seed(5)
        results += [way["step"]() for _ in range(3)]
    assert got == expected


@pytest.mark.parametrize("size", [10, 100_000])
def test_tensors_arrays_and_views_share_memory(size: int) -> None:
    notebook = Notebook().cell(f"""
        import torch, numpy as np
        tensor = torch.arange({size}.0)
        view, turned, array = tensor[2:8], tensor.view(2, -1).T, tensor.numpy()
        base = np.zeros({size})
        over, part = torch.from_numpy(base), torch.from_numpy(base[4:9])
        storage = tensor.untyped_storage()
    """)
    there = carry(notebook)
    for arrived in (there, carry(there.notebook)):
        arrived["tensor"][5] = -1
        assert arrived["view"][3] == -1
        assert arrived["turned"].T.reshape(-1)[5] == -1
        assert arrived["array"][5] == -1
        assert arrived["storage"].data_ptr() == arrived["tensor"].data_ptr()
        arrived["base"][5] = 7
        assert (arrived["over"][5], arrived["part"][1]) == (7, 7)


def test_large_tensors_travel_once_and_out_of_band() -> None:
    notebook = Notebook().cell("""
        import torch
        tensor = torch.zeros(1_000_000, dtype=torch.uint8)
        views = [tensor[i:] for i in range(10)]
        array = tensor.numpy()
    """)
    outgoing, manifest = packed(notebook)
    assert outgoing.size < 1_100_000
    assert 1_000_000 <= manifest["total_bytes"] < 1_100_000
    assert max(piece.nbytes for piece in outgoing.pieces) == 1_000_000
    assert manifest["cuda_used"] is False
    assert {"name": "torch", "version": notebook["torch"].__version__} in manifest["modules"]


def test_kinds_of_tensors_and_what_is_about_them() -> None:
    arrived = moved("""
        import torch
        half, brain, empty = torch.ones(3, dtype=torch.float16), torch.ones(5, dtype=torch.bfloat16), torch.empty(0)
        sparse, complex_ = torch.eye(3).to_sparse(), torch.ones(2, dtype=torch.complex64)
        device, dtype, shape = torch.device("cpu"), torch.float16, torch.Size([2, 3])
        generator = torch.Generator().manual_seed(4)
        parameter = torch.nn.Parameter(torch.ones(3)); parameter.grad = torch.ones(3) * 2
        data = torch.utils.data.TensorDataset(torch.arange(10))
        loader = torch.utils.data.DataLoader(data, batch_size=4)
        torch.set_default_dtype(torch.float64); torch.set_default_dtype(torch.float32)
        kept = torch.ones(40_000)
    """)
    import torch

    assert (arrived["half"].dtype, arrived["brain"].dtype) == (torch.float16, torch.bfloat16)
    assert arrived["sparse"].is_sparse
    assert arrived["generator"].initial_seed() == 4
    assert torch.equal(arrived["parameter"].grad, torch.full((3,), 2.0))
    assert len(list(arrived["loader"])) == 3
    for name in ("brain", "empty", "kept"):
        arrived[name].resize_(50_000)  # torch's own memory, as it was


def test_a_result_keeps_its_value_and_its_graph_is_said_to_stay() -> None:
    arrived = carry(
        Notebook().cell("""
            import torch
            x = torch.ones(3, requires_grad=True)
            loss = (x * 2).sum()
        """)
    )
    assert arrived["loss"].item() == 6
    assert arrived["x"].requires_grad
    assert arrived.manifest["warnings"] == [
        {"name": "loss", "reason": "keeps its value; the graph that computed it, for backward(), stays"}
    ]


def test_compiled_scripts(recwarn: pytest.WarningsRecorder) -> None:
    notebook = Notebook().cell("import torch\nlinear = torch.nn.Linear(3, 2)")
    torch: Any = notebook["torch"]
    notebook.namespace["traced"] = torch.jit.trace(notebook["linear"], torch.ones(1, 3))
    recwarn.clear()
    arrived = carry(notebook)
    assert (arrived.lost, arrived.failed) == ({}, {})
    assert torch.equal(arrived["traced"](torch.ones(1, 3)), notebook["linear"](torch.ones(1, 3)))


@pytest.mark.needs("cuda")
def test_what_was_on_a_device_is_on_it_again() -> None:
    notebook = Notebook().cell("""
        import torch
        tensor = torch.arange(100_000.0, device="cuda")
        view = tensor[5:]
        small = torch.ones(3, device="cuda")
    """)
    arrived = carry(notebook)
    assert arrived.manifest["cuda_used"]
    arrived["tensor"][6] = -1
    assert arrived["view"][1].item() == -1
    assert str(arrived["small"].device) == "cuda:0"


def test_what_was_on_a_device_lands_in_main_memory_where_there_is_none() -> None:
    """The target's half, with a place that this machine does not have."""
    import torch

    from computehub_ext.kernel import tensors
    from computehub_ext.kernel.place import Place, at

    with at(Place({}, {})) as place:
        storage = tensors.make_small_storage(b"\0" * 12, "cuda:7")
    if not torch.cuda.is_available():
        assert str(storage.device) == "cpu"
        assert place.notes == ["What was on cuda:7 is in main memory: there is no such device here."]
