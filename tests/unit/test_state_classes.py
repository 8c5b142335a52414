"""Classes made in cells arrive once, with their instances: isinstance, super() and identity hold."""

from __future__ import annotations

import dataclasses
import enum
import inspect

import pytest

from tests.support.state import Notebook, carry, moved


def test_instances_keep_their_class_and_its_bases() -> None:
    arrived = moved("""
        class Animal:
            known = []
            def __init__(self, name): self.name = name; self.known.append(name)
            def speak(self): return f"{self.name} "
        class Dog(Animal):
            def speak(self): return super().speak() + "barks"
            def mine(self): return __class__
        dog = Dog("Rex")
        dog.friend = dog
        same = dog
        speak = dog.speak
    """)
    dog, Dog = arrived["dog"], arrived["Dog"]
    assert type(dog) is Dog
    assert isinstance(dog, arrived["Animal"])
    assert arrived["same"] is dog.friend is dog
    assert (dog.speak(), arrived["speak"](), arrived["speak"].__self__) == ("Rex barks", "Rex barks", dog)
    assert dog.mine() is Dog
    assert arrived["Animal"].known == ["Rex"]
    Dog("Max")
    assert arrived["Animal"].known == ["Rex", "Max"]


def test_properties_static_and_class_methods_and_descriptors() -> None:
    arrived = moved("""
        import functools
        class Named:
            def __set_name__(self, owner, name): self.name = name
            def __get__(self, instance, owner): return self.name
        class Circle:
            label = Named()
            def __init__(self, r): self.r = r
            @property
            def diameter(self):
                "Twice the radius."
                return 2 * self.r
            @diameter.setter
            def diameter(self, value): self.r = value / 2
            @staticmethod
            def unit(): return "cm"
            @classmethod
            def of(cls, r): return cls(r)
            @functools.cached_property
            def area(self): return 3 * self.r ** 2
        circle = Circle(2)
        circle.area
    """)
    circle, Circle = arrived["circle"], arrived["Circle"]
    circle.diameter = 6
    assert (circle.r, circle.area, Circle.of(1).area, circle.unit(), circle.label) == (3, 12, 3, "cm", "label")
    assert Circle.diameter.__doc__ == "Twice the radius."


def test_dataclasses() -> None:
    arrived = moved("""
        import dataclasses
        @dataclasses.dataclass(order=True)
        class Point:
            x: int
            tags: list = dataclasses.field(default_factory=list, compare=False)
        @dataclasses.dataclass(frozen=True, slots=True)
        class Fixed:
            y: int = 5
        point, fixed = Point(1, ["a"]), Fixed()
    """)
    Point, Fixed = arrived["Point"], arrived["Fixed"]
    assert arrived["point"] == Point(1)
    assert Point(1) < Point(2)
    assert dataclasses.replace(arrived["point"], x=3).tags == ["a"]
    assert [field.name for field in dataclasses.fields(Point)] == ["x", "tags"]
    assert str(inspect.signature(Point)) == "(x: int, tags: list = <factory>) -> None"
    assert arrived["fixed"] == Fixed()
    with pytest.raises(dataclasses.FrozenInstanceError):
        arrived["fixed"].y = 1


def test_enums_keep_their_members_single() -> None:
    arrived = moved("""
        import enum
        class Colour(enum.Enum):
            RED = 1
            GREEN = 2
            CRIMSON = 1
            @property
            def title(self): return self.name.title()
            def next(self): return Colour(self.value % 2 + 1)
        class Access(enum.Flag):
            READ = enum.auto()
            WRITE = enum.auto()
        class Size(int, enum.Enum):
            SMALL = 1
        class Planet(enum.Enum):
            EARTH = (5.97, 6.37)
            def __init__(self, mass, radius): self.mass = mass
        class Custom(enum.Enum):
            def __new__(cls, value, label):
                member = object.__new__(cls)
                member._value_, member.label = value, label
                return member
            ONE = (1, "one")
        red, both, small, earth, one = Colour.RED, Access.READ | Access.WRITE, Size.SMALL, Planet.EARTH, Custom.ONE
        by_colour = {Colour.GREEN: "go"}
    """)
    Colour = arrived["Colour"]
    assert arrived["red"] is Colour.RED is Colour(1) is Colour.CRIMSON
    assert list(Colour) == [Colour.RED, Colour.GREEN]
    assert (Colour.RED.title, Colour.RED.next()) == ("Red", Colour.GREEN)
    assert arrived["by_colour"][Colour.GREEN] == "go"
    assert arrived["both"] == arrived["Access"].READ | arrived["Access"].WRITE
    assert arrived["small"] is arrived["Size"].SMALL
    assert arrived["small"] + 1 == 2
    assert arrived["earth"].mass == 5.97
    assert arrived["one"] is arrived["Custom"](1)
    assert arrived["one"].label == "one"
    assert isinstance(Colour, enum.EnumMeta)


def test_abstract_classes_protocols_and_generics() -> None:
    arrived = moved("""
        import abc, typing
        T = typing.TypeVar("T", bound=int)
        class Shape(abc.ABC):
            @abc.abstractmethod
            def area(self): ...
        class Square(Shape):
            def area(self): return 4
        Shape.register(int)
        class Stack(typing.Generic[T]):
            def __init__(self): self.items: list[T] = []
        class Sized(typing.Protocol):
            def __len__(self) -> int: ...
        class Row(typing.TypedDict):
            x: int
        UserId = typing.NewType("UserId", int)
        square, stack, maybe = Square(), Stack[int](), typing.Optional[Square]
    """)
    with pytest.raises(TypeError, match="abstract"):
        arrived["Shape"]()
    assert isinstance(arrived["square"], arrived["Shape"])
    assert isinstance(3, arrived["Shape"])
    assert arrived["Stack"].__parameters__ == (arrived["T"],)
    assert arrived["Stack"][int].__origin__ is arrived["Stack"]
    assert arrived["T"].__bound__ is int
    assert arrived["maybe"].__args__[0] is arrived["Square"]
    assert arrived["Row"](x=1) == {"x": 1}
    assert arrived["UserId"](3) == 3


def test_making_a_class_again_runs_nothing_again() -> None:
    arrived = moved("""
        class Plugin:
            made = []
            def __init_subclass__(cls, *, tag, **rest):
                super().__init_subclass__(**rest)
                Plugin.made.append(tag)
        class First(Plugin, tag="first"): pass
        class Meta(type):
            made = []
            def __new__(meta, name, bases, contents):
                meta.made.append(name)
                return super().__new__(meta, name, bases, contents)
            def __call__(cls, *args):
                instance = super().__call__(*args)
                instance.stamped = True
                return instance
        class WithMeta(metaclass=Meta): pass
        thing = WithMeta()
    """)
    assert arrived["Plugin"].made == ["first"]
    type("Second", (arrived["Plugin"],), {}, tag="second")
    assert arrived["Plugin"].made == ["first", "second"], "the hook is back in place"
    assert arrived["Meta"].made == ["WithMeta"]
    assert type(arrived["WithMeta"]) is arrived["Meta"]
    assert arrived["thing"].stamped
    assert arrived["WithMeta"]().stamped


def test_slots_with_private_names() -> None:
    arrived = moved("""
        class Slotted:
            __slots__ = ("a", "__b")
            def __init__(self): self.a, self.__b = 1, 2
            def both(self): return self.a, self.__b
        slotted = Slotted()
    """)
    assert arrived["slotted"].both() == (1, 2)
    assert not hasattr(arrived["slotted"], "__dict__")


def test_an_object_of_a_class_that_was_defined_again_keeps_its_own() -> None:
    arrived = moved("""
        class Thing:
            def age(self): return "old"
        old = Thing()
        class Thing:
            def age(self): return "new"
        new = Thing()
    """)
    assert (arrived["old"].age(), arrived["new"].age()) == ("old", "new")
    assert type(arrived["new"]) is arrived["Thing"]
    assert type(arrived["old"]) is not arrived["Thing"]


def test_exceptions_whose_init_takes_other_arguments() -> None:
    arrived = moved("""
        class Refused(Exception):
            def __init__(self, who, why):
                super().__init__(f"{who}: {why}")
                self.who = who
        try:
            try:
                1 / 0
            except ZeroDivisionError as error:
                raise Refused("gpu", "busy") from error
        except Refused as error:
            refused = error
    """)
    refused = arrived["refused"]
    assert (type(refused), refused.who, str(refused)) == (arrived["Refused"], "gpu", "gpu: busy")
    assert isinstance(refused.__cause__, ZeroDivisionError)
    assert refused.__traceback__ is None


def test_objects_with_their_own_way_of_being_rebuilt_may_use_the_notebook() -> None:
    arrived = moved("""
        import math
        def scale(): return 2
        class Cached:
            def __init__(self, x): self.x = x
            def __getstate__(self): return {"x": self.x}
            def __setstate__(self, state):
                self.x = state["x"]
                self.root = math.sqrt(self.x) * scale()
        first = Cached(16)
    """)
    assert arrived["first"].root == 8


def test_classes_that_answer_for_attributes_that_they_do_not_have() -> None:
    arrived = moved("""
        class Proxy:
            def __init__(self, target): self.target = target
            def __getattr__(self, name): return getattr(self.target, name)
        class Slotted:
            __slots__ = ("target",)
            def __getattr__(self, name): return getattr(self.target, name)
        class Settings(dict):
            __getattr__ = dict.__getitem__
        proxy, slotted, settings = Proxy([1, 2]), Slotted(), Settings(a=1)
        slotted.target = "text"
        settings.extra = 5
    """)
    assert arrived["proxy"].count(2) == 1
    assert arrived["slotted"].upper() == "TEXT"
    assert (arrived["settings"].a, arrived["settings"]["a"], arrived["settings"].extra) == (1, 1, 5)


def test_structures_of_ctypes() -> None:
    arrived = moved("""
        import ctypes
        class Point(ctypes.Structure):
            _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double)]
            def total(self): return self.x + self.y
        point, three = Point(1, 2.5), (ctypes.c_int * 3)(1, 2, 3)
        points = (Point * 2)(Point(4, 5))
    """)
    assert arrived["point"].total() == 3.5
    assert list(arrived["three"]) == [1, 2, 3]
    assert isinstance(arrived["points"][0], arrived["Point"])
    assert arrived["points"][0].x == 4


def test_classes_whose_new_wants_arguments() -> None:
    arrived = moved("""
        class Single:
            only = None
            def __new__(cls, name):
                if cls.only is None:
                    cls.only = super().__new__(cls)
                return cls.only
            def __init__(self, name): self.name = name
        class Unit(str):
            def __new__(cls, text, factor):
                unit = super().__new__(cls, text)
                unit.factor = factor
                return unit
        class Pair(tuple):
            def __new__(cls, *items): return super().__new__(cls, items)
        one, two, hour, pair = Single("a"), Single("b"), Unit("h", 3600), Pair(1, 2)
    """)
    assert arrived["one"] is arrived["two"] is arrived["Single"].only is arrived["Single"]("c")
    assert (arrived["hour"], arrived["hour"].factor, arrived["pair"]) == ("h", 3600, (1, 2))
    assert type(arrived["pair"]) is arrived["Pair"]


def test_two_journeys_are_like_one() -> None:
    there = moved("""
        class Node:
            def __init__(self, next): self.next = next
            def length(self): return 1 + (self.next.length() if self.next else 0)
        chain = Node(Node(None))
    """)
    back = carry(there.notebook)
    assert back["chain"].length() == 2
    assert type(back["chain"].next) is back["Node"]


def test_a_long_chain_of_objects() -> None:
    arrived = moved("""
        class Node:
            def __init__(self, next): self.next = next
        chain = None
        for _ in range(20_000):
            chain = Node(chain)
    """)
    length, node = 0, arrived["chain"]
    while node is not None:
        length, node = length + 1, node.next
    assert length == 20_000


def test_a_class_from_a_library_is_the_library_s() -> None:
    notebook = Notebook().cell(
        "import collections, pathlib\nOrdered = collections.OrderedDict\nhome = pathlib.Path('/')"
    )
    arrived = carry(notebook)
    assert arrived["Ordered"] is notebook["Ordered"]
    assert type(arrived["home"]) is type(notebook["home"])
