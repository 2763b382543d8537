"""C as clang reads it: what its Python bindings leave out, and questions about types."""

import ctypes

from clang import cindex
from clang.cindex import CursorKind as K
from clang.cindex import TypeKind as T

ASSIGN, ADD, SUBTRACT, COMMA, ADD_ASSIGN = "=", "+", "-", ",", "+="
ADDRESS_OF, DEREFERENCE, INCREMENT = "&", "*", "++"

lib = cindex.conf.lib
for _name in ("clang_getCursorBinaryOperatorKind", "clang_getCursorUnaryOperatorKind"):
    getattr(lib, _name).argtypes = [cindex.Cursor]
    getattr(lib, _name).restype = ctypes.c_int
lib.clang_Cursor_Evaluate.argtypes = [cindex.Cursor]
lib.clang_Cursor_Evaluate.restype = ctypes.c_void_p
lib.clang_EvalResult_getKind.argtypes = [ctypes.c_void_p]
lib.clang_EvalResult_getAsLongLong.argtypes = [ctypes.c_void_p]
lib.clang_EvalResult_getAsLongLong.restype = ctypes.c_longlong
lib.clang_EvalResult_dispose.argtypes = [ctypes.c_void_p]
_BINARY = {6: ADD, 7: SUBTRACT, 22: ASSIGN, 26: ADD_ASSIGN, 33: COMMA}  # enum CXBinaryOperatorKind
_UNARY = {1: INCREMENT, 3: INCREMENT, 5: ADDRESS_OF, 6: DEREFERENCE}  # enum CXUnaryOperatorKind

CASTS = {K.CSTYLE_CAST_EXPR}
THROUGH = {K.UNEXPOSED_EXPR, K.PAREN_EXPR}
EMPTY = frozenset()


def binary_operator(cursor):
    return _BINARY.get(lib.clang_getCursorBinaryOperatorKind(cursor))


def unary_operator(cursor):
    return _UNARY.get(lib.clang_getCursorUnaryOperatorKind(cursor))


def constant(cursor):
    """The value of an integer constant expression, else None."""
    result = lib.clang_Cursor_Evaluate(cursor)
    if not result:
        return None
    is_int = lib.clang_EvalResult_getKind(result) == 1
    value = lib.clang_EvalResult_getAsLongLong(result) if is_int else None
    lib.clang_EvalResult_dispose(result)
    return value


def children(cursor):
    return [c for c in cursor.get_children() if c.kind not in (K.TYPE_REF, K.ANNOTATE_ATTR)]


def expressions(cursor):
    return [c for c in cursor.get_children() if c.kind.is_expression()]


def strip(cursor, casts=True):
    """The expression inside parentheses, conversions and, if asked, casts."""
    while cursor.kind in THROUGH or (casts and cursor.kind in CASTS):
        inner = expressions(cursor)
        if len(inner) != 1:
            break
        cursor = inner[0]
    return cursor


def descendants(cursor):
    yield cursor
    for child in cursor.get_children():
        yield from descendants(child)


def is_span(type_):
    canonical = type_.get_canonical()
    return canonical.kind == T.RECORD and canonical.get_declaration().spelling == "span"


_records = {}  # of one file, by spelling; that of an anonymous record names its line


def forget_records():
    """Before another file, whose private structs may have the same names."""
    _records.clear()


def record_facts(type_):
    """(holds a span, holds a pointer), of a record type."""
    if is_span(type_):
        return True, True
    if type_.spelling not in _records:
        spans = pointers = False
        for field in type_.get_fields():
            kind = field.type.get_canonical()
            while kind.kind in (T.CONSTANTARRAY, T.INCOMPLETEARRAY):
                kind = kind.element_type.get_canonical()
            if kind.kind == T.POINTER:
                pointers = True
            elif kind.kind == T.RECORD:
                inner = record_facts(kind)
                spans |= inner[0]
                pointers |= inner[1]
        _records[type_.spelling] = spans, pointers
    return _records[type_.spelling]


def is_array(type_):
    return type_.get_canonical().kind in (T.CONSTANTARRAY, T.INCOMPLETEARRAY, T.VARIABLEARRAY)


def is_pointer(type_):
    return type_.get_canonical().kind == T.POINTER


def has_span(type_):
    canonical = type_.get_canonical()
    return canonical.kind == T.RECORD and record_facts(canonical)[0]


def carries(type_):
    canonical = type_.get_canonical()
    if canonical.kind in (T.POINTER, T.CONSTANTARRAY, T.INCOMPLETEARRAY, T.VARIABLEARRAY):
        return True
    return canonical.kind == T.RECORD and any(record_facts(canonical))


def pointee(type_):
    return type_.get_canonical().get_pointee().get_canonical()


def is_bytes(type_):
    return type_.get_canonical().kind in (T.VOID, T.CHAR_S, T.UCHAR, T.SCHAR, T.CHAR_U)


def is_bytes_pointer(type_):
    return is_pointer(type_) and is_bytes(pointee(type_))
