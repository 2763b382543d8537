"""The making of spans: lengths that belong to other bytes, reach too far or grow, and const cast off.

These look at one expression each, and at what else the same function says about a span's length."""

import functools

from c_ast import (
    ADD,
    ADD_ASSIGN,
    ADDRESS_OF,
    ASSIGN,
    INCREMENT,
    SUBTRACT,
    K,
    T,
    binary_operator,
    constant,
    descendants,
    expressions,
    is_bytes_pointer,
    is_pointer,
    is_span,
    pointee,
    strip,
    unary_operator,
)


class SpanChecks:
    """A part of borrow_roots.Function, which has the cursor, the parameters and the report."""

    def check_span(self, cursor, memory, arguments=None):
        """A span built from a pointer and a length: do they belong together?"""
        if cursor.kind == K.INIT_LIST_EXPR:
            arguments = expressions(cursor)
            if not is_span(cursor.type) or len(arguments) != 2:
                return
            arguments = [
                expressions(a)[-1] if any(c.kind == K.MEMBER_REF for c in a.get_children()) else a for a in arguments
            ]
        elif cursor.spelling != "span_make" or len(arguments) != 2:
            return
        pointer, length = arguments
        size, what, offset = self.storage(pointer)
        number = constant(length)
        if size is not None and number is not None:
            if offset + number > size:
                self.report(
                    cursor,
                    "overlong",
                    f"{number} bytes from offset {offset} of {what}, which has {size}",
                )
            return
        owner = self.span_owner(pointer)
        beyond = self.beyond_source(owner, pointer, length)
        if beyond:
            self.report(cursor, "overlong", f"ends {beyond} bytes behind {owner}, of which it is made")
            return
        lengths = {
            self.text(expressions(c)[0])
            for c in descendants(length)
            if c.kind == K.MEMBER_REF_EXPR
            and c.spelling == "len"
            and expressions(c)
            and self.is_span_base(expressions(c)[0])
        }
        if owner is not None and (self.mentions_length(owner) or owner in self.text(length)):
            return
        if owner is not None and lengths:
            self.report(cursor, "length", f"the bytes of {owner}, but the length of {min(lengths)}")
        elif owner is not None and number:
            self.report(cursor, "length", f"{number} bytes of {owner}, whose length nothing here looks at")
        elif owner is None and number and size is None and strip(pointer).kind == K.DECL_REF_EXPR:
            if self.local_of(strip(pointer)) in {p.hash for p in self.parameters}:
                self.report(
                    cursor,
                    "length",
                    f"{number} bytes of {self.text(strip(pointer))}, whose length is not known here",
                )

    def beyond_source(self, owner, pointer, length):
        """How far {S.ptr + a, S.len + b} reaches beyond S, as far as a and b are numbers; 0: not at all."""
        start, length = self.distance(pointer), self.distance(length)
        if owner is None or start is None or length is None:
            return 0
        for end, field in ((start[0], "ptr"), (length[0], "len")):
            if end.kind != K.MEMBER_REF_EXPR or end.spelling != field:
                return 0
            if not self.is_span_base(expressions(end)[0]) or self.text(expressions(end)[0]) != owner:
                return 0
        return max(0, start[1] + length[1])

    @staticmethod
    def distance(cursor):
        """(x, n) of x + n or x - n; None when n is no number."""
        cursor = strip(cursor)
        if cursor.kind != K.BINARY_OPERATOR:
            return cursor, 0
        left, right = expressions(cursor)
        number = constant(right)
        operator = binary_operator(cursor)
        if number is None or operator not in (ADD, SUBTRACT):
            return None
        inner = SpanChecks.distance(left)
        return inner and (inner[0], inner[1] + (number if operator == ADD else -number))

    def check_growth(self, cursor):
        """s.len += n, s.len++ and s.len = s.len + n: nobody lent what follows."""
        parts = expressions(cursor)
        target = strip(parts[0]) if parts else None
        if target is None or target.kind != K.MEMBER_REF_EXPR or target.spelling != "len":
            return
        base = expressions(target)
        if not base or not self.is_span_base(base[0]):
            return
        operator = binary_operator(cursor)
        grows = operator == ADD_ASSIGN or unary_operator(cursor) == INCREMENT
        if operator == ASSIGN:
            value = strip(parts[1])
            grows = binary_operator(value) == ADD and any(
                c.kind == K.MEMBER_REF_EXPR and self.text(c) == self.text(target) for c in descendants(value)
            )
        if grows:
            owner = self.text(base[0])
            self.report(cursor, "appended", f"{owner} is made longer than what it borrows")

    def check_realloc(self, cursor, arguments, memory):
        if cursor.spelling not in ("realloc", "reallocarray") or not arguments:
            return
        borrowed = self.span_owner(arguments[0])
        if borrowed is None:
            roots = sorted(r for r in self.value(arguments[0], memory) if r[0] == "span")
            borrowed = self.parameters[roots[0][1]].spelling if roots else None
        if borrowed is not None:
            self.report(cursor, "appended", f"the bytes of {borrowed} are moved, and belong to somebody else")

    @staticmethod
    def is_span_base(base):
        return is_span(base.type) or (is_pointer(base.type) and is_span(pointee(base.type)))

    @staticmethod
    def text(cursor):
        return "".join(t.spelling for t in cursor.get_tokens())

    def span_owner(self, pointer):
        """The text of S in S.ptr + n, else None."""
        cursor = strip(pointer)
        while cursor.kind == K.BINARY_OPERATOR:
            cursor = strip(expressions(cursor)[0])
        if cursor.kind == K.MEMBER_REF_EXPR and cursor.spelling == "ptr":
            base = expressions(cursor)[0]
            if self.is_span_base(base):
                return self.text(base)
        return None

    @functools.cached_property
    def measured(self):
        """The spans whose length this function looks at, itself or by passing them on."""
        found = set()
        for cursor in descendants(self.cursor):
            if cursor.kind == K.MEMBER_REF_EXPR and cursor.spelling == "len":
                found.update(self.text(base) for base in expressions(cursor))
            elif cursor.kind == K.CALL_EXPR:
                found.update(self.text(argument) for argument in cursor.get_arguments())
        return found

    def mentions_length(self, owner):
        return owner in self.measured

    def storage(self, pointer):
        """(size, name, offset) of the array or string literal that a pointer starts in, if known."""
        cursor, offset = strip(pointer), 0
        if cursor.kind == K.BINARY_OPERATOR:
            left, right = expressions(cursor)
            step = constant(right)
            if step is None or is_pointer(right.type):
                return None, None, 0
            cursor, offset = strip(left), -step if binary_operator(cursor) == SUBTRACT else step
        elif cursor.kind == K.UNARY_OPERATOR and unary_operator(cursor) == ADDRESS_OF:
            cursor = strip(expressions(cursor)[0])
            if cursor.kind == K.ARRAY_SUBSCRIPT_EXPR:
                base, index = expressions(cursor)
                step = constant(index)
                cursor, offset = strip(base), step if step is not None else 0
            elif is_pointer(cursor.type):
                return None, None, 0
        if cursor.kind == K.STRING_LITERAL:
            return cursor.type.get_size() - 1, "a literal", offset
        if cursor.type.get_canonical().kind == T.CONSTANTARRAY:
            size = cursor.type.get_size()
            return (size, self.text(cursor), offset) if size > 1 else (None, None, 0)
        return None, None, 0

    def check_cast(self, cursor, inner, memory):
        """(char *)span.ptr: somebody means to write into borrowed bytes."""
        if not is_pointer(cursor.type) or pointee(cursor.type).is_const_qualified():
            return
        source = strip(inner)
        if not is_pointer(source.type) or not pointee(source.type).is_const_qualified():
            return
        borrowed = self.span_owner(source)
        if borrowed is None:
            roots = [r for r in self.value(source, memory) if r[0] == "span"]
            if not roots or not is_bytes_pointer(source.type):
                return
            borrowed = self.parameters[roots[0][1]].spelling
        if not self.reads_only(cursor):
            self.report(cursor, "written", f"const is cast off the bytes of {borrowed}")

    def reads_only(self, cast):
        """free() takes what its caller owns, and struct iovec has no const form."""
        return cast.hash in self.harmless_casts

    @functools.cached_property
    def harmless_casts(self):
        found = set()
        for cursor in descendants(self.cursor):
            harmless = []
            if cursor.kind == K.CALL_EXPR and cursor.spelling in ("free", "realloc", "reallocarray"):
                harmless = list(cursor.get_arguments())  # of realloc there is another finding
            elif cursor.kind == K.INIT_LIST_EXPR and cursor.type.spelling.endswith("iovec"):
                harmless = list(cursor.get_children())
            elif cursor.kind == K.BINARY_OPERATOR and binary_operator(cursor) == ASSIGN:
                left, right = expressions(cursor)
                if left.spelling == "iov_base":
                    harmless = [right]
            for part in harmless:
                found.update(c.hash for c in descendants(part) if c.kind == K.CSTYLE_CAST_EXPR)
        return found
