"""What the pointers and spans of one C function may point into, and where that is wrong.

Each function body is run over sets of *roots*, the things a pointer or span may point into, in the order
of the statements; branches are joined, loop bodies run twice.

    ("span", i)   the bytes that parameter i, a span, borrows
    ("raw", i)    the bytes at parameter i, a char * or void *; only a span made of them counts
    ("obj", i)    anything reached through parameter i, a pointer to something else
    ("local", u)  the storage of local variable u, also a parameter's own

A root that reaches a place which outlives the call is a finding, or, for a parameter, must be declared.
Calls are judged by the callee's marks, so functions are checked one at a time. A static function needs
no marks: its body tells, unless it is also called through a pointer. Memory is one set per variable and
first field: no aliasing beyond that, no globals, no calls through pointers, no spans that a pointer to a
struct leads to. What this does not see it lets pass: a finding should be worth reading.
"""

import collections

from borrow_spans import SpanChecks
from c_ast import (
    ADDRESS_OF,
    ASSIGN,
    COMMA,
    DEREFERENCE,
    EMPTY,
    K,
    T,
    binary_operator,
    carries,
    children,
    descendants,
    expressions,
    has_span,
    is_array,
    is_bytes,
    is_pointer,
    is_span,
    pointee,
    strip,
    unary_operator,
)

RESULT = "result"
ELSEWHERE = "elsewhere"
LATER = {"coroutine", "inbox", "wheel"}  # holders that use an address when the frame may be gone
COPIES = {"memcpy", "memmove"}
POINTS_INTO_FIRST = {"strchr", "strrchr", "memchr", "memrchr", "rawmemchr", "strstr", "strpbrk"}


# ---- what functions promise ----------------------------------------------------------------------


class Contracts:
    """Per function, parameter index -> holders: declared by marks, or seen in a static body."""

    def __init__(self, unit):
        self.declared = {}
        self.seen = collections.defaultdict(lambda: collections.defaultdict(set))
        self.by_pointer = set()  # static functions that others reach: these need marks
        for cursor in unit.cursor.get_children():
            if cursor.kind == K.VAR_DECL and not cursor.location.is_in_system_header:
                for part in descendants(cursor):
                    self.note_pointer(part)
            if cursor.kind != K.FUNCTION_DECL or cursor.location.is_in_system_header:
                continue
            marks = self.declared.setdefault(cursor.spelling, {})
            parameters = list(cursor.get_arguments())
            names = {p.spelling: i for i, p in enumerate(parameters)}
            for i, parameter in enumerate(parameters):
                for attribute in parameter.get_children():
                    text = attribute.spelling
                    if attribute.kind == K.ANNOTATE_ATTR and text.startswith("borrowed_by:"):
                        holder = text.removeprefix("borrowed_by:")
                        if holder in names:
                            holder = ("param", names[holder])
                        marks.setdefault(i, set()).add(holder)

    def note_pointer(self, cursor):
        if cursor.kind == K.DECL_REF_EXPR and cursor.type.get_canonical().kind == T.FUNCTIONPROTO:
            self.by_pointer.add(cursor.spelling)

    def state(self):
        """What a round over all functions may have added to."""
        seen = {name: {i: set(held) for i, held in kept.items()} for name, kept in self.seen.items()}
        return seen, set(self.by_pointer)

    def holders(self, name, i):
        return self.declared.get(name, {}).get(i, set()) | (self.seen[name][i] if name in self.seen else set())

    def parameters(self, name):
        found = set(self.declared.get(name, {}))
        return found | set(self.seen[name]) if name in self.seen else found


# ---- the roots of one function -------------------------------------------------------------------


class Memory:
    """What each local variable, or its first field, may point into."""

    def __init__(self, cells=None):
        self.cells = dict(cells or {})

    def copy(self):
        return Memory(self.cells)

    def read(self, variable, field=None):
        if field is not None:
            found = self.cells.get((variable, field))
            return found if found is not None else self.cells.get((variable, None), EMPTY)
        found = EMPTY
        for (owner, _), roots in self.cells.items():
            if owner == variable:
                found |= roots
        return found

    def write(self, variable, field, roots):
        if field is None:
            for key in [k for k in self.cells if k[0] == variable]:
                del self.cells[key]
        self.cells[variable, field] = roots

    def add(self, variable, field, roots):
        self.cells[variable, field] = self.read(variable, field) | roots

    def join(self, other):
        joined = {}
        for variable, field in self.cells.keys() | other.cells.keys():
            if field is None:
                joined[variable, None] = self.cells.get((variable, None), EMPTY) | other.cells.get(
                    (variable, None), EMPTY
                )
            else:
                joined[variable, field] = self.read(variable, field) | other.read(variable, field)
        return Memory(joined)


def join(one, other):
    if one is None or other is None:
        return one or other
    return one.join(other)


class Function(SpanChecks):
    def __init__(self, cursor, contracts, report):
        self.cursor = cursor
        self.contracts = contracts
        self.report = report
        self.name = cursor.spelling
        self.static = cursor.storage_class.name == "STATIC" and self.name not in contracts.by_pointer
        self.parameters = list(cursor.get_arguments())
        self.names = {}
        self.pointers = set()  # parameters that are written as arrays
        self.labels = {}
        self.loops = []
        self.after_break = []
        self.has_goto = False

    def run(self):
        body = next((c for c in self.cursor.get_children() if c.kind == K.COMPOUND_STMT), None)
        for _ in range(2):  # the second time knows what jumps backwards bring
            memory = Memory()
            for i, parameter in enumerate(self.parameters):
                key = self.declare(parameter)
                if is_array(parameter.type):  # as it is written: it is a pointer
                    self.pointers.add(key)
                memory.write(key, None, self.parameter_roots(i, parameter.type))
            self.statement(body, memory)
            if not self.has_goto:
                break

    @staticmethod
    def parameter_roots(i, type_):
        target = pointee(type_) if is_pointer(type_) else None
        if is_array(type_):
            target = type_.get_canonical().element_type
        if has_span(type_) or (target and is_span(target)):
            return frozenset({("span", i)})
        if target and is_bytes(target):
            return frozenset({("raw", i)})
        return frozenset({("obj", i)}) if carries(type_) else EMPTY

    def declare(self, cursor):
        key = cursor.hash
        self.names[key] = cursor.spelling
        return key

    # -- statements: memory before -> memory after, None where control does not come --

    def statement(self, cursor, memory):
        kind = cursor.kind
        if memory is None and kind not in (
            K.LABEL_STMT,
            K.COMPOUND_STMT,
            K.CASE_STMT,
            K.DEFAULT_STMT,
        ):
            # Code after a jump may still hold a label.
            for child in children(cursor):
                if child.kind.is_statement():
                    memory = join(memory, self.statement(child, None))
            return memory
        if kind.is_expression():
            self.value(cursor, memory)
            return memory
        handler = self.STATEMENTS.get(kind)
        if handler:
            return handler(self, cursor, memory)
        for child in children(cursor):
            memory = self.statement(child, memory)
        return memory

    def compound(self, cursor, memory):
        for child in children(cursor):
            memory = self.statement(child, memory)
        return memory

    def declaration(self, cursor, memory):
        for variable in cursor.get_children():
            if variable.kind != K.VAR_DECL:
                continue
            if variable.storage_class.name in ("STATIC", "EXTERN"):
                for part in descendants(variable):
                    self.contracts.note_pointer(part)
                continue
            key = self.declare(variable)
            values = expressions(variable)
            # An array's bound is an expression too, and comes first.
            if values and not (is_array(variable.type) and values[-1].kind == K.INTEGER_LITERAL):
                self.initialise(key, values[-1], memory)
            else:
                memory.write(key, None, EMPTY)
        return memory

    def initialise(self, key, value, memory):
        stripped = strip(value, casts=False)
        fields = []
        if stripped.kind == K.INIT_LIST_EXPR and not is_span(stripped.type) and not is_array(stripped.type):
            plain = EMPTY
            for child in expressions(stripped):
                parts = list(child.get_children())
                if child.kind == K.UNEXPOSED_EXPR and parts and parts[0].kind == K.MEMBER_REF:
                    fields.append((parts[0].spelling, self.value(parts[-1], memory)))
                else:
                    plain |= self.value(child, memory)
            self.check_span(stripped, memory)
            memory.write(key, None, plain)
            for field, roots in fields:
                memory.write(key, field, roots)
        else:
            memory.write(key, None, self.value(value, memory))

    def branch(self, cursor, memory):
        condition, *arms = children(cursor)
        self.statement(condition, memory)
        ends = [self.statement(arm, memory.copy()) for arm in arms]
        if len(ends) < 2:
            ends.append(memory)
        return join(ends[0], ends[1])

    def loop(self, cursor, memory):
        for _ in range(2):
            self.loops.append(None)
            self.after_break.append(None)
            once = memory.copy()
            for child in children(cursor):
                once = self.statement(child, once)
                if child.kind.is_statement():
                    once = join(once, self.loops[-1])
            self.loops.pop()
            memory = join(join(memory, once), self.after_break.pop())
        return memory

    def switch(self, cursor, memory):
        parts = children(cursor)
        for part in parts[:-1]:
            self.statement(part, memory)
        self.after_break.append(None)
        self.switch_entry, outer = memory.copy(), getattr(self, "switch_entry", None)
        end = self.statement(parts[-1], None)
        self.switch_entry = outer
        return join(join(memory, end), self.after_break.pop())

    def case(self, cursor, memory):
        entry = getattr(self, "switch_entry", None)
        memory = join(memory, entry.copy() if entry else None)
        return self.statement(children(cursor)[-1], memory)

    def break_out(self, cursor, memory):
        if self.after_break:
            self.after_break[-1] = join(self.after_break[-1], memory)

    def go_on(self, cursor, memory):
        if self.loops:
            self.loops[-1] = join(self.loops[-1], memory)

    def jump(self, cursor, memory):
        self.has_goto = True
        label = next(c.spelling for c in cursor.get_children())
        self.labels[label] = join(self.labels.get(label), memory.copy())

    def label(self, cursor, memory):
        memory = join(memory, self.labels.get(cursor.spelling))
        return self.compound(cursor, memory.copy() if memory else None)

    def leave(self, cursor, memory):
        values = expressions(cursor)
        if not values:
            return
        roots = self.value(values[0], memory)
        type_ = self.cursor.result_type
        if not carries(type_):
            return
        for root in sorted(roots):
            what, which = root
            if what == "local":
                self.report(
                    cursor,
                    "returned",
                    f"the result points into '{self.names[which]}', which ends with this call",
                    "bytes of the caller, or a copy",
                )
            elif what == "span" or (what == "raw" and has_span(type_)):
                self.keep(cursor, "returned", which, RESULT)

    STATEMENTS = {
        K.COMPOUND_STMT: compound,
        K.DECL_STMT: declaration,
        K.IF_STMT: branch,
        K.FOR_STMT: loop,
        K.WHILE_STMT: loop,
        K.DO_STMT: loop,
        K.SWITCH_STMT: switch,
        K.CASE_STMT: case,
        K.DEFAULT_STMT: case,
        K.BREAK_STMT: break_out,
        K.CONTINUE_STMT: go_on,
        K.GOTO_STMT: jump,
        K.LABEL_STMT: label,
        K.RETURN_STMT: leave,
    }

    # -- expressions --

    def local_of(self, cursor):
        """The key of the local variable or parameter that a name refers to, else None."""
        referenced = cursor.referenced
        if cursor.kind == K.DECL_REF_EXPR and referenced is not None and referenced.hash in self.names:
            return referenced.hash
        return None

    def place(self, cursor, memory):
        """Roots of where an lvalue lies: what its address points into."""
        cursor = strip(cursor)
        kind = cursor.kind
        if kind == K.DECL_REF_EXPR:
            key = self.local_of(cursor)
            if key in self.pointers:
                return memory.read(key)
            return EMPTY if key is None else frozenset({("local", key)})
        inner = expressions(cursor)
        if kind == K.MEMBER_REF_EXPR and inner:
            if is_pointer(inner[0].type):
                # A void * that turns out to be an object holds what it leads to.
                return frozenset(
                    ("obj", which) if what == "raw" else (what, which) for what, which in self.value(inner[0], memory)
                )
            return self.place(inner[0], memory)
        if kind == K.ARRAY_SUBSCRIPT_EXPR:
            self.value(inner[1], memory)
            return self.value(inner[0], memory)
        if kind == K.UNARY_OPERATOR and unary_operator(cursor) == DEREFERENCE:
            return self.value(inner[0], memory)
        if kind == K.COMPOUND_LITERAL_EXPR:
            # Lives as long as the block around it: a local without a name.
            key = cursor.hash
            self.names[key] = "a compound literal"
            if key not in {k for k, _ in memory.cells}:
                self.initialise(key, inner[-1], memory)
            return frozenset({("local", key)})
        return self.value(cursor, memory)

    def path(self, cursor):
        """(variable, first field) of x, x.f, x.f.ptr; None for what is reached through a pointer."""
        cursor = strip(cursor, casts=False)
        if cursor.kind == K.DECL_REF_EXPR:
            key = self.local_of(cursor)
            return None if key is None else (key, None, True)
        inner = expressions(cursor)
        if cursor.kind == K.MEMBER_REF_EXPR and inner and not is_pointer(inner[0].type):
            base = self.path(inner[0])
            if base is None:
                return None
            variable, field, exact = base
            if is_span(inner[0].type):
                return variable, field, exact
            if field is None:
                return variable, cursor.spelling, exact
            return variable, field, False
        if cursor.kind == K.ARRAY_SUBSCRIPT_EXPR and is_array(strip(inner[0], casts=False).type):
            base = self.path(inner[0])
            return None if base is None else (base[0], base[1], False)
        return None

    def load(self, places, field, memory):
        found = EMPTY
        for root in places:
            found |= memory.read(root[1], field) if root[0] == "local" else frozenset({root})
        return found

    def value(self, cursor, memory):
        """Roots of what an expression's value points into; runs its effects on memory."""
        kind = cursor.kind
        if kind in (K.CXX_UNARY_EXPR, K.INTEGER_LITERAL, K.STRING_LITERAL, K.CHARACTER_LITERAL):
            return EMPTY
        if kind == K.CALL_EXPR:
            return self.call(cursor, memory)
        inner = expressions(cursor)
        if kind == K.DECL_REF_EXPR:
            key = self.local_of(cursor)
            if key is None:
                self.contracts.note_pointer(cursor)
            if key is None or not carries(cursor.type):
                return EMPTY
            if is_array(cursor.type) and key not in self.pointers:
                # An array of pointers or spans stands for what it holds as well.
                return frozenset({("local", key)})
            return memory.read(key)
        if kind in (K.MEMBER_REF_EXPR, K.ARRAY_SUBSCRIPT_EXPR):
            places = self.place(cursor, memory)
            if not carries(cursor.type):
                return EMPTY
            if is_array(cursor.type):
                return places
            path = self.path(cursor)
            if path is not None:
                return memory.read(path[0], path[1])
            # p->f of a local that p points at
            field = None
            if kind == K.MEMBER_REF_EXPR and inner and is_pointer(inner[0].type):
                field = None if is_span(pointee(inner[0].type)) else cursor.spelling
            return self.load(places, field, memory)
        if kind in (K.UNARY_OPERATOR, K.BINARY_OPERATOR, K.COMPOUND_ASSIGNMENT_OPERATOR):
            self.check_growth(cursor)
        if kind == K.UNARY_OPERATOR:
            operator = unary_operator(cursor)
            if operator == ADDRESS_OF:
                return self.place(inner[0], memory)
            if operator == DEREFERENCE:
                places = self.value(inner[0], memory)
                if is_array(cursor.type):
                    return places
                return self.load(places, None, memory) if carries(cursor.type) else EMPTY
            roots = self.value(inner[0], memory)
            return roots if is_pointer(cursor.type) else EMPTY
        if kind == K.BINARY_OPERATOR and len(inner) == 2:
            return self.binary(cursor, inner, memory)
        if kind == K.COMPOUND_ASSIGNMENT_OPERATOR:
            for part in inner:
                roots = self.value(part, memory)
            return self.value(inner[0], memory) if is_pointer(cursor.type) else EMPTY
        if kind == K.CONDITIONAL_OPERATOR and len(inner) == 3:
            self.value(inner[0], memory)
            return self.value(inner[1], memory) | self.value(inner[2], memory)
        if kind == K.COMPOUND_LITERAL_EXPR:
            if is_array(cursor.type):
                return self.place(cursor, memory)
            return self.value(inner[-1], memory)
        if kind == K.INIT_LIST_EXPR:
            self.check_span(cursor, memory)
        if kind == K.CSTYLE_CAST_EXPR:
            self.check_cast(cursor, inner[-1], memory)
        if kind == K.StmtExpr:
            memory = self.statement(children(cursor)[0], memory) or Memory()
            last = children(children(cursor)[0])
            return self.value(last[-1], memory) if last and last[-1].kind.is_expression() else EMPTY
        roots = EMPTY
        for part in inner:
            roots |= self.value(part, memory)
        return roots

    def binary(self, cursor, inner, memory):
        operator = binary_operator(cursor)
        if operator == ASSIGN:
            roots = self.value(inner[1], memory)
            self.assign(cursor, inner[0], roots, memory)
            return roots
        left, right = self.value(inner[0], memory), self.value(inner[1], memory)
        if operator == COMMA:
            return right
        return left | right if is_pointer(cursor.type) else EMPTY

    def assign(self, cursor, target, roots, memory):
        path = self.path(target)
        if path is not None:
            variable, field, exact = path
            if exact:
                memory.write(variable, field, roots)
            else:
                memory.add(variable, field, roots)
            return
        stripped = strip(target)
        places = self.place(target, memory)
        parts = expressions(stripped)
        to_span = has_span(target.type) or (
            stripped.kind == K.MEMBER_REF_EXPR
            and parts
            and (is_span(parts[0].type) or (is_pointer(parts[0].type) and is_span(pointee(parts[0].type))))
        )
        if carries(target.type):
            self.store(cursor, places, roots, memory, to_span)

    def store(self, cursor, places, roots, memory, to_span):
        """roots are written where places point; a finding for each that ends before its place."""
        holders = set()
        for what, which in places:
            if what == "local":
                memory.add(which, None, roots)
            else:
                holders.add(("param", which))
        if not places:
            holders.add(ELSEWHERE)
        for holder in sorted(holders, key=str):
            for root in sorted(roots):
                what, which = root
                if what == "local" and to_span:
                    self.report(
                        cursor,
                        "kept",
                        f"a span of '{self.names[which]}', which ends with this "
                        f"call, is left in {self.holder_name(holder)}",
                        "copy the bytes",
                    )
                elif holder == ("param", which):
                    continue  # a cursor moved on within what it already borrows
                elif what == "span" or (what == "raw" and to_span):
                    self.keep(cursor, "kept", which, holder)

    def holder_name(self, holder):
        if holder == ELSEWHERE:
            return "memory that outlives the call"
        if isinstance(holder, tuple):
            return f"'{self.parameters[holder[1]].spelling}'"
        return f"the {holder}"

    def keep(self, cursor, rule, i, holder):
        """Parameter i's bytes are held beyond the call: allowed where its declaration says so."""
        if self.static:
            self.contracts.seen[self.name][i].add(holder)
            return
        declared = self.contracts.holders(self.name, i)
        named = {h for h in declared if h == RESULT or isinstance(h, tuple)}
        # What is allocated here is handed out in some declared way, or the mark says nothing true.
        if holder in declared or (holder != RESULT and declared - named):
            return
        if holder == ELSEWHERE and declared:
            return
        if rule == "returned":
            wrong = f"the result points into what '{self.parameters[i].spelling}' borrows for the call only"
            self.report(cursor, rule, wrong)
            return
        kept = "used by" if rule == "coroutine" else "kept in"
        wrong = f"'{self.parameters[i].spelling}' is borrowed for the call, and {kept} {self.holder_name(holder)}"
        mark = "holder"
        if isinstance(holder, tuple):
            mark = self.parameters[holder[1]].spelling
        self.report(cursor, rule, wrong, holder=mark)

    # -- calls --

    def call(self, cursor, memory):
        arguments = list(cursor.get_arguments())
        values = [self.value(a, memory) for a in arguments]
        for part in expressions(cursor)[:1]:
            if part.kind != K.UNEXPOSED_EXPR or strip(part).kind != K.DECL_REF_EXPR:
                self.value(part, memory)
        name = cursor.spelling
        self.check_span(cursor, memory, arguments)
        self.check_realloc(cursor, arguments, memory)
        result = EMPTY
        if name in POINTS_INTO_FIRST and values:
            result |= values[0]
        if name in COPIES and len(values) == 3:
            self.copy_of(cursor, arguments[1], values, memory)
        for i in sorted(self.contracts.parameters(name)):
            if i >= len(arguments):
                continue
            roots = values[i]
            if is_pointer(arguments[i].type) and is_span(pointee(arguments[i].type)):
                roots = self.load(roots, None, memory)
            for holder in sorted(self.contracts.holders(name, i), key=str):
                if holder == RESULT:
                    result |= roots
                elif isinstance(holder, tuple):
                    if holder[1] < len(arguments):
                        self.store(cursor, values[holder[1]], roots, memory, True)
                else:
                    self.hand_over(cursor, name, roots, holder)
        return result if carries(cursor.type) else EMPTY

    def copy_of(self, cursor, source, values, memory):
        """memcpy() of a struct is an assignment; of bytes, a copy."""
        source = strip(source)
        kind = source.type.get_canonical().element_type if is_array(source.type) else pointee(source.type)
        if has_span(kind):
            self.store(cursor, values[0], self.load(values[1], None, memory), memory, True)

    def hand_over(self, cursor, name, roots, holder):
        """name() keeps what roots stand for, for as long as holder lives."""
        for what, which in sorted(roots):
            if what == "local":
                rule = "coroutine" if holder in LATER else "kept"
                self.report(
                    cursor,
                    rule,
                    f"{name}() keeps the address of '{self.names[which]}', which ends "
                    f"with this call, for {self.holder_name(holder)}",
                    holder=holder,
                )
            elif what in ("span", "raw"):
                self.keep(cursor, "coroutine" if holder in LATER else "kept", which, holder)
