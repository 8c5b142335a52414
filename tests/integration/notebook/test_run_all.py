"""Run All with a switch asked for in the second of ten cells."""

from __future__ import annotations

from tests.support.fakeplane import FakePlane
from tests.support.notebooks import Browser, Rest

WHERE = "import os; print(os.environ.get('COMPUTEHUB_TEST_PLACEMENT', 'cpu'))"


async def test_cells_after_the_one_that_asks_run_on_the_new_kernel(
    plane: FakePlane, rest: Rest, browser: Browser, kernel_id: str
) -> None:
    asks = (
        "import time, os, urllib.request as u, json, uuid\n"
        "print('before')\n"
        "r = u.Request(os.environ['COMPUTEHUB_URL'] + 'switches', method='POST',\n"
        "    data=json.dumps({'target': 'gpu', 'kernel_id': os.environ['COMPUTEHUB_KERNEL_ID']}).encode(),\n"
        "    headers={'Authorization': 'token ' + os.environ['COMPUTEHUB_KERNEL_TOKEN'],\n"
        "             'Content-Type': 'application/json', 'Idempotency-Key': uuid.uuid4().hex})\n"
        "print(json.load(u.urlopen(r))['state'])\n"
        "del r\n"
        "time.sleep(0.3)\n"
        "print('after, ' + os.environ.get('COMPUTEHUB_TEST_PLACEMENT', 'cpu'))"
    )
    codes = [f"x = 41\n{WHERE}", asks, *[f"x += 1\n{WHERE}\nprint(x)" for _ in range(8)]]
    cells = [browser.run(code) for code in codes]
    await browser.done(*cells)

    assert [cell.errors for cell in cells] == [[]] * 10
    assert [cell.status for cell in cells] == ["ok"] * 10
    assert cells[0].text == "cpu\n"
    assert cells[1].text == "before\nrequested\nafter, cpu\n"
    placement = plane.running()
    assert len(placement) == 1
    for number, cell in enumerate(cells[2:]):
        assert cell.text == f"{placement[0]}\n{42 + number}\n"
    assert [cell.reply["content"]["execution_count"] for cell in cells if cell.reply] == list(range(1, 11))
    assert (await rest.kernel(kernel_id))["place"] == "gpu"
