"""A session crosses to each other minor version of Python on this machine, or is refused by name with a reason."""

from __future__ import annotations

import json
import subprocess
import textwrap
from pathlib import Path

import pytest

from computehub_ext.kernel import bundle
from tests.support.pythons import MINORS, others
from tests.support.state import Notebook, packed

CELL = '''
    from __future__ import annotations
    import abc, collections, dataclasses, enum, functools, typing, pathlib, datetime, decimal
    T = typing.TypeVar("T")
    def price(hours: Missing, /, rate=2, *, limit=9) -> float:
        """What it costs."""
        return min(hours * rate * base, limit)
    base = 1
    def counter():
        count = 0
        def up():
            nonlocal count
            count += 1
            return [count for _ in range(1)][0]
        return up
    up = counter(); up()
    pair = [lambda x: x + 1, lambda x: x + 2]
    @functools.lru_cache(maxsize=5)
    def cached(n): return n if n < 2 else cached(n - 1) + cached(n - 2)
    async def later(): return [i async for i in None]
    def numbers():
        try:
            yield from range(3)
        finally:
            pass
    class Animal(abc.ABC):
        def __init__(self, name): self.name = name
        @property
        def loud(self): return self.name.upper()
        @abc.abstractmethod
        def speak(self): ...
    class Dog(Animal):
        def speak(self): return f"{super().loud} {__class__.__name__}"
    dog = Dog("rex"); dog.self = dog
    @dataclasses.dataclass(order=True)
    class Point:
        x: int
        tags: list = dataclasses.field(default_factory=list, compare=False)
    @dataclasses.dataclass
    class Deep(Point):
        z: int = 5
    point, deep = Point(1), Deep(2)
    class Colour(enum.Enum):
        RED = 1
        GREEN = 2
        def next(self): return Colour(self.value % 2 + 1)
    class Access(enum.Flag):
        READ = 1
        WRITE = 2
    red, both = Colour.RED, Access.READ | Access.WRITE
    class Named(typing.NamedTuple):
        a: int
        b: int = 2
        def total(self): return self.a + self.b
    named = Named(1)
    Pair = collections.namedtuple("Pair", "left right", defaults=[0])
    two = Pair(1)
    class Stack(typing.Generic[T]):
        def __init__(self): self.items = []
    stack = Stack[int]()
    class Slotted:
        __slots__ = ("a", "__b")
        def __init__(self): self.a, self.__b = 1, 2
        def both(self): return self.a, self.__b
    slotted = Slotted()
    class Failure(Exception):
        def __init__(self, a, b): super().__init__(f"{a}-{b}"); self.a = a
    failure = Failure(1, 2)
    where, day, sum_ = pathlib.PurePosixPath("/a"), datetime.date(2026, 3, 1), decimal.Decimal("1.5")
'''

CHECKS = """
    assert price(2) == 4 and price(100) == 9 and price.__doc__ == "What it costs."
    assert price.__annotations__ == {"hours": "Missing", "return": "float"}
    assert up() == 2 and [add(0) for add in pair] == [1, 2] and cached(20) == 6765 and list(numbers()) == [0, 1, 2]
    assert dog.speak() == "REX Dog" and dog.self is dog and isinstance(dog, Animal)
    assert point == Point(1) and Point(1) < Point(2) and Point(1).tags is not Point(1).tags and Deep(1, [], 2).z == 2
    assert repr(deep) == "Deep(x=2, tags=[], z=5)" and deep == Deep(2)
    assert red is Colour.RED and red.next() is Colour.GREEN and both == Access.READ | Access.WRITE
    assert named.total() == 3 and Named(4)._replace(b=1).total() == 5 and two == (1, 0) and Pair(3).right == 0
    assert isinstance(stack, Stack) and Stack[int].__origin__ is Stack and slotted.both() == (1, 2)
    assert type(failure) is Failure and failure.a == 1 and str(where) == "/a" and day.year == 2026 and sum_ == 1.5
"""

TARGET = """
    import json, sys
    folder = sys.argv[1]
    exec(open(folder + "/bundle.py").read(), {})
    from _computehub.restore import allocate, commit, load
    from _computehub.stream import Incoming, pieces_of
    import _computehub
    manifest = json.load(open(folder + "/manifest.json"))
    incoming = Incoming(pieces_of([open(folder + "/state", "rb").read()]), manifest["size"], manifest["sha256"])
    incoming.read(allocate)
    incoming.verify()
    loaded = load(globals(), incoming.header, incoming.pickles, incoming.blocks)
    restored = commit(globals(), loaded)
    if not loaded.failed:
        exec(open(folder + "/checks.py").read(), globals())
    print(json.dumps([_computehub.check(manifest), loaded.failed, restored]))
"""


@pytest.mark.needs("other_python")
@pytest.mark.parametrize("minor", [minor for minor in MINORS if minor in others()])
def test_a_session_crosses_to_another_python(minor: str, tmp_path: Path) -> None:
    notebook = Notebook().cell(CELL)
    exec("def unseen(): return 1", notebook.namespace)
    outgoing, manifest = packed(notebook, target_python=minor)
    assert manifest["lost"] == [
        {
            "name": "unseen",
            "type": "function",
            "reason": f"compiled code without its source, which Python {minor} can't run",
        }
    ]
    (tmp_path / "bundle.py").write_text(bundle.source())
    (tmp_path / "state").write_bytes(b"".join(outgoing.pieces))
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "size": outgoing.size, "sha256": outgoing.sha256}))
    (tmp_path / "checks.py").write_text(textwrap.dedent(CHECKS))
    done = subprocess.run(
        [others()[minor], "-I", "-c", textwrap.dedent(TARGET), str(tmp_path)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    problems, failed, restored = json.loads(done.stdout)
    assert failed == []
    assert set(restored) == set(notebook.names()) - {"unseen"}
    assert problems == [], "what can't be compiled again there was named before"
