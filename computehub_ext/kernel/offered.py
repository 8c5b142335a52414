"""What there is to move to, in words: GPUs, their own memory, and the main memory and cores of a kernel beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .report import Commands, Note, Page, Table
from .wording import in_credits, moment_in_words

SIMULATED_NOTE = (
    "Simulated GPUs behave like real ones in everything but CUDA: they are booked, billed in credits and given back."
)
LIMITS_NOTE = (
    "GPU memory is the device's own. RAM and cores are what one kernel may use of the machine beside it; "
    "who needs more RAM loses the kernel."
)
UNLIMITED = "no limit"
LARGER_MAX = 2


def offers_page(offers: Sequence[Mapping[str, Any]], zone: str, command: str) -> Page:
    if not offers:
        return Page("No GPUs").add(Note("This server has no GPU to offer: its administrator adds pools."))
    limited = any(ram_mib(offer) or cores(offer) for offer in offers)
    beside = ("RAM", "Cores") if limited else ()
    rows = []
    for offer in sorted(offers, key=lambda o: (int(o.get("rate_microcredits_per_hour") or 0), str(o.get("model")))):
        memory = int(offer.get("memory_mib") or 0)
        rows.append(
            (
                str(offer.get("model") or "?") + (" (simulated)" if offer.get("simulated") else ""),
                f"{int(offer.get('free_now') or 0)} of {int(offer.get('count') or 0)}",
                in_credits(int(offer.get("rate_microcredits_per_hour") or 0)),
                f"{memory / 1024:.0f} GiB" if memory else "",
                *((amount(ram_mib(offer)), cores(offer) or UNLIMITED) if limited else ()),
                _when(offer, zone),
                str(offer.get("billed_as") or "credits"),
            )
        )
    page = Page("GPUs").add(
        Table(
            "Price for one GPU, an hour",
            ("Model", "Free", "Credits/h", "GPU memory", *beside, "From", "Billed in"),
            tuple(rows),
            ("Free", "Credits/h", "GPU memory", *beside),
        )
    )
    if limited:
        page.add(Note(LIMITS_NOTE, "quiet"))
    if any(offer.get("simulated") for offer in offers):
        page.add(Note(SIMULATED_NOTE, "quiet"))
    for why in sorted({f"{offer.get('pool')}: {offer['unwell']}" for offer in offers if offer.get("unwell")}):
        page.add(Note(why, "warning"))
    model = next((str(o["model"]) for o in offers if o.get("free_now")), None)
    if model:
        page.add(Commands("", ((f"{command} on {model} --for 1h", "move this notebook there"),)))
    return page


def instead(offers: Iterable[Any], zone: str, command: str, lead: str = "Where it would fit:") -> Commands | None:
    """Offers with enough main memory, each one command away."""
    rows = []
    for offer in offers:
        if isinstance(offer, Mapping):
            model, free = str(offer.get("model") or "?"), bool(offer.get("free_now"))
            typed = f"{command} on {model}" if free else f"{command} book {model}"
            rows.append((typed, described(offer, zone)))
    return Commands(lead, tuple(rows)) if rows else None


def described(offer: Mapping[str, Any], zone: str) -> str:
    """``16 GiB of RAM, 2.50 credits an hour, free now``."""
    ram = ram_mib(offer)
    return _priced(f"{amount(ram)} of RAM" if ram else "no limit of RAM but the machine's", offer, zone)


def larger_gpus(offers: Iterable[Mapping[str, Any]], lease: Mapping[str, Any], zone: str, command: str) -> list[Any]:
    """Commands for models whose GPUs have more memory than those of a lease: what is free first, then the cheaper."""
    offers = [offer for offer in offers if not offer.get("unwell")]
    own = max((int(o.get("memory_mib") or 0) for o in offers if o.get("model") == lease.get("model")), default=0)
    found = [
        offer
        for offer in offers
        if own and int(offer.get("memory_mib") or 0) > own and (lease.get("simulated") or not offer.get("simulated"))
    ]
    found.sort(key=lambda o: (not o.get("free_now"), int(o.get("rate_microcredits_per_hour") or 0)))
    rows = []
    for offer in found[:LARGER_MAX]:
        memory = f"{int(offer['memory_mib']) / 1024:.0f} GiB of GPU memory"
        rows.append((f"{command} on {offer.get('model')}", _priced(memory, offer, zone)))
    return [Commands(f"GPUs with more memory; `{command} off` comes before:", tuple(rows))] if rows else []


def _priced(what: str, offer: Mapping[str, Any], zone: str) -> str:
    price = in_credits(int(offer.get("rate_microcredits_per_hour") or 0))
    simulated = ", simulated" if offer.get("simulated") else ""
    when = "free now" if offer.get("free_now") else f"from {_when(offer, zone)}"
    return f"{what}, {price} credits an hour{simulated}, {when}"


def ram_mib(offer: Mapping[str, Any]) -> int:
    """The main memory that a kernel may use there; 0 where there is no limit but the machine's."""
    return int((offer.get("kernel_limits") or {}).get("memory_mib") or 0)


def cores(offer: Mapping[str, Any]) -> str:
    found = (offer.get("kernel_limits") or {}).get("cpus")
    return f"{float(found):g}" if found else ""


def amount(mib: int) -> str:
    """``512 MiB``, ``16 GiB``."""
    if not mib:
        return UNLIMITED
    return f"{mib / 1024:.4g} GiB" if mib >= 1024 else f"{mib} MiB"


def _when(offer: Mapping[str, Any], zone: str) -> str:
    if offer.get("unwell"):
        return "not now"
    if offer.get("free_now"):
        return "now"
    return moment_in_words(offer.get("earliest_at"), zone) if offer.get("earliest_at") else "–"
