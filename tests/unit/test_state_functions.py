"""Functions made in cells arrive with their globals, closures and everything that hangs on them."""

from __future__ import annotations

import inspect
import types

import pytest

from computehub_ext.kernel import bytecode
from tests.support.state import Notebook, carry, moved


def test_a_function_looks_up_its_globals_in_the_notebook_where_it_is() -> None:
    arrived = moved("""
        rate = 2
        def price(hours): return hours * rate
    """)
    assert arrived["price"](3) == 6
    arrived.notebook.cell("rate = 5")
    assert arrived["price"](3) == 15
    assert arrived["price"].__globals__ is arrived.notebook.namespace


def test_all_that_hangs_on_a_function_comes_along() -> None:
    arrived = moved('''
        def price(hours, /, rate: float = 2.0, *extra, limit: int = 9, **rest) -> float:
            """What it costs."""
            return min(hours * rate, limit)
        price.unit = "credits"
    ''')
    price = arrived["price"]
    assert str(inspect.signature(price)) == "(hours, /, rate: float = 2.0, *extra, limit: int = 9, **rest) -> float"
    assert (price.__doc__, price.unit, price.__qualname__) == ("What it costs.", "credits", "price")
    assert price(100) == 9
    assert "hours * rate" in inspect.getsource(price)


def test_recursion_and_mutual_recursion() -> None:
    arrived = moved("""
        def factorial(n): return 1 if n < 2 else n * factorial(n - 1)
        def even(n): return n == 0 or odd(n - 1)
        def odd(n): return n != 0 and even(n - 1)
        def outer():
            def inner(n): return 0 if n == 0 else 1 + inner(n - 1)
            return inner
        depth = outer()
    """)
    assert arrived["factorial"](5) == 120
    assert arrived["even"](10)
    assert arrived["depth"](4) == 4


def test_functions_that_share_a_variable_go_on_sharing_it() -> None:
    notebook = Notebook().cell("""
        def counter():
            count = 0
            def up():
                nonlocal count
                count += 1
                return count
            return up, lambda: count
        up, value = counter()
        up()
    """)
    arrived = carry(notebook)
    assert arrived["up"]() == 2
    assert arrived["value"]() == 2
    assert notebook["value"]() == 1, "the source is left alone"


def test_decorated_and_cached_functions() -> None:
    arrived = moved("""
        import functools
        def counting(function):
            @functools.wraps(function)
            def wrapper(*args):
                wrapper.calls += 1
                return function(*args)
            wrapper.calls = 0
            return wrapper
        @counting
        def square(x): return x * x
        square(2)
        @functools.lru_cache(maxsize=7)
        def fibonacci(n): return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)
        @functools.singledispatch
        def kind(value): return "something"
        @kind.register
        def _of_int(value: int): return "int"
        add_one = functools.partial(lambda a, b: a + b, 1)
    """)
    assert arrived["square"](3) == 9
    assert (arrived["square"].calls, arrived["square"].__wrapped__(4)) == (2, 16)
    assert arrived["fibonacci"](30) == 832040
    assert arrived["fibonacci"].cache_parameters() == {"maxsize": 7, "typed": False}
    assert (arrived["kind"](1), arrived["kind"]("")) == ("int", "something")
    assert arrived["add_one"](2) == 3


def test_generator_functions_coroutines_and_comprehensions() -> None:
    arrived = moved("""
        def countdown(n):
            while n:
                yield n
                n -= 1
        async def later(): return 1
        squares = lambda n: [x * x for x in range(n)]
        pair = (lambda x: x + 1, lambda x: x + 2)
    """)
    assert list(arrived["countdown"](3)) == [3, 2, 1]
    assert inspect.iscoroutinefunction(arrived["later"])
    assert arrived["squares"](3) == [0, 1, 4]
    assert [add(0) for add in arrived["pair"]] == [1, 2]


def test_a_function_of_a_script_that_was_run_keeps_globals_of_its_own() -> None:
    notebook = Notebook()
    script = {"__name__": "__main__", "rate": 3, "unused": object}
    exec("def price(h): return h * rate\ndef twice(h): return 2 * price(h)", script)
    notebook.namespace.update(price=script["price"], twice=script["twice"], rate=100)
    arrived = carry(notebook)
    assert arrived["twice"](2) == 12
    assert arrived["price"].__globals__ is arrived["twice"].__globals__
    assert "unused" not in arrived["price"].__globals__


def test_functions_inside_a_library_keep_its_globals() -> None:
    import json.encoder

    notebook = Notebook()
    notebook.namespace["iterencode"] = json.encoder._make_iterencode(
        {}, lambda value: value, repr, None, repr, ":", ",", False, False, False
    )
    arrived = carry(notebook)
    assert "".join(arrived["iterencode"]([1], 0)) == "[1]"
    assert arrived["iterencode"].__globals__ is vars(json.encoder)


def test_modules_come_by_name_and_handmade_ones_with_their_contents() -> None:
    notebook = Notebook().cell("import json, os.path as path")
    made = types.ModuleType("handmade", "Made here.")
    made.value = [1]  # type: ignore[attr-defined]
    notebook.namespace["made"] = made
    arrived = carry(notebook)
    import json
    import os.path

    assert arrived["json"] is json
    assert arrived["path"] is os.path
    assert (arrived["made"].value, arrived["made"].__doc__) == ([1], "Made here.")
    assert arrived["made"] is not made


def test_tracebacks_show_the_cell() -> None:
    arrived = moved("def fail():\n    return 1 / 0\n")
    with pytest.raises(ZeroDivisionError) as caught:
        arrived["fail"]()
    assert str(caught.traceback[-1].statement).strip() == "return 1 / 0"


def test_the_names_that_a_function_uses_and_that_stay_are_said() -> None:
    notebook = Notebook().cell("""
        import threading
        lock = threading.Lock()
        table = {}
        def guarded():
            with lock: return table
        class Guard:
            def __call__(self): return lock
    """)
    arrived = carry(notebook)
    assert arrived.manifest["warnings"] == [
        {"name": "Guard", "reason": "uses 'lock', which stays"},
        {"name": "guarded", "reason": "uses 'lock', which stays"},
    ]
    only = carry(notebook, ["guarded"])
    assert [item["reason"] for item in only.manifest["warnings"]] == [
        "uses 'lock', which stays",
        "uses 'table', which stays",
    ]
    assert only.manifest["names"] == ["threading", "guarded"]


class TestAnotherMinorVersion:
    """The magic number differs: code is compiled again from its cell."""

    @pytest.fixture(autouse=True)
    def other_python(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bytecode, "MAGIC", b"another")

    def test_functions_are_compiled_again(self) -> None:
        arrived = carry(
            Notebook().cell("""
                from __future__ import annotations
                def price(hours: Missing, rate=2): return hours * rate
                pair = [lambda x: x + 1, lambda x: x + 2]
                same = [lambda: 1, lambda: 1]
                def outer(a):
                    def inner(): return a
                    return inner
                inner = outer(7)
                class Thing:
                    def name(self): return __class__.__name__
                thing = Thing()
            """),
            target_python="3.5.0",
        )
        assert not arrived.lost
        assert not arrived.failed
        assert arrived["price"](3) == 6
        assert arrived["price"].__annotations__ == {"hours": "Missing"}
        assert [add(0) for add in arrived["pair"]] == [1, 2]
        assert arrived["same"][1]() == 1
        assert arrived["inner"]() == 7
        assert arrived["thing"].name() == "Thing"

    def test_what_has_no_source_is_named_before_and_refused_after(self) -> None:
        notebook = Notebook()
        exec("def unseen(x): return x", notebook.namespace)
        assert carry(notebook).failed == {
            "unseen": "the source of 'unseen' is not known, and it was compiled by another version of Python"
        }
        lost = carry(notebook, target_python="3.5.0").lost
        assert lost == {"unseen": "compiled code without its source, which Python 3.5.0 can't run"}

    def test_lambdas_that_can_not_be_told_apart_are_refused(self) -> None:
        arrived = carry(Notebook().cell("pair = [lambda x: x - 1, lambda x: 1 - x]"), target_python="3.5.0")
        assert "can't be told from its neighbours on line 1" in arrived.failed["pair"]

    def test_dataclasses_and_named_tuples_are_generated_again(self) -> None:
        arrived = carry(
            Notebook().cell("""
                import collections, dataclasses, typing
                @dataclasses.dataclass(order=True)
                class Base:
                    x: int
                    tags: list = dataclasses.field(default_factory=list, compare=False)
                @dataclasses.dataclass(frozen=True, slots=True)
                class Slotted:
                    y: int = 5
                @dataclasses.dataclass
                class Derived(Base):
                    z: typing.ClassVar[int] = 1
                    w: int = 2
                    def __repr__(self): return "mine"
                base, slotted, derived = Base(1), Slotted(), Derived(3)
                Point = collections.namedtuple("Point", "x y", defaults=[0])
                class Named(typing.NamedTuple):
                    a: int
                    b: int = 2
                    def total(self): return self.a + self.b
                point, named = Point(1), Named(1)
            """),
            target_python="3.5.0",
        )
        assert not arrived.lost
        assert not arrived.failed
        assert arrived["Base"](1) == arrived["base"]
        assert arrived["Base"](1) < arrived["Base"](2)
        assert arrived["Base"](1).tags is not arrived["Base"](1).tags
        assert arrived["Slotted"](6).y == 6
        assert arrived["slotted"] == arrived["Slotted"]()
        assert (arrived["derived"].w, arrived["Derived"](1, [], 4).w, arrived["Derived"].z) == (2, 4, 1)
        assert repr(arrived["derived"]) == "mine"
        assert (arrived["point"], arrived["Point"](5)._replace(y=1)) == ((1, 0), (5, 1))
        assert (arrived["named"].total(), arrived["Named"].__annotations__) == (3, {"a": int, "b": int})
