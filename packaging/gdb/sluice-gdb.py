"""sluice-gdb: the coroutines of Sluice's runtime in gdb, in a live process or a core file.

    info coroutines         each one: number, state, what it waits for, P, name, where it stands
    coroutine 12 bt         its backtrace
    coroutine all bt        everybody's

Installed beside gdb's own scripts it loads by itself with the executable; else: source sluice-gdb.py.
For programs that use libsluice-rt.a alone, too. Needs the debug data of the runtime (-g), and nothing of
the process: a coroutine that does not run is read from memory, by its saved stack pointer and the frame
pointers from there; one that runs is its thread's matter, which gdb unwinds.

A core must be the kernel's, of a crash or of kill -ABRT. gdb's own gcore gives a mapping up at the first
page that it cannot read, and each stack has such a page below it.

Two signals of the runtime are part of its normal life, so gdb is told to pass them on in silence.
"""

import gdb

SLAB_STACKS = 64  # as in src/rt/stack.c, all three
STACK_COLOURS = 16
STACK_COLOUR_BYTES = 128
FRAMES_MAX = 200

# Where rt_ctx_switch leaves the frame pointer and the return address (src/rt/ctx.h).
SAVED = {"x86-64": (40, 48), "aarch64": (0, 8)}


def static(file, name):
    return gdb.parse_and_eval(f"'{file}'::{name}")


def memory_word(address):
    data = gdb.selected_inferior().read_memory(address, 8).tobytes()
    return int.from_bytes(data, "little")


def pointers(first, link):
    """The nodes of a list whose links may be atomic."""
    at = first
    while int(at) != 0:
        yield at.dereference()
        at = plain(at.dereference()[link])


def plain(value):
    """Without _Atomic, which hides what a pointer points at from some versions of gdb."""
    return value.cast(value.type.unqualified())


def all_gs():
    g_type = gdb.lookup_type("struct g")
    stack_size, page_size = int(static("stack.c", "stack_size")), int(static("stack.c", "page_size"))
    for slab in pointers(plain(static("stack.c", "slabs")), "next"):
        cold, base = int(slab["cold"]), int(slab["base"])
        for index in range(SLAB_STACKS):
            if cold >> index & 1:
                continue
            usable = stack_size - page_size - index % STACK_COLOURS * STACK_COLOUR_BYTES
            offset = (usable - g_type.sizeof) & ~63
            at = base + index * stack_size + page_size + offset
            yield gdb.Value(at).cast(g_type.pointer()).dereference()
    for big in pointers(plain(static("stack_big.c", "all_bigs")), "all_next"):
        yield big["g"]


def labels_at(type_name, address):
    """{key: value} of what has a count and items there; of NULL none."""
    if not int(address):
        return {}
    labels = gdb.Value(int(address)).cast(gdb.lookup_type(type_name).pointer()).dereference()
    items = [labels["items"][index] for index in range(int(labels["count"]))]
    return {string(item["key"]): string(item["value"]) for item in items}


def describe_of(describer):
    type_of = gdb.lookup_type("struct labels_describer").pointer()
    return int(gdb.Value(describer).cast(type_of).dereference()["describe"])


class Coroutine:
    def __init__(self, g, m):
        self.g, self.m = g, m
        self.id = int(g["id"])
        self.name = string(g["name"])
        self.reason = string(g["reason"])
        home = plain(g["p"])
        self.p = str(int(home["index"])) if int(home) else "-"
        self.is_foreign = m is not None and bool(m["in_foreign"])
        self.is_running = m is not None and not self.is_foreign

    def state(self):
        states = {field.enumval: field.name for field in gdb.lookup_type("enum g_state").fields()}
        state = states.get(int(self.g["state"]), "?")
        if self.is_running:
            return "running"
        if self.is_foreign or self.reason == "blocking call":
            return self.reason
        if state in ("G_PARKED", "G_PARKED_ANY", "G_SCANNING"):
            return self.reason or "parked"
        return "runnable"

    def labels(self):
        """' key=value' for each."""
        slot = int(static("labels.c", "labels_key")["slot"])
        found = labels_at("struct labels", plain(self.g["locals"][slot - 1])) if slot else {}
        found.update(self.described())
        return "".join(f" {key}={value}" for key, value in found.items())

    def described(self):
        """What the proxy's describer, src/proxy/doing.c, would say: functions cannot be called in a core."""
        describer = int(plain(self.g["describer"]))
        if not describer or "doing.c" not in str(gdb.find_pc_line(describe_of(describer)).symtab):
            return {}
        doing_type = gdb.lookup_type("struct doing")
        start = describer - doing_type["describer"].bitpos // 8
        doing = gdb.Value(start).cast(doing_type.pointer()).dereference()
        found = {}
        for field in ("listener", "route", "filter"):
            found.update(labels_at("struct doing_labels", plain(doing[field])))
        return found

    def frames(self):
        """[(pc to look up, pc)], innermost first."""
        if self.is_running:
            frames = self.frames_of_thread()
            if frames:
                return frames
        low, size = int(self.g["stack"]), int(self.g["stack_size"])
        return frames_of_stack(int(self.g["sp"]), low, low + size)

    def frames_of_thread(self):
        tid = int(self.m["tid"])
        before = gdb.selected_thread()
        for thread in gdb.selected_inferior().threads():
            if tid not in thread.ptid:
                continue
            thread.switch()
            frames, frame = [], gdb.newest_frame()
            while frame and frame.name() != "rt_ctx_entry" and len(frames) < FRAMES_MAX:
                if frame.type() != gdb.INLINE_FRAME:
                    frames.append((frame.pc() - (1 if frames else 0), frame.pc()))
                frame = frame.older()
            if before:
                before.switch()
            return frames
        return []


def string(pointer):
    pointer = plain(pointer)
    return pointer.string(errors="replace") if int(pointer) else ""


def frames_of_stack(sp, low, high):
    at_fp, at_pc = SAVED[architecture()]
    if not low <= sp < high - at_pc:
        return []
    fp, pc = memory_word(sp + at_fp), memory_word(sp + at_pc)
    frames = []
    while function_at(pc - 1)[0] != "rt_ctx_entry" and pc and len(frames) < FRAMES_MAX:
        frames.append((pc - 1, pc))
        if not (low <= fp < high - 15 and fp % 8 == 0):
            break
        low = fp + 16
        fp, pc = memory_word(fp), memory_word(fp + 8) & ((1 << 48) - 1)
    return frames


def architecture():
    name = gdb.selected_inferior().architecture().name()
    return "aarch64" if name.startswith("aarch64") else "x86-64"


def function_at(pc):
    """(function, those that were inlined into it here)."""
    try:
        block = gdb.block_for_pc(pc)
    except RuntimeError:
        block = None
    inlined = []
    while block and not block.is_global:
        if block.function:
            inlined.append(block.function.print_name)
            if not is_inlined(block):
                return inlined[-1], inlined[:-1]
        block = block.superblock
    text = gdb.execute(f"info symbol {pc:#x}", to_string=True)
    return (text.split()[0] if " in section " in text else "??"), inlined


def is_inlined(block):
    """A function's own block lies directly in its file's."""
    return not (block.superblock and (block.superblock.is_static or block.superblock.is_global))


def frame_text(look_up, pc):
    function, inlined = function_at(look_up)
    names = "".join(f"{name} inlined in " for name in inlined) + function
    line = gdb.find_pc_line(look_up)
    place = f" at {line.symtab.filename}:{line.line}" if line.symtab else ""
    return f"{pc:#018x} in {names} (){place}"


def coroutines():
    current = {}
    for m in pointers(static("m.c", "all_ms"), "all_next"):
        if int(m["current"]):
            current[int(m["current"])] = m
    found = [Coroutine(g, current.get(int(g.address))) for g in all_gs() if int(g["id"])]
    return sorted(found, key=lambda one: one.id)


class InfoCoroutines(gdb.Command):
    """List all coroutines of Sluice's runtime: number, P, state, name and where each stands."""

    def __init__(self):
        super().__init__("info coroutines", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        found = coroutines()
        for one in found:
            frames = one.frames()
            where = frame_text(*frames[0]) if frames else "not started"
            print(f'{one.id:6} P {one.p:3} [{one.state()}] "{one.name}" {where}{one.labels()}')
        print(f"{len(found)} coroutines")


class CoroutineCommand(gdb.Command):
    """coroutine ID bt: the backtrace of one coroutine. coroutine all bt: of each."""

    def __init__(self):
        super().__init__("coroutine", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        words = gdb.string_to_argv(argument)
        if len(words) != 2 or words[1] != "bt" or not (words[0] == "all" or words[0].isdigit()):
            raise gdb.GdbError("usage: coroutine ID bt, or: coroutine all bt")
        found = [one for one in coroutines() if words[0] in ("all", str(one.id))]
        if not found:
            raise gdb.GdbError(f"no coroutine {words[0]}")
        for one in found:
            print(f'coroutine {one.id} [{one.state()}] "{one.name}"{one.labels()}')
            for number, frame in enumerate(one.frames()):
                print(f"#{number:<3}{frame_text(*frame)}")
            print()


InfoCoroutines()
CoroutineCommand()
for signal in ("SIG61", "SIGURG"):  # src/rt/signals.h; preemption in Go libraries
    gdb.execute(f"handle {signal} nostop noprint pass", to_string=True)
