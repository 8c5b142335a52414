"""Statements that are compiled once, for the paths that every booking and every beat of a lease takes.

    _HOLD = Prepared(select(holds).where(holds.c.id == bindparam("hold_id")))
    row = _HOLD.first(unit, hold_id=hold_id)

SQLAlchemy looks at a statement, its parameters and its result anew for each execution, which costs ten times what
SQLite takes to run it. Here the text and the conversions of its columns are kept, and on SQLite both go to the driver
itself. A server across a network has other costs: there the same statement is executed the ordinary way.
"""

from __future__ import annotations

import sqlite3
from collections import namedtuple
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from sqlalchemy import BindParameter, Connection, Dialect, TextClause, UpdateBase
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import CompoundSelect, Select, visitors
from sqlalchemy.sql.compiler import SQLCompiler

Statement = Select[Any] | CompoundSelect[Any] | UpdateBase | TextClause
_Convert = Callable[[Any], Any]


class Transaction(Protocol):
    """What a statement needs of a ``Unit``: the connection, and SQLite's own beneath it, None elsewhere."""

    connection: Connection
    driver: sqlite3.Connection | None


class Prepared:
    """One statement with ``bindparam``s, made at import; rows come as tuples whose columns are also attributes.

    Parameters
    ----------
    statement:
        An insert, or an update without ``values``, sets the columns that it is run with. A list for ``IN`` is written
        into the statement: its length can't differ from one execution to the next.
    """

    def __init__(self, statement: Statement) -> None:
        self.statement = statement
        self._direct: dict[tuple[str, ...], _Direct] = {}

    def all(self, unit: Transaction, **values: Any) -> Sequence[Any]:
        if unit.driver is None:
            return unit.connection.execute(self.statement, values).all()
        direct = self._for(unit, values)
        return [direct.row(found) for found in direct.run(unit.driver, values)]

    def first(self, unit: Transaction, **values: Any) -> Any | None:
        """The first row, or None."""
        if unit.driver is None:
            return unit.connection.execute(self.statement, values).first()
        direct = self._for(unit, values)
        found = direct.run(unit.driver, values).fetchone()
        return None if found is None else direct.row(found)

    def run(self, unit: Transaction, **values: Any) -> int:
        """Execute what returns no rows; say how many an update or a delete touched."""
        if unit.driver is None:
            return unit.connection.execute(self.statement, values).rowcount
        return self._for(unit, values).run(unit.driver, values).rowcount

    def run_many(self, unit: Transaction, many: Sequence[dict[str, Any]]) -> None:
        """Execute it once for each of ``many``, which all name the same parameters."""
        if not many:
            return
        if unit.driver is None:
            unit.connection.execute(self.statement, many)
            return
        for values in many:
            self._for(unit, values).run(unit.driver, values)

    def _for(self, unit: Transaction, values: dict[str, Any]) -> _Direct:
        names = tuple(values)  # an insert has the columns that it is given
        direct = self._direct.get(names)
        if direct is None:
            direct = self._direct[names] = _Direct(self.statement, names, unit.connection.dialect)
        return direct


class _Direct:
    """A statement as SQLite's driver takes it: the SQL, the way of values into it and the way of its rows out."""

    def __init__(self, statement: Statement, names: tuple[str, ...], dialect: Dialect) -> None:
        wanted = {each.key for each in visitors.iterate(statement) if isinstance(each, BindParameter) and each.required}
        assert wanted <= set(names), f"the statement has parameters that were not given: {wanted - set(names)}"
        if isinstance(statement, Select):  # writes out its lists for IN, for which it wants some value for the others
            given = statement.params(dict.fromkeys(names))
            compiled = given.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
        else:
            compiled = statement.compile(dialect=dialect, column_keys=list(names))
        assert isinstance(compiled, SQLCompiler)
        assert compiled.positiontup is not None, "SQLite's driver takes ? marks"
        unknown = set(names) - set(compiled.positiontup)
        assert not unknown, f"the statement has no parameters of these names: {unknown}"
        self._sql = compiled.string
        self._dialect = dialect
        # The parameters in their order, what the statement itself says of them, and their way into the database.
        self._names = compiled.positiontup
        self._own = {name: compiled.params[name] for name in self._names if name not in names}
        into = [_impl(compiled.binds.get(name), dialect, "bind_processor") for name in self._names]
        self._into = [(place, convert) for place, convert in enumerate(into) if convert is not None]
        columns = [] if isinstance(statement, UpdateBase | TextClause) else list(statement.selected_columns)
        out = [_impl(column, dialect, "result_processor") for column in columns]
        self._out = [(place, convert) for place, convert in enumerate(out) if convert is not None]
        # A tuple's own ``count`` and ``index`` give way to columns of that name.
        make_class: Any = namedtuple  # the names are known only now
        self._make = make_class("Row", [column.name for column in columns])._make

    def run(self, driver: sqlite3.Connection, values: dict[str, Any]) -> sqlite3.Cursor:
        if self._own:
            values = self._own | values
        parameters = [values[name] for name in self._names]
        for place, convert in self._into:
            parameters[place] = convert(parameters[place])
        try:
            return driver.execute(self._sql, parameters)
        except sqlite3.Error as error:
            raise DBAPIError.instance(self._sql, parameters, error, sqlite3.Error, dialect=self._dialect) from error

    def row(self, found: Iterable[Any]) -> Any:
        if self._out:
            found = list(found)
            for place, convert in self._out:
                found[place] = convert(found[place])
        return self._make(found)


def _impl(element: Any, dialect: Dialect, which: str) -> _Convert | None:
    """The conversion that the type of a parameter or a column asks for, if any."""
    if element is None:
        return None
    kind = element.type.dialect_impl(dialect)
    convert: _Convert | None = (
        kind.bind_processor(dialect) if which == "bind_processor" else kind.result_processor(dialect, None)
    )
    return convert
