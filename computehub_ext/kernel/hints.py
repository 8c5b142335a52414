"""A cell that died of the GPU's memory is told so in words, with what helps."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from .report import Commands, Note, Page, Table
from .wording import size_in_words

_TYPES = {
    "OutOfMemoryError": ("torch", "cupy"),
    "ResourceExhaustedError": ("tensorflow",),
}
_SAYINGS = (
    "cuda out of memory",
    "cuda_error_out_of_memory",
    "cudaerrormemoryallocation",
    "cublas_status_alloc_failed",
    "resource_exhausted: out of memory",
    "hip out of memory",
)
CHAIN_MAX = 8
NAMES_MAX = 5
ASK_SECONDS = 2.0


def is_gpu_memory_error(error: BaseException | None) -> bool:
    """Whether an exception, or one that led to it, says that the GPU's memory was full."""
    for _ in range(CHAIN_MAX):
        if error is None:
            return False
        for kind in type(error).__mro__:
            if kind.__module__.split(".")[0] in _TYPES.get(kind.__name__, ()):
                return True
        if isinstance(error, (RuntimeError, MemoryError)) or "cuda" in type(error).__module__.lower():
            said = str(error)[:4000].lower()
            if any(saying in said for saying in _SAYINGS):
                return True
        error = error.__cause__ or error.__context__
    return False


def advice(namespace: Mapping[str, Any], larger: Sequence[Any] = ()) -> Page:
    """What to do about it, beginning with what is largest; ``larger`` are blocks about GPUs with more memory."""
    page = Page("The GPU's memory was full, and the cell stopped there", tone="warning")
    page.add(Note("The kernel and its variables are still here; nothing else was lost."))
    largest = largest_on_gpu(namespace)
    if largest:
        rows = tuple((name, size_in_words(size)) for name, size in largest)
        page.add(Table("Largest variables on the GPU", ("Name", "Size"), rows, ("Size",)))
    rows_of_advice = [("del NAME", "lets a variable go that is not needed any more")]
    if "torch" in sys.modules:
        rows_of_advice += [
            ("torch.cuda.empty_cache()", "after that, gives back what PyTorch keeps in reserve"),
            ("with torch.no_grad():", "around code that only predicts"),
        ]
    if not larger:
        rows_of_advice += [("%gpu offers", "GPUs with more memory; `%gpu off`, then `%gpu on MODEL`")]
    also = " Also:" if rows_of_advice else ""
    page.add(Note(f"A smaller batch or half precision (float16, bfloat16) needs less.{also}"))
    return page.add(Commands("", tuple(rows_of_advice)), *larger)


def largest_on_gpu(namespace: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Names of arrays that lie on a GPU, largest first. Looks at what values say of themselves; imports nothing."""
    found = []
    for name, value in list(namespace.items()):
        if name.startswith("_"):
            continue
        try:
            size = _size_on_gpu(value)
        except Exception:  # a value's own attribute may raise anything, and this is only a hint
            continue
        if size:
            found.append((name, size))
    return sorted(found, key=lambda pair: (-pair[1], pair[0]))[:NAMES_MAX]


def _size_on_gpu(value: Any) -> int:
    module = type(value).__module__.split(".")[0]
    if module == "torch":
        if getattr(value, "is_cuda", False) is True:
            return int(value.element_size() * value.nelement())
        if callable(getattr(value, "parameters", None)):
            return sum(int(p.element_size() * p.nelement()) for p in value.parameters() if p.is_cuda)
    if module == "cupy":
        return int(getattr(value, "nbytes", 0))
    return 0


def larger_gpus() -> list[Any]:
    """Blocks about GPUs with more memory than this kernel's; none where its server does not say so at once."""
    try:
        from .link import Link
        from .offered import larger_gpus
        from .pages import items_of
        from .zone import local_zone

        link = Link.from_environment()
        link.timeout_seconds = ASK_SECONDS
        lease = (link.get(f"kernels/{link.kernel_id}") or {}).get("lease")
        return larger_gpus(items_of(link.get("offers")), lease, local_zone(), "%gpu") if lease else []
    except Exception:  # this is only a hint: without a server, or with one that is busy, it is a shorter one
        return []


def explain(error: BaseException) -> None:
    """Display advice, if it was that."""
    if not is_gpu_memory_error(error):
        return
    from IPython import get_ipython
    from IPython.display import display

    shell = get_ipython()
    display(advice(shell.user_ns if shell is not None else {}, larger_gpus()))
