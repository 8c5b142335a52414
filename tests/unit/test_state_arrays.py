"""NumPy and pandas: what shared memory goes on sharing it, and large memory travels once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from computehub_ext.kernel.memory import INLINE_BYTES_MAX
from tests.support.state import Notebook, carry, moved, packed, received

LARGE, SMALL = INLINE_BYTES_MAX, 40


def same(left: Any, right: Any) -> None:
    assert type(left) is type(right)
    assert left.dtype == right.dtype
    assert left.shape == right.shape
    assert left.strides == right.strides
    assert left.flags.writeable == right.flags.writeable
    np.testing.assert_array_equal(left, right)


ARRAYS = {
    "C order": "np.arange({n}.0).reshape(-1, 4)",
    "Fortran order": "np.asfortranarray(np.arange({n}.0).reshape(-1, 4))",
    "permuted": "np.arange({n}.0).reshape(2, -1, 4).transpose(1, 0, 2).copy(order='K')",
    "reversed": "np.arange({n}.0)[::-1]",
    "strided": "np.arange({n}.0)[1::3]",
    "transposed": "np.arange({n}.0).reshape(-1, 4).T",
    "broadcast": "np.broadcast_to(np.arange({n}.0), (3, {n}))",
    "dates": "np.datetime64('2020-01-01') + np.arange({n})",
    "complex": "np.ones({n}, complex)",
    "half": "np.ones({n}, np.float16)",
    "big endian": "np.arange({n}).astype('>i4')",
    "text": "np.arange({n}).astype(str)",
    "bytes": "np.arange({n}).astype('S')",
    "bool": "np.arange({n}) % 2 == 0",
    "records": "np.zeros({n}, [('a', 'i4'), ('b', 'f8', 2)])",
    "one field": "np.zeros({n}, [('a', 'i4'), ('b', 'f8')])['b']",
    "recarray": "np.rec.array(np.zeros({n}, [('a', 'i4')]))",
    "matrix": "np.matrix(np.arange({n}.0))",
    "masked": "np.ma.masked_array(np.arange({n}.0), mask=np.arange({n}) % 3 == 0)",
    "objects": "np.array([None, 'a', 1.5] * {n}, dtype=object)",
    "from bytes": "np.frombuffer(b'12345678' * {n}, np.uint8)",
    "empty": "np.empty((3, 0))",
    "scalar": "np.array(5.0)",
    "scalar view": "np.arange({n}.0)[3:4].reshape(())",
}


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("kind", ARRAYS)
def test_an_array_of_any_kind_arrives_as_it_was(kind: str, size: int, read_only: bool) -> None:
    notebook = Notebook().cell(f"import numpy as np\narray = {ARRAYS[kind].format(n=size)}")
    if read_only:
        notebook["array"].flags.writeable = False
    there = carry(notebook)
    if kind != "empty":  # its strides mean nothing, and NumPy itself doesn't keep them
        same(notebook["array"], there["array"])
    back = carry(there.notebook)
    np.testing.assert_array_equal(notebook["array"], back["array"])


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_views_of_one_array_go_on_sharing_its_memory(size: int) -> None:
    notebook = Notebook().cell(f"""
        import numpy as np
        part = None
        base = np.arange({size}.0)
        part, other, bytes_of, turned = base[10:20], base[::-1], base.view(np.uint8), base.reshape(2, -1).T
        alias = base
        inside = {{"deep": [base[3:]]}}
        fortran = np.asfortranarray(base.reshape(4, -1))
        row = fortran[1]
        text = np.array(["abc", "de"] * {size})
        first = text[:1]
    """)
    there = carry(notebook)
    for arrived in (there, carry(there.notebook)):
        arrived["base"][12] = -1
        assert arrived["part"][2] == -1
        assert arrived["other"][-13] == -1
        assert arrived["turned"].T.reshape(-1)[12] == -1
        assert arrived["inside"]["deep"][0][9] == -1
        assert arrived["alias"] is arrived["base"]
        arrived["bytes_of"][:8] = 0
        assert arrived["base"][0] == 0
        arrived["row"][2] = -7
        assert arrived["fortran"][1, 2] == -7
        arrived["first"][0] = "zzz"
        assert arrived["text"][0] == "zzz"
    assert notebook["base"][12] == 12


def test_a_view_travels_without_the_rest_of_its_base() -> None:
    notebook = Notebook().cell("import numpy as np\npart = np.arange(10_000_000)[100:20_000]\nother = part[5:]")
    outgoing, manifest = packed(notebook)
    assert outgoing.size < 200_000
    assert manifest["total_bytes"] < 200_000
    arrived = carry(notebook)
    arrived["part"][5] = -1
    assert arrived["other"][0] == -1


def test_what_is_to_be_sent_stays_alive_until_then() -> None:
    import weakref

    notebook = Notebook().cell(f"import numpy as np\nclass Owner(np.ndarray): pass\nx = np.ones({LARGE}).view(Owner)")
    notebook.namespace["y"] = notebook["x"].copy()
    watched = weakref.ref(notebook["y"])
    outgoing, _manifest = packed(notebook)
    notebook.namespace.clear()
    assert watched() is not None
    received(outgoing.pieces, outgoing.size, outgoing.sha256)
    outgoing.close()
    assert watched() is None


def test_what_shares_memory_is_sent_once() -> None:
    notebook = Notebook().cell("""
        import numpy as np
        base = np.zeros(1_000_000, np.uint8)
        views = [base[i:] for i in range(20)]
    """)
    assert packed(notebook)[0].size < 1_050_000


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_object_arrays_share_with_their_views(size: int) -> None:
    arrived = moved(f"""
        import numpy as np
        inner = [1]
        objects = np.array([inner, "a", None] * {size}, dtype=object)
        view = objects[1:4]
    """)
    assert arrived["objects"][0] is arrived["inner"]
    arrived["view"][0] = "changed"
    assert arrived["objects"][1] == "changed"


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_arrays_over_a_bytearray_and_memoryviews(size: int) -> None:
    arrived = moved(f"""
        import numpy as np, array
        raw = bytearray({size * 2})
        over = np.frombuffer(raw, np.uint8)[5:10]
        seen = memoryview(raw)[6:20]
        words = memoryview(raw).cast("H")
        fixed = memoryview(bytes(raw))[2:4]
        numbers = array.array("d", range({size}))
        looked = np.frombuffer(numbers)
        base = np.arange({size}.0)
        window = memoryview(base)[3:5]
    """)
    arrived["raw"][6] = 9
    assert (arrived["over"][1], arrived["seen"][0], arrived["words"][3]) == (9, 9, 9)
    assert arrived["fixed"].readonly
    arrived["numbers"][0] = 3.5
    assert arrived["looked"][0] == 3.5
    arrived["base"][3] = -1
    assert arrived["window"][0] == -1


def test_an_array_that_owned_its_memory_owns_it() -> None:
    arrived = moved(
        f"import numpy as np\na = np.zeros({LARGE})\nb = np.zeros(({LARGE}, 2), order='F')\nc = np.zeros(5)"
    )
    for name in "abc":
        assert arrived[name].flags.owndata
    arrived["a"].resize(3, refcheck=False)


def test_masked_arrays_subclasses_and_files_in_memory(tmp_path: Any) -> None:
    notebook = Notebook()
    notebook.namespace["path"] = str(tmp_path / "data.bin")
    notebook.cell(f"""
        import numpy as np
        masked = np.ma.masked_array(np.arange({LARGE}), mask=np.arange({LARGE}) % 2 == 0, fill_value=7)
        class Tagged(np.ndarray):
            def __array_finalize__(self, other): self.tag = getattr(other, "tag", None)
        tagged = np.arange({LARGE}.0).view(Tagged)
        tagged.tag = "mine"
        part = tagged[:3]
        mapped = np.memmap(path, dtype=np.int32, mode="w+", shape=(100, 2))
        mapped[:] = 3
        row = mapped[5]
    """)
    arrived = carry(notebook)
    assert not arrived.lost
    assert not arrived.failed
    np.testing.assert_array_equal(arrived["masked"].filled(), notebook["masked"].filled())
    assert (type(arrived["tagged"]), arrived["tagged"].tag) == (arrived["Tagged"], "mine")
    arrived["tagged"][0] = -1
    assert arrived["part"][0] == -1
    arrived["mapped"][5, 1] = 8
    arrived["mapped"].flush()
    assert (notebook["mapped"][5, 1], arrived["row"][1]) == (8, 8), "the same file"


def test_random_generators_go_on_with_their_sequence() -> None:
    notebook = Notebook().cell("""
        import random, numpy as np
        own, drawn = np.random.default_rng(1), random.Random(2)
        own.random(), drawn.random()
        np.random.seed(3); random.seed(4)
    """)
    arrived = carry(notebook)
    notebook.cell("expected = [own.random(), drawn.random()]")
    arrived.notebook.cell("got = [own.random(), drawn.random()]")
    assert arrived["got"] == notebook["expected"]
    np.random.seed(3)
    first = np.random.random()
    carry(notebook)  # captured after that draw, and set again
    assert np.random.random() != first


def test_data_frames() -> None:
    import pandas as pd

    notebook = Notebook().cell(f"""
        import pandas as pd, numpy as np
        frame = pd.DataFrame({{
            "n": np.arange({LARGE}), "x": np.arange({LARGE}.0), "t": ["a", None] * ({LARGE} // 2),
            "d": pd.date_range("2020", periods={LARGE}, freq="min", tz="UTC"),
            "c": pd.Categorical(["u", "v"] * ({LARGE} // 2)),
        }}).set_index("d")
        column = frame["x"]
        index = pd.MultiIndex.from_product([[1, 2], ["a", "b"]])
        grouped = frame.groupby("c", observed=True)
        frame.attrs["note"] = "kept"
    """)
    arrived = carry(notebook)
    assert not arrived.lost
    pd.testing.assert_frame_equal(arrived["frame"], notebook["frame"])
    pd.testing.assert_series_equal(arrived["column"], notebook["column"])
    assert arrived["index"].equals(notebook["index"])
    assert arrived["grouped"].x.sum().to_list() == notebook["grouped"].x.sum().to_list()
    assert arrived["frame"].attrs == {"note": "kept"}
    arrived["frame"]["new"] = 1
